"""Reasons, estimates, views and errors: why a request waits, for how long, and why it is refused.

Reads the state and changes nothing. All times are estimates from measured durations. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from llmsnap.errors import (
    Draining,
    LlmsnapError,
    LoadAborted,
    ModelDoesNotFit,
    NotLoaded,
    NotReady,
    ProcessError,
    QueueTimeout,
    SleepNotConfigured,
    TooManyInFlight,
    UnknownModel,
)
from llmsnap.models import State
from llmsnap.routing.entries import LEAVING, ModelState, Phase, Swap
from llmsnap.routing.messages import CutReason, Outcome, RefusalReason, Refuse
from llmsnap.routing.policies import AT_ONCE, NEVER, swap_estimate_s
from llmsnap.routing.residency import ALONE, Blocked, Plan, PlannedSwap
from llmsnap.routing.selectors import Standing
from llmsnap.routing.state import SchedulerState
from llmsnap.routing.timing import DurationStats

# --- reasons and estimates ------------------------------------------------------------------------

LEAST_RETRY_S = 1.0


def explain(state: SchedulerState, model: ModelState) -> str:
    """Return what requests for *model* wait for: "A is serving 1 request for 61 min"."""
    if model.pending_stop is not None and model.pending_stop.if_faulty:
        what = f"{model.model_id} is to be checked first, because requests failed"
        return f"{what}; {_serving(state, model)}" if model.leases else what
    if model.pending_stop is not None:
        goal = "asleep" if model.pending_stop.to is State.ASLEEP else "stopped"
        what = f"{model.model_id} is to be {goal} first"
        return f"{what}; {_serving(state, model)}" if model.leases else what
    if model.state in LEAVING:
        return f"{model.model_id} is {_LEAVING_WORDS[model.state]}"
    if model.state is State.READY:
        return _explain_ready(state, model)
    if model.swap is not None:
        return _explain_swap(state, model.swap)
    return _explain_waiting(state, model)


def _explain_ready(state: SchedulerState, model: ModelState) -> str:
    if model.evicted_by is not None and not model.open:
        held = f"{model.model_id} makes room for {model.evicted_by.target.model_id}"
        return f"{held}; {_explain_swap(state, model.evicted_by)}"
    if state.is_full:
        return all_taken(state, model)
    return f"{model.model_id} has {model.limit} slots (concurrencyLimit); {_serving(state, model)}"


def all_taken(state: SchedulerState, model: ModelState) -> str:
    """Return which limit keeps the ready *model* from serving one more request."""
    if state.is_full:
        return f"all {state.limit} slots of all models are taken (globalConcurrencyLimit)"
    return f"all {model.limit} slots of {model.model_id} are taken (concurrencyLimit)"


def _explain_swap(state: SchedulerState, swap: Swap) -> str:
    target = swap.target.model_id
    if swap.phase is Phase.BARRIER:
        return f"{target} waits for memory for {span(state.now - swap.since_s)}: {swap.held_by}"
    if swap.phase is Phase.LOAD:
        return f"{target} has been loading for {span(state.now - swap.since_s)}"
    return _holders(state, swap.victims.values()) or f"{target} is about to load"


def _explain_waiting(state: SchedulerState, model: ModelState) -> str:
    """Explain a model whose swap has not been decided."""
    held = [swap for swap in state.swaps.values() if _clash(state, model, swap)]
    if held:
        return "; ".join(f"{s.target.model_id} goes first: {_explain_swap(state, s)}" for s in held)
    answer = state.plan(model)
    if isinstance(answer, Blocked):
        return answer.reason
    text = _holders(state, state.victims_of(answer)) if isinstance(answer, Plan) else ""
    if text:
        return text
    others = [other for other in state.awaited.values() if other is not model]
    names = ", ".join(other.model_id for other in others if other.state is not State.READY)
    return f"{names} waited longer" if names else f"{model.model_id} is about to load"


def _holders(state: SchedulerState, victims: Iterable[ModelState]) -> str:
    """Name those that have to leave and what keeps them."""
    return "; ".join(
        f"{v.model_id} is {_LEAVING_WORDS[v.state]}" if v.state in LEAVING else _serving(state, v)
        for v in victims
        if v.leases or v.state in LEAVING
    )


def _serving(state: SchedulerState, model: ModelState) -> str:
    number = len(model.leases)
    if not number:
        return f"{model.model_id} is idle"
    oldest_s = state.now - min(model.leases.values())
    requests = "request" if number == 1 else "requests"
    return f"{model.model_id} is serving {number} {requests} for {span(oldest_s)}"


_LEAVING_WORDS = {State.SLEEP_PENDING: "going to sleep", State.STOPPING: "stopping"}


def span(seconds: float) -> str:
    """Return *seconds* as people say it: ``45 s``, ``61 min``, ``5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def eta_s(state: SchedulerState, model: ModelState) -> float:
    """Estimate how long until *model* may serve a request that comes now.

    Requests in flight elsewhere are taken to end at once, and other programs to make room by the
    next time that is looked at: when they will is unknown.
    """
    if model.open:
        return 0.0
    swap = model.swap
    if swap is not None:
        return max(0.0, _swap_left_s(state, swap))
    answer = state.plan(model)
    victims = state.victims_of(answer) if isinstance(answer, Plan) else []
    ahead = max(
        (_swap_left_s(state, s) for s in state.swaps.values() if _clash(state, model, s)),
        default=0.0,
    )
    due_at = state.policy.due(model, victims).at
    held = due_at - state.now if AT_ONCE < due_at < NEVER else 0.0
    blocked = answer.recheck_s if isinstance(answer, Blocked) else 0.0
    return max(0.0, ahead, held, blocked) + swap_estimate_s(model, victims)


