"""The scheduler: which requests are served, which wait, and which models load and leave. Pure.

No greenlets, no I/O, no clock of its own: ``handle(event, now)`` returns effects. ``Scheduler`` at
the end maps each event to one of the sections: ``Admission`` (which requests may wait), ``Stops``
(unload, sleep, idle clocks), ``Loads`` (loads by hand and preloads), ``Reconfiguration`` (reload
and shutdown), and, in ``swaps``, ``SwapPlanner`` (which swaps begin) and ``Reports`` (what the
driver reports of them). They share one ``SchedulerState``, whose methods make every change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from llmsnap.models import State
from llmsnap.routing import explain
from llmsnap.routing.entries import ModelState, PendingStop
from llmsnap.routing.messages import (
    Checked,
    CheckFailed,
    CommandDone,
    ConfigChanged,
    CutReason,
    CutRequests,
    Effect,
    Event,
    Exited,
    FilesChanged,
    Idled,
    LeaseReturned,
    Load,
    LoadCancelled,
    LoadDone,
    LoadFailed,
    LoadHeld,
    ModelRules,
    NoRoomAsleep,
    Outcome,
    Preload,
    PreloadEnded,
    PutToSleep,
    RefusalReason,
    Refuse,
    RequestArrived,
    ResidencyChanged,
    Retired,
    SchedulerOptions,
    Shutdown,
    ShutdownDone,
    SleepForbidden,
    SleepModel,
    StopModel,
    Suspected,
    Tick,
    Unload,
    WaiterGone,
    WakeMeAt,
)
from llmsnap.routing.occupancy import Occupancy, occupancy
from llmsnap.routing.pools import budget_in, here_of
from llmsnap.routing.preview import preview
from llmsnap.routing.residency import Residency
from llmsnap.routing.selectors import Standing
from llmsnap.routing.state import SchedulerState, TimerKind
from llmsnap.routing.swaps import Reports, SwapPlanner
from llmsnap.routing.yielding import Yields, no_room_asleep

# --- the queue ------------------------------------------------------------------------------------

SLOT_RETRY_S = 1.0
"""Retry-After when every slot of a ready model is taken."""


class Admission:
    """Takes in the requests that cannot be granted at once."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def admit(self, request: RequestArrived) -> None:
        """Let *request* wait, or refuse it with a reason."""
        state = self._state
        model = state.models.get(request.model_id)
        if model is None or model.removed or state.shutting_down:
            reason = RefusalReason.SHUTDOWN if state.shutting_down else RefusalReason.UNKNOWN
            at = model.state if model else State.STOPPED
            state.effects.append(Refuse(request.ticket, request.model_id, reason, at))
            return
        refusal = self._refusal(model, request)
        if refusal is None:
            state.enqueue(model, request.ticket, self._limit_s(request))
        else:
            state.effects.append(refusal)

    def leave(self, ticket: int) -> None:
        """Forget a waiting request whose client left."""
        waiter = self._state.tickets.get(ticket)
        if waiter is not None:
            self._state.forget(waiter)
            self._state.request_replan()

    def expire(self, ticket: int) -> None:
        """Refuse a request that waited until its deadline, and say for whom."""
        state = self._state
        waiter = state.tickets.get(ticket)
        if waiter is None:
            return
        why = explain.explain(state, waiter.model)
        retry_after_s = explain.retry_after_s(state, waiter.model)
        state.refuse(waiter, RefusalReason.QUEUE_TIMEOUT, why=why, retry_after_s=retry_after_s)
        state.request_replan()

    def _refusal(self, model: ModelState, request: RequestArrived) -> Refuse | None:
        """Return why *request* may not wait for *model*, None when it may."""
        limit = model.rules.queue_limit
        if model.open:
            return _refuse(
                request,
                model,
                RefusalReason.TOO_MANY,
                explain.all_taken(self._state, model),
                SLOT_RETRY_S,
            )
        refusal = self._backing_off(model, request)
        if refusal is not None:
            return refusal
        if request.never_swap:
            reason = RefusalReason.NOT_READY
        elif request.max_wait_s is not None and request.max_wait_s <= 0:
            reason = RefusalReason.QUEUE_TIMEOUT
        elif len(model.waiters) >= limit:
            reason = RefusalReason.TOO_MANY
        else:
            return None
        # A model without waiters is not waiting for any other.
        waits = model.wanted or model.swap is not None
        why = explain.explain(self._state, model) if waits else ""
        if reason is RefusalReason.TOO_MANY:
            why = f"{limit} requests wait for {model.model_id} already (queueLimit); {why}"
        return _refuse(request, model, reason, why, explain.retry_after_s(self._state, model))

    def _backing_off(self, model: ModelState, request: RequestArrived) -> Refuse | None:
        """Return the remembered error while *model* may not be started again."""
        if model.swap is not None or model.state is State.READY or not model.backoff.failures:
            return None
        wait_s = explain.backoff_s(self._state, model)
        if wait_s <= 0:
            return None
        why = f"{model.model_id} failed {model.backoff.failures} times in a row"
        error = model.backoff.error
        return Refuse(
            request.ticket,
            model.model_id,
            RefusalReason.FAILED,
            model.state,
            why,
            0.0,
            wait_s,
            error,
        )

    def _limit_s(self, request: RequestArrived) -> float | None:
        """Return how long *request* may wait at most; None: without limit."""
        queue_timeout_s = self._state.options.queue_timeout_s
        if queue_timeout_s <= 0:
            return request.max_wait_s
        return min(queue_timeout_s, request.max_wait_s or queue_timeout_s)


def _refuse(
    request: RequestArrived,
    model: ModelState,
    reason: RefusalReason,
    why: str,
    retry_after_s: float,
) -> Refuse:
    return Refuse(
        request.ticket, model.model_id, reason, model.state, why, retry_after_s=retry_after_s
    )


# --- stops ----------------------------------------------------------------------------------------

CHECK_DRAIN_S = 30.0
"""How long the check of a suspected model waits for its requests in flight."""


class Stops:
    """Shuts models down one by one, and answers those who asked for it."""

    def __init__(self, state: SchedulerState, planner: SwapPlanner) -> None:
        self._state = state
        self._planner = planner
        self._unloads: dict[int, set[str]] = {}

    # --- who asks --------------------------------------------------------------------------

    def unload(self, event: Unload) -> None:
        """Stop one model or all, refusing those who wait for it now."""
        state = self._state
        if event.model_id is not None and event.model_id not in state.models:
            state.effects.append(CommandDone(event.command, Outcome.UNKNOWN))
            return
        names = list(state.models) if event.model_id is None else [event.model_id]
        if not names:
            state.effects.append(CommandDone(event.command, Outcome.OK))
            return
        self._unloads[event.command] = set(names)
        for name in names:
            self.refuse_waiting(state.models[name], RefusalReason.UNLOADED, Outcome.UNLOADED)
        for name in names:
            cut = None if event.drain else CutReason.UNLOADED
            self.stop(state.models[name], cut, event.command)

    def sleep(self, event: PutToSleep) -> None:
        """Put a model to sleep after what it is doing now."""
        state = self._state
        model = state.models.get(event.model_id)
        outcome = self._sleep_outcome(model)
        if model is None or outcome is not None:
            state.effects.append(CommandDone(event.command, outcome or Outcome.UNKNOWN))
            return
        pending = model.pending_stop
        if pending is None:
            pending = state.shut_until(model, State.ASLEEP)
            if model.state in (State.STARTING, State.WAKING):
                state.serve_waiters_first(pending)
        pending.join(event.command)
        if not event.drain and model.leases:
            state.effects.append(CutRequests(model.model_id, CutReason.SLEEP))
        self.advance(model)

    def forbid_sleep(self, event: SleepForbidden) -> None:
        """Have a model stopped from now on where it would be put to sleep."""
        model = self._state.models.get(event.model_id)
        if model is not None:
            self._state.redefine(model, replace(model.rules, can_sleep=False))

    def suspect(self, event: Suspected) -> None:
        """Have a ready model checked once its requests have ended, or after a while."""
        model = self._state.models.get(event.model_id)
        if model is not None and model.open:
            self._state.shut_until_checked(model, CHECK_DRAIN_S)
            self.advance(model)

    def check_late(self, model_id: str) -> None:
        """Check a model although requests are still in flight: they may hang."""
        model = self._state.models.get(model_id)
        pending = model.pending_stop if model is not None else None
        if model is not None and pending is not None and pending.if_faulty:
            self._state.begin_check(model, pending)

    def checked(self, event: Checked) -> None:
        """Go on with a model that works, or stop it."""
        model = self._state.models.get(event.model_id)
        pending = model.pending_stop if model is not None else None
        if model is None or pending is None or not pending.if_faulty:
            return
        if pending.check == event.work and event.works:
            self._trust(model)
        elif pending.check == event.work:
            self.stop(model, CutReason.FAULTY)

    def stop(
        self, model: ModelState, cut: CutReason | None = None, command: int | None = None
    ) -> None:
        """Stop *model*; without *cut* its requests in flight end first. Aborts its load."""
        pending = self._pending_stop_of(model)
        pending.make_certain()
        if command is not None:
            pending.join(command)
        if cut is not None:
            if model.leases and pending.cut is None:
                self._state.effects.append(CutRequests(model.model_id, cut))
            pending.cut_requests(cut)
        swap = model.swap
        if swap is not None and not swap.draining:
            self._planner.abort(swap)
        self.advance(model)

    def refuse_waiting(self, model: ModelState, refusal: RefusalReason, outcome: Outcome) -> None:
        """Refuse all who wait for *model*, loads by hand and preloads included."""
        state = self._state
        state.refuse_all(model, refusal)
        state.end_loads(model, outcome)
        state.end_preload(model, outcome)
        state.request_replan()

    def expire(self, model_id: str) -> None:
        """Look at the idle clocks of a model, one of which has run out if it was idle since."""
        state = self._state
        model = state.models.get(model_id)
        if model is None:
            return
        state.disarm_idle(model)
        if model.leases or model.pending_stop is not None:
            return
        if model.wanted or model.swap is not None:
            state.restart_idle(model)
        rest = model.next_rest
        if rest is not None and rest[0] <= state.now:
            self.rest(model, self._rest_with_room(model, rest[1]))
        else:
            state.arm_idle(model)

    def rest(self, model: ModelState, to: State) -> None:
        """Stop an idle *model*, or let it sleep, because its clock ran out, or for its memory."""
        self._state.shut_until(model, to)
        self.advance(model)

    def _rest_with_room(self, model: ModelState, to: State) -> State:
        """Return what an idle *model* does: it stops where there is no room for it asleep."""
        memory = budget_in(self._state.residency)
        if to is not State.ASLEEP or memory is None:
            return to
        device = no_room_asleep(memory, self._state.models, model.model_id)
        if not device:
            return to
        self._state.effects.append(NoRoomAsleep(model.model_id, device))
        return State.STOPPED

    # --- going on --------------------------------------------------------------------------

    def advance(self, model: ModelState, error: Exception | None = None) -> None:
        """Do the next step of the stop of *model*, if it has one and nothing is in its way."""
        pending = model.pending_stop
        model.refresh()
        if pending is None or model.moving:
            return
        if model.state in (State.STOPPED, pending.to):
            self._finish(model, pending, error)
        elif pending.if_faulty:
            self._check(model, pending)
        elif pending.to is State.STOPPED:
            if not model.leases or pending.cut is not None or model.state is State.ASLEEP:
                self._work(model, State.STOPPING)
        elif not model.leases and not self._must_serve_first(model, pending):
            self._work(model, State.SLEEP_PENDING)

    def idled(self, event: Idled) -> None:
        """Note the end of a stop or a sleep that a pending stop asked for."""
        model = self._state.end_stop(event)
        if model is not None:
            self.after_stop(model, event.error)

    def after_stop(self, model: ModelState, error: Exception | None) -> None:
        """Go on after *model* was stopped or put to sleep, or could not be stopped."""
        if not model.stuck:
            self.advance(model, error)
        elif model.pending_stop is not None:
            pending = model.pending_stop
            self._state.end_pending_stop(model)
            self._answer(model, pending, Outcome.FAILED, error)

    # --- the steps -------------------------------------------------------------------------

    def _check(self, model: ModelState, pending: PendingStop) -> None:
        if model.state is not State.READY:  # it was put to sleep for another one
            self._trust(model)
        elif not model.leases and not pending.check:
            self._state.begin_check(model, pending)

    def _trust(self, model: ModelState) -> None:
        """Open the gate of a model that is not suspected any more."""
        self._state.end_pending_stop(model)
        self._state.arm_idle(model)
        self._state.fill(model)

    def _pending_stop_of(self, model: ModelState) -> PendingStop:
        """Return the pending stop of *model*; it replaces a pending sleep."""
        pending = model.pending_stop
        if pending is None or pending.to is not State.STOPPED:
            if pending is not None:
                gone = Outcome.SHUTDOWN if self._state.shutting_down else Outcome.STOPPED
                self._answer(model, pending, gone, None)
            pending = self._state.shut_until(model, State.STOPPED)
        return pending

    def _sleep_outcome(self, model: ModelState | None) -> Outcome | None:
        """Return what can be answered at once, None when the sleep has to be waited for."""
        if model is None or model.removed:
            return Outcome.UNKNOWN
        if self._state.shutting_down:
            return Outcome.SHUTDOWN
        if not model.rules.can_sleep:
            return Outcome.SLEEP_NOT_CONFIGURED
        if model.pending_stop is not None and model.pending_stop.to is State.STOPPED:
            return Outcome.STOPPED
        if model.state in (State.STOPPED, State.STOPPING):
            return Outcome.STOPPED
        return Outcome.OK if model.state is State.ASLEEP else None

    def _must_serve_first(self, model: ModelState, pending: PendingStop) -> bool:
        """Tell whether a request that came before the sleep was asked for still waits."""
        oldest = model.oldest
        return oldest is not None and oldest.number <= pending.served_first

    def _work(self, model: ModelState, to: State) -> None:
        """Have the driver stop *model* or put it to sleep."""
        work = self._state.begin_stop(model, to)
        message = StopModel if to is State.STOPPING else SleepModel
        self._state.effects.append(message(work, model.model_id))

    def _finish(self, model: ModelState, pending: PendingStop, error: Exception | None) -> None:
        """Answer those who asked, and let the model be loaded again."""
        self._state.end_pending_stop(model)
        if pending.to is model.state:
            self._answer(model, pending, Outcome.OK, None)
        else:
            outcome = Outcome.STOPPED if error is None else Outcome.FAILED
            self._answer(model, pending, outcome, error)

    def _answer(
        self,
        model: ModelState,
        pending: PendingStop,
        outcome: Outcome,
        error: Exception | None,
    ) -> None:
        for command in pending.commands:
            if pending.to is State.ASLEEP or self._unloaded(command, model, outcome):
                self._state.effects.append(CommandDone(command, outcome, error))

    def _unloaded(self, command: int, model: ModelState, outcome: Outcome) -> bool:
        """Tell whether an unload can be answered: its last model is gone, or one would not go."""
        left = self._unloads.get(command)
        if left is None:
            return False
        left.discard(model.model_id)
        if left and outcome is Outcome.OK:
            return False
        del self._unloads[command]
        return True