_AT_REST = {State.ASLEEP: Standing.ASLEEP}


def standing(state: SchedulerState, model: ModelState) -> Standing:
    """Return how soon *model* can serve a further request, for selectors."""
    if model.open:
        return Standing.READY
    if model.state in LEAVING or model.pending_stop is not None:
        return Standing.LEAVING
    if model.state is State.READY:
        return Standing.DRAINING
    if model.swap is not None:
        return Standing.STARTING
    if model.removed or (model.backoff.failures and backoff_s(state, model) > 0):
        return Standing.FAILING
    return _AT_REST.get(model.state, Standing.STOPPED)


def retry_after_s(state: SchedulerState, model: ModelState) -> float:
    """Return after how many seconds it makes sense to ask for *model* again."""
    return max(LEAST_RETRY_S, eta_s(state, model))


def backoff_s(state: SchedulerState, model: ModelState) -> float:
    """Return how long a start of *model* has to wait after its failures."""
    answer = state.plan(model)
    evicts = isinstance(answer, Plan) and bool(answer.victims)
    return model.backoff.wait_s(state.now, evicts=evicts)


def _swap_left_s(state: SchedulerState, swap: Swap) -> float:
    """Estimate what is left of *swap*; negative when it takes longer than usual."""
    target = swap.target
    if swap.phase is Phase.LOAD:
        usual = target.durations(swap.kind).p50_s
        usual_s = target.load_estimate_s if usual is None else usual
        return usual_s - (state.now - swap.since_s)
    return swap_estimate_s(target, swap.victims.values())


def _clash(state: SchedulerState, model: ModelState, swap: Swap) -> bool:
    alone = PlannedSwap(model.model_id, ALONE)
    return not state.residency.compatible(alone, state.under_way(swap))