# --- loads by hand and preloads -------------------------------------------------------------------


class Loads:
    """Keeps the loads by hand and the list of preloads, of which one is under way at a time."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._list: deque[str] = deque()
        self._current: ModelState | None = None

    def load(self, event: Load) -> None:
        """Wait for the model to become ready, whatever failed before."""
        state = self._state
        model = state.models.get(event.model_id)
        if state.shutting_down:
            state.effects.append(CommandDone(event.command, Outcome.SHUTDOWN))
        elif model is None or model.removed:
            state.effects.append(CommandDone(event.command, Outcome.UNKNOWN))
        elif _is_ready(model):
            state.effects.append(CommandDone(event.command, Outcome.OK))
        else:
            state.await_load(model, event.command)

    def expire_load(self, command: int) -> None:
        """Answer a load that waited until its deadline."""
        for model in self._state.awaited.values():
            if command in model.loads:
                self._state.end_load(model, command, Outcome.QUEUE_TIMEOUT)
                return

    def preload(self, event: Preload) -> None:
        """Take *event* as the list of preloads from now on."""
        self.cancel(Outcome.SUPERSEDED, keep=event.model_ids)
        current = self._current.model_id if self._current is not None else None
        self._list.extend(name for name in event.model_ids if name != current)

    def cancel(self, outcome: Outcome, keep: tuple[str, ...] = ()) -> None:
        """End all preloads with *outcome*, save one under way whose model is among *keep*.

        A load that began goes on as any load without waiters.
        """
        state = self._state
        current = self._current
        if current is not None and current.model_id not in keep:
            state.end_preload(current, outcome)
            self._current = None
        state.effects.extend(PreloadEnded(name, outcome) for name in self._list)
        self._list.clear()
        state.request_replan()

    def expire_preload(self, model_id: str) -> None:
        """End a preload that found no room until its deadline."""
        model = self._state.models.get(model_id)
        if model is not None:
            self._state.end_preload(model, Outcome.QUEUE_TIMEOUT)

    def start_next_preload(self) -> None:
        """Begin the next preload when the one before is over."""
        if self._current is not None and self._current.preload_since is None:
            self._current = None
        while self._list and self._current is None:
            self._begin(self._list.popleft())

    def _begin(self, model_id: str) -> None:
        state = self._state
        model = state.models.get(model_id)
        if model is None or model.removed:
            state.effects.append(PreloadEnded(model_id, Outcome.UNKNOWN))
        elif _is_ready(model):
            state.effects.append(PreloadEnded(model_id, Outcome.OK))
        elif model.swap is None and explain.backoff_s(state, model) > 0:
            state.effects.append(PreloadEnded(model_id, Outcome.FAILED, model.backoff.error))
        else:
            self._current = model
            state.await_preload(model)


def _is_ready(model: ModelState) -> bool:
    return model.state is State.READY and model.pending_stop is None


# --- reconfiguration and shutdown -----------------------------------------------------------------


class Reconfiguration:
    """Applies configurations while requests run, and stops everything at the end."""

    def __init__(
        self, state: SchedulerState, planner: SwapPlanner, stops: Stops, loads: Loads
    ) -> None:
        self._state = state
        self._planner = planner
        self._stops = stops
        self._loads = loads
        self._done = False

    def configure(self, event: ConfigChanged) -> None:
        """Take *event* as the truth. Nothing is evicted by it.

        Swaps still draining are decided again, before those whose gates were shut for them
        are granted anything, so that no gate opens only because the file was saved.
        """
        state = self._state
        if event.residency != state.residency or event.options != state.options:
            self._planner.cancel_undecided()
        state.configure(event.residency, event.options)
        self._loads.cancel(Outcome.SUPERSEDED)
        kept = {rules.model_id for rules in event.rules}
        for model in list(state.models.values()):
            if model.model_id not in kept and not model.removed:
                self._remove(model)
        for rules in event.rules:
            self._define(rules, restart=rules.model_id in event.restart)
        for name in event.changed & kept:
            state.forget_failures(state.models[name])
        self._planner.decide()
        state.fill_all()
        state.request_replan()

    def refigure(self, event: ResidencyChanged) -> None:
        """Decide by new figures from now on; swaps that drain are looked at again."""
        self._state.configure(event.residency, self._state.options)
        self._state.request_replan()

    def shut_down(self, event: Shutdown) -> None:
        """Refuse all who wait, stop what is idle, and let requests in flight end."""
        state = self._state
        state.begin_shutdown()
        self._loads.cancel(Outcome.SHUTDOWN)
        for model in state.models.values():
            self._stops.refuse_waiting(model, RefusalReason.SHUTDOWN, Outcome.SHUTDOWN)
        for model in state.models.values():
            self._stops.stop(model)
        if event.drain_timeout_s > 0:
            state.limit_drain(event.drain_timeout_s)
        else:
            self.cut_requests(0)

    def cut_requests(self, _key: int) -> None:
        """End the requests that outlast the drain of a shutdown."""
        for model in self._state.models.values():
            if model.leases:
                self._stops.stop(model, CutReason.SHUTDOWN)

    def finish(self) -> None:
        """Forget removed models nothing is left of, and say when a shutdown is complete."""
        state = self._state
        for model in [model for model in state.removed.values() if _is_gone(model)]:
            state.retire(model)
            state.effects.append(Retired(model.model_id))
        if state.shutting_down and not self._done and not state.swaps and not state.active_stops:
            self._done = all(m.stuck or m.state is State.STOPPED for m in state.models.values())
            if self._done:
                state.end_drain()
                state.effects.append(ShutdownDone())

    def _define(self, rules: ModelRules, *, restart: bool) -> None:
        """Add a model, or give a known one its new rules."""
        state = self._state
        model = state.models.get(rules.model_id)
        if model is None:
            state.add_model(rules)
            return
        if model.removed:
            # It was draining to be stopped and still is: removed and added again is a restart.
            state.restore(model)
            restart = True
        state.redefine(model, rules)
        if restart:
            state.forget_failures(model)
            self._stops.stop(model)

    def _remove(self, model: ModelState) -> None:
        self._state.mark_removed(model)
        self._stops.refuse_waiting(model, RefusalReason.UNKNOWN, Outcome.UNKNOWN)
        self._stops.stop(model)


def _is_gone(model: ModelState) -> bool:
    """Nothing is left of *model*: no process, no request, no work."""
    return (
        model.state is State.STOPPED
        and model.swap is None
        and model.pending_stop is None
        and not model.leases
    )


# --- the scheduler --------------------------------------------------------------------------------

Handler = Callable[[Any], None]


class Scheduler:
    """Decides. Its methods never switch greenlets, and raise for no event whatever."""

    def __init__(self, options: SchedulerOptions | None = None) -> None:
        state = SchedulerState(options or SchedulerOptions())
        planner = SwapPlanner(state)
        self._state = state
        self._planner = planner
        self._admission = Admission(state)
        self._reports = Reports(state, planner)
        self._stops = Stops(state, planner)
        self._yields = Yields(state, self._stops.rest)
        self._loads = Loads(state)
        self._reconfiguration = Reconfiguration(state, planner, self._stops, self._loads)
        self._wake_at: float | None = None
        self._handlers = self._bind_handlers()
        self._timers = self._bind_timers()

    def __repr__(self) -> str:
        state = self._state
        return f"<Scheduler {len(state.models)} models, {len(state.tickets)} waiting>"

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply *event* and return the effects, in the order to carry them out.

        A request that is granted at once, and a lease that comes back while nothing waits, cost
        the same however many models and waiters there are.
        """
        state = self._state
        if type(event) is RequestArrived:
            if state.grant_at_once(event, now):
                return state.effects
            self._admission.admit(event)
        elif type(event) is LeaseReturned:
            model = state.return_lease(event, now)
            if model is None or not self._drained(model):
                return state.effects
        else:
            state.begin_step(now)
            self._handlers[type(event)](event)
        self._settle()
        return state.effects

    def count_from(self, number: int) -> None:
        """Number swaps from *number* on: those of earlier runs are kept, and keep their ids."""
        self._state.count_from(number)

    @property
    def first_number(self) -> int:
        """The number the next swap gets, if nothing else is numbered before."""
        return self._state.last_number + 1

    @property
    def residency(self) -> Residency:
        """The residency in force, without what concerns launchers on clusters."""
        return here_of(self._state.residency)

    # --- what people see -------------------------------------------------------------------

    def is_ready(self, model_id: str) -> bool:
        """Whether the server of *model_id* answers requests now."""
        model = self._state.models.get(model_id)
        return model is not None and model.state is State.READY

    def is_awaited(self, model_id: str) -> bool:
        """Whether *model_id* is to be loaded, or is being loaded."""
        model = self._state.models.get(model_id)
        return model is not None and (model.wanted or model.swap is not None)

    def standing(self, model_id: str, now: float) -> Standing:
        """Return how soon *model_id* can serve a further request."""
        self._state.set_clock(now)
        model = self._state.models.get(model_id)
        return Standing.FAILING if model is None else explain.standing(self._state, model)

    def snapshot(self, now: float) -> list[explain.ModelView]:
        """Return every model's state, requests and estimates, by id."""
        self._state.set_clock(now)
        return [explain.view(self._state, model) for model in self._models()]

    def position(self, ticket: int) -> int | None:
        """Return a waiting request's place in its model's queue, from 1; None: it does not wait."""
        return explain.position(self._state, ticket)

    def lacks_memory(self, model_id: str) -> bool:
        """Whether the load of the model waits for memory that is not free, as last planned."""
        model = self._state.models.get(model_id)
        if model is None:
            return False
        held = model.swap is not None and bool(model.swap.held_by)
        return held or model.blocked

    def places(self) -> dict[int, int]:
        """Return the place of every waiting ticket in its model's queue, from 1."""
        return explain.places(self._state)

    def eta_s(self, model_id: str, now: float) -> float | None:
        """Estimate the seconds until the model may serve; None: no such model."""
        self._state.set_clock(now)
        model = self._state.models.get(model_id)
        return None if model is None else explain.eta_s(self._state, model)

    def explain(self, model_id: str, now: float) -> str:
        """Say what requests for the model wait for: "A is serving 1 request for 61 min"."""
        self._state.set_clock(now)
        model = self._state.models.get(model_id)
        return "" if model is None else explain.explain(self._state, model)

    def preview(
        self,
        model_id: str,
        now: float,
        running: Collection[str] | None = None,
        capacities: Mapping[str, int] | None = None,
    ) -> dict[str, Any] | None:
        """Return what a load would do, now or as supposed; None: no such model."""
        self._state.set_clock(now)
        model = self._state.models.get(model_id)
        return None if model is None else preview(self._state, model, running, capacities)

    def occupancy(self) -> Occupancy:
        """Return what each device of a memory budget holds now, and what each model needs."""
        return occupancy(self._state)

    def _models(self) -> list[ModelState]:
        return [model for _, model in sorted(self._state.models.items())]

    def _drained(self, model: ModelState) -> bool:
        """Follow up on the end of the last request in flight; whether anything else may follow."""
        state = self._state
        armed = state.note_idle(model)
        if model.pending_stop is not None:
            self._stops.advance(model)
        if model.evicted_by is not None or model.model_id in state.watched:
            state.request_replan()
        return armed or state.needs_replan or model.removed

    # --- all the rest ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Begin what may begin now, and set the timer."""
        state = self._state
        self._loads.start_next_preload()
        while state.take_replan():
            self._planner.decide()
            self._loads.start_next_preload()
        self._reconfiguration.finish()
        at = state.timers.next_at()
        if at != self._wake_at:
            self._wake_at = at
            state.effects.append(WakeMeAt(at))

    def _bind_handlers(self) -> dict[type[Any], Handler]:
        return {
            WaiterGone: lambda event: self._admission.leave(event.ticket),
            Idled: self._idled,
            LoadHeld: self._reports.held,
            LoadDone: self._loaded,
            LoadFailed: self._load_failed,
            LoadCancelled: self._load_aborted,
            CheckFailed: self._reports.check_failed,
            Exited: self._exited,
            FilesChanged: self._reports.files_changed,
            Unload: self._stops.unload,
            PutToSleep: self._stops.sleep,
            SleepForbidden: self._stops.forbid_sleep,
            Suspected: self._stops.suspect,
            Checked: self._stops.checked,
            Load: self._loads.load,
            Preload: self._loads.preload,
            ConfigChanged: self._configured,
            ResidencyChanged: self._refigured,
            Shutdown: self._reconfiguration.shut_down,
            Tick: self._tick,
        }

    def _bind_timers(self) -> dict[TimerKind, Handler]:
        return {
            "queue": self._admission.expire,
            "load": self._loads.expire_load,
            "preload": self._loads.expire_preload,
            "idle": self._stops.expire,
            "due": self._look_again,
            "reopen": self._planner.reopen,
            "drain": self._reconfiguration.cut_requests,
            "check": self._stops.check_late,
            "yield": self._yields.look,
        }

    def _tick(self, _event: Tick) -> None:
        state = self._state
        self._wake_at = None
        for kind, key in state.pop_due():
            self._timers[kind](key)

    def _look_again(self, _model_id: str) -> None:
        self._state.request_replan()

    def _configured(self, event: ConfigChanged) -> None:
        self._reconfiguration.configure(event)
        self._yields.look()

    def _refigured(self, event: ResidencyChanged) -> None:
        self._reconfiguration.refigure(event)
        self._yields.look()

    def _idled(self, event: Idled) -> None:
        swap = self._state.swaps.get(event.work)
        if swap is None:
            self._stops.idled(event)
            return
        victim = self._reports.victim_left(swap, event)
        if victim is not None:
            self._stops.after_stop(victim, event.error)

    def _loaded(self, event: LoadDone) -> None:
        self._advance_stops(self._reports.loaded(event))

    def _load_failed(self, event: LoadFailed) -> None:
        self._advance_stops(self._reports.failed(event), event.error)

    def _load_aborted(self, event: LoadCancelled) -> None:
        self._advance_stops(self._reports.aborted(event))

    def _exited(self, event: Exited) -> None:
        model = self._reports.exited(event)
        if model is not None:
            self._stops.after_stop(model, event.error)

    def _advance_stops(self, models: list[ModelState], error: Exception | None = None) -> None:
        """Go on with the pending stops and sleeps of *models*."""
        for model in models:
            self._stops.after_stop(model, error)