# --- views ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model now. Times are seconds from now, or ago where the name says *for*.

    *gate_open*: new requests are served as slots come free. *why* says what those who wait wait
    for, *eta_s* how long that may take; both empty when nothing waits. *rest_in_s* is when its idle
    clock runs out and *rest* where that leads. *backoff_s*: requests are refused for that long.
    """

    model_id: str
    state: State
    state_for_s: float
    gate_open: bool
    in_flight: int
    waiting: int
    oldest_in_flight_for_s: float | None
    oldest_waiting_for_s: float | None
    why: str
    eta_s: float | None
    rest_in_s: float | None
    rest: State | None
    failures: int
    backoff_s: float
    start: DurationStats
    wake: DurationStats
    sleep: DurationStats
    stop: DurationStats


def view(state: SchedulerState, model: ModelState) -> ModelView:
    """Return how *model* stands."""
    now = state.now
    oldest = model.oldest
    rest = None if model.leases or model.wanted else model.next_rest
    return ModelView(
        model_id=model.model_id,
        state=model.state,
        state_for_s=now - model.since_s,
        gate_open=model.open,
        in_flight=len(model.leases),
        waiting=len(model.waiters),
        oldest_in_flight_for_s=now - min(model.leases.values()) if model.leases else None,
        oldest_waiting_for_s=now - oldest.since_s if oldest else None,
        why=explain(state, model) if model.wanted else "",
        eta_s=eta_s(state, model) if model.wanted else None,
        rest_in_s=rest[0] - now if rest else None,
        rest=rest[1] if rest else None,
        failures=model.backoff.failures,
        backoff_s=backoff_s(state, model) if model.backoff.failures else 0.0,
        start=model.starts.snapshot(),
        wake=model.wakes.snapshot(),
        sleep=model.sleeps.snapshot(),
        stop=model.stops.snapshot(),
    )


def position(state: SchedulerState, ticket: int) -> int | None:
    """Return the place of a waiting request in the queue of its model, from 1."""
    waiter = state.tickets.get(ticket)
    if waiter is None:
        return None
    return list(waiter.model.waiters).index(ticket) + 1


def places(state: SchedulerState) -> dict[int, int]:
    """Return the place of every waiting request in the queue of its model, from 1."""
    return {
        ticket: place
        for model in state.awaited.values()
        for place, ticket in enumerate(model.waiters, 1)
    }


# --- errors ---------------------------------------------------------------------------------------


def error_of(refuse: Refuse) -> LlmsnapError:
    """Return the error a refused request is answered with."""
    # The reason names other models and their requests: it is a detail, for admins.
    detail = f": {refuse.why}" if refuse.why else ""
    retry_after_s = refuse.retry_after_s
    if retry_after_s is None and isinstance(refuse.error, LlmsnapError):
        retry_after_s = refuse.error.retry_after_s
    return _error_of(refuse).amend(retry_after_s=retry_after_s, detail=detail)


def _error_of(refuse: Refuse) -> LlmsnapError:
    model_id = refuse.model_id
    error: LlmsnapError
    match refuse.reason:
        case RefusalReason.UNKNOWN:
            error = UnknownModel(f'model not found: "{model_id}"; it was removed while this waited')
        case RefusalReason.NOT_READY:
            error = NotReady(f"{model_id} is {refuse.state}; {_not_for_this(refuse)}")
        case RefusalReason.TOO_MANY:
            error = TooManyInFlight(f"too many requests for {model_id}")
        case RefusalReason.FAILED:
            error = _failure(refuse)
        case RefusalReason.NEVER_FITS:
            error = ModelDoesNotFit(f"{model_id} does not fit")
        case RefusalReason.UNLOADED:
            error = LoadAborted(f"{model_id} was unloaded while this request waited for it")
        case RefusalReason.QUEUE_TIMEOUT:
            error = QueueTimeout(f"{model_id} waited {refuse.waited_s:.0f} s")
        case _:
            error = Draining("the server is shutting down")
    return error


def _not_for_this(refuse: Refuse) -> str:
    soon = f", which takes about {refuse.retry_after_s:.0f} s" if refuse.retry_after_s else ""
    return f"this request may not load it{soon}"


def _failure(refuse: Refuse) -> LlmsnapError:
    cause = refuse.error
    if not isinstance(cause, LlmsnapError):
        cause = ProcessError("internal error", detail=f": {cause}")
    what = f"unable to make {refuse.model_id} ready: {cause}"
    return NotLoaded(what, cause, f"\n{_next_start(refuse)}")


def _next_start(refuse: Refuse) -> str:
    if refuse.retry_after_s is None:
        return "The next request starts it again."
    name, wait = refuse.model_id, span(math.ceil(refuse.retry_after_s))
    return (
        f"The first request after {wait} starts it again; to start it now, change its model or its "
        f"files, or use `llmsnap load {name}` or POST /api/models/load/{name}."
    )


OUTCOMES: dict[Outcome, tuple[type[LlmsnapError], str]] = {
    Outcome.UNKNOWN: (UnknownModel, 'model not found: "{}"'),
    Outcome.SLEEP_NOT_CONFIGURED: (
        SleepNotConfigured,
        "{} cannot sleep: set sleepMode to enable, with its endpoints",
    ),
    Outcome.UNLOADED: (LoadAborted, "{} was unloaded"),
    Outcome.SUPERSEDED: (LoadAborted, "{} was superseded: a request needed the room"),
    Outcome.QUEUE_TIMEOUT: (
        QueueTimeout,
        "{} timed out waiting for other models, or other programs, to make room",
    ),
    Outcome.SHUTDOWN: (Draining, "the server is shutting down"),
}


def error_of_outcome(
    model_id: str, outcome: Outcome, error: Exception | None
) -> LlmsnapError | None:
    """Return the error of a command that did not end well; None when it did.

    A model that is to sleep and is stopped needs nothing: scripts do this to all models.
    """
    if outcome in (Outcome.OK, Outcome.STOPPED):
        return None
    if outcome is Outcome.FAILED:
        if isinstance(error, LlmsnapError):
            return error
        return ProcessError(f"{model_id}: internal error", detail=f": {error}")
    error_class, message = OUTCOMES[outcome]
    return error_class(message.format(model_id))


def error_of_cut(model_id: str, reason: CutReason) -> LlmsnapError:
    """Return the error of a request that was ended early."""
    match reason:
        case CutReason.UNLOADED:
            return LoadAborted(f"{model_id} was unloaded while it answered")
        case CutReason.SLEEP:
            return LoadAborted(f"{model_id} was put to sleep while it answered")
        case CutReason.FAULTY:
            return LoadAborted(f"{model_id} did not work any more and was restarted")
        case CutReason.SHUTDOWN:
            return Draining("the server is shutting down")
