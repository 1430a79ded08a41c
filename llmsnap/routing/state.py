"""The scheduler's state: models, waiters, swaps, timers, back-off. Pure.

``SchedulerState`` holds all of it, and makes every move of a model, every grant and every refusal,
so that what must happen together does.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

from llmsnap.models import State
from llmsnap.routing.messages import (
    CommandDone,
    CutReason,
    Effect,
    Eviction,
    Grant,
    Idled,
    ModelRules,
    Outcome,
    PreloadEnded,
    RefusalReason,
    Refuse,
    SchedulerOptions,
    SwapEnded,
    SwapOutcome,
    SwapRecord,
)
from llmsnap.routing.policies import NEVER, POLICIES, Policy
from llmsnap.routing.residency import (
    Action,
    Groups,
    LoadKind,
    NeverFits,
    Plan,
    PlannedSwap,
    Residency,
)

# --- back-off -------------------------------------------------------------------------------------

FREE_FAILURES = 1
FIRST_DELAY_S = 1.0
LONGEST_S = 60.0
LONGEST_EVICTING_S = 600.0
MIN_UPTIME_S = 10.0
"""A model that dies within this time of becoming ready has failed to load."""

_DOUBLINGS = 16  # beyond the longest delay; keeps the power small


def delay_s(failures: int, *, evicts: bool) -> float:
    """Return how long after the last of *failures* in a row the next start may come."""
    if failures <= FREE_FAILURES:
        return 0.0
    longest = LONGEST_EVICTING_S if evicts else LONGEST_S
    return float(min(FIRST_DELAY_S * 2 ** min(failures - FREE_FAILURES - 1, _DOUBLINGS), longest))


class Backoff:
    """The failures in a row of one model, and the last error."""

    __slots__ = ("_failed_at", "error", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.error: Exception | None = None
        self._failed_at = 0.0

    def fail(self, error: Exception, now: float) -> None:
        """Count one more failure."""
        self.failures += 1
        self.error = error
        self._failed_at = now

    def clear(self) -> None:
        """Forget: it succeeded, was redefined, or is loaded by hand."""
        self.failures = 0
        self.error = None

    def wait_s(self, now: float, *, evicts: bool) -> float:
        """Return how long a start still has to wait, 0 when it may come now."""
        return max(0.0, self._failed_at + delay_s(self.failures, evicts=evicts) - now)


# --- measured durations ---------------------------------------------------------------------------

KEPT = 20
UNKNOWN_S = 5.0
"""What a load is taken to last before one has been measured."""


@dataclass(frozen=True, slots=True)
class DurationStats:
    """*count* is of all time; the rest is over the last ``KEPT``, None before the first."""

    count: int = 0
    last_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None


class Durations:
    """The durations of one kind of move of one model."""

    __slots__ = ("_kept", "count", "p50_s")

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)
        self.count = 0
        self.p50_s: float | None = None

    def append(self, seconds: float) -> None:
        """Add one measurement; the median is at hand without sorting again."""
        self._kept.append(seconds)
        self.count += 1
        self.p50_s = self._percentile(50)

    def snapshot(self) -> DurationStats:
        """Return what ``/running`` shows."""
        if not self._kept:
            return DurationStats()
        return DurationStats(self.count, self._kept[-1], self.p50_s, self._percentile(90))

    def _percentile(self, percent: int) -> float:
        """Nearest rank: always a duration that did happen."""
        ordered = sorted(self._kept)
        return ordered[-(-percent * len(ordered) // 100) - 1]


# --- timers ---------------------------------------------------------------------------------------

K = TypeVar("K", bound=Hashable)

_SLACK = 64  # stale models that are not worth a clean-up


class Timers(Generic[K]):
    """One time per key. Setting, cancelling and popping cost the logarithm of their number."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._at)

    def get(self, key: K) -> float | None:
        """Return when *key* is due."""
        return self._at.get(key)

    def set(self, key: K, at: float) -> None:
        """Let *key* be due at *at*, and at no other time."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, key))
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._clean()

    def cancel(self, key: K) -> None:
        """Forget *key*; its place in the heap is cleaned up later."""
        self._at.pop(key, None)

    def pop_due(self, now: float) -> list[K]:
        """Return and forget the keys due by *now*, in order of their times."""
        due: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                due.append(key)
        return due

    def next_at(self) -> float | None:
        """Return the earliest time, None when there is none."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _clean(self) -> None:
        """Drop what was cancelled or moved, so that long deadlines do not pile up."""
        self._heap = [item for item in self._heap if self._at.get(item[2]) == item[0]]
        heapq.heapify(self._heap)


# --- models, waiters, swaps -----------------------------------------------------------------------

LEAVING = frozenset({State.SLEEP_PENDING, State.STOPPING})
AT_REST = frozenset({State.STOPPED, State.ASLEEP})
"""Not running: a model here never has to leave for another."""


class Phase(Enum):
    """How far a swap has come. No model has been evicted before EVICT."""

    DRAIN = "gates shut, waiting for requests in flight"
    REOPENED = "gates open once more, waiting for the requests of before"
    LAST_DRAIN = "gates shut for good"
    EVICT = "victims leaving"
    LOAD = "target loading"


PHASE_NAMES = {Phase.EVICT: "evict", Phase.LOAD: "load"}
DRAINING = frozenset({Phase.DRAIN, Phase.REOPENED, Phase.LAST_DRAIN})


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in the queue of *model*; *number* grows with every arrival."""

    ticket: int
    model: ModelState
    since_s: float
    number: int


@dataclass(slots=True)
class PendingStop:
    """The model's gate is shut until it is stopped or asleep.

    *commands* are the API calls to answer then, *cut* why requests in flight need not end first,
    *served_first*: waiters with a number up to this one are served first.
    """

    to: State
    commands: list[int] = field(default_factory=list)
    cut: CutReason | None = None
    served_first: int = 0


@dataclass(slots=True, eq=False)
class Swap:
    """A swap from its decision to its end.

    *victims* are those that still have to leave, *evicted* what the driver was asked to evict,
    *in_flight_before* the requests that were in flight when the gates shut first, *planned* the
    plan it follows. *eviction_failed*: a victim could not be stopped, so the load does not begin.
    """

    work: int
    target: ModelState
    victims: dict[str, ModelState]
    reason: str
    planned: PlannedSwap
    began_s: float
    since_s: float
    phases: list[tuple[str, float]]
    phase: Phase = Phase.DRAIN
    kind: LoadKind = LoadKind.START
    evicted: tuple[Eviction, ...] = ()
    in_flight_before: set[int] = field(default_factory=set)
    reopened: bool = False
    aborting: bool = False
    eviction_failed: bool = False
    waits_s: tuple[float, ...] = ()

    def __repr__(self) -> str:
        victims = " ".join(self.victims) or "no model"
        return f"<Swap {self.work} to {self.target.model_id}, {self.phase.name}, evicts {victims}>"

    @property
    def draining(self) -> bool:
        """No model has been evicted yet."""
        return self.phase in DRAINING

    def requests_ended(self, tickets: Iterable[int]) -> None:
        """Note that requests of before ended; after the last, reopened gates shut for good."""
        self.in_flight_before.difference_update(tickets)
        if self.phase is Phase.REOPENED and not self.in_flight_before:
            self.phase = Phase.LAST_DRAIN
            for victim in self.victims.values():
                victim.refresh()

    def enter(self, phase: Phase, now: float) -> None:
        """Go on to *phase*, noting how long the one before took."""
        self.note(now)
        self.phase = phase
        self.since_s = now

    def note(self, now: float) -> None:
        """Note how long the present phase took; the parts of a drain count as one."""
        if now > self.since_s:
            self.phases.append((PHASE_NAMES.get(self.phase, "drain"), now - self.since_s))

    def record(self, outcome: SwapOutcome, error: str, now: float) -> SwapRecord:
        """Return the record of this swap, which ends now."""
        return SwapRecord(
            swap_id=self.work,
            target=self.target.model_id,
            kind=self.kind,
            outcome=outcome,
            evicted=self.evicted,
            reason=self.reason,
            waits_s=self.waits_s,
            phases=tuple(self.phases),
            reopened=self.reopened,
            began_s=self.began_s,
            ended_s=now,
            error=error,
        )


class ModelState:
    """One model as the scheduler sees it.

    *open*: ready and no gate shut, so a free slot may be taken; kept by ``refresh``. *leases* maps
    tickets in flight to their start, *waiters* are in order of arrival. *swap* is the swap it is
    the target of, *evicted_by* the one it has to leave for, *work* its own stop or sleep under way.
    *loads* maps load commands that wait for it to their arrival. *loaded_by* is the swap that made
    it ready. *stuck*: it could not be stopped.
    """

    __slots__ = (
        "backoff",
        "checked",
        "evicted_by",
        "idle_armed",
        "idle_since",
        "leases",
        "left_from",
        "limit",
        "loaded_by",
        "loads",
        "model_id",
        "open",
        "pending_stop",
        "preload_since",
        "ready_at",
        "removed",
        "rules",
        "since_s",
        "sleeps",
        "starts",
        "state",
        "stops",
        "stuck",
        "swap",
        "turn_ended",
        "waiters",
        "wakes",
        "work",
    )

    def __init__(self, rules: ModelRules, now: float) -> None:
        self.model_id = rules.model_id
        self.rules = rules
        self.limit = rules.concurrency_limit
        self.state = self.left_from = State.STOPPED
        self.since_s = self.ready_at = self.idle_since = now
        self.turn_ended = float("-inf")
        self.open = self.checked = self.idle_armed = self.removed = self.stuck = False
        self.leases: dict[int, float] = {}
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()
        self.loads: dict[int, float] = {}
        self.preload_since: float | None = None
        self.swap: Swap | None = None
        self.evicted_by: Swap | None = None
        self.work: int | None = None
        self.loaded_by = 0
        self.pending_stop: PendingStop | None = None
        self.backoff = Backoff()
        self.starts, self.wakes = Durations(), Durations()
        self.sleeps, self.stops = Durations(), Durations()

    def __repr__(self) -> str:
        gate = "open" if self.open else "shut"
        return (
            f"<ModelState {self.model_id} {self.state}, {gate}, "
            f"{len(self.leases)} in flight, {len(self.waiters)} waiting>"
        )

    def refresh(self) -> None:
        """Work out whether the gate is open."""
        self.open = self.pending_stop is None and self.serves

    @property
    def serves(self) -> bool:
        """Ready, and no swap has shut the gate; a pending sleep serves those who came before it."""
        evicted_by = self.evicted_by
        return self.state is State.READY and (
            evicted_by is None or evicted_by.phase is Phase.REOPENED
        )

    @property
    def wanted(self) -> bool:
        """Requests, loads by hand or a preload wait for this model."""
        return bool(self.waiters or self.loads) or self.preload_since is not None

    @property
    def busy(self) -> bool:
        """Requests are in flight or waiting."""
        return bool(self.leases or self.waiters)

    @property
    def oldest(self) -> Waiter | None:
        """The waiter who came first."""
        return next(iter(self.waiters.values()), None)

    @property
    def oldest_arrival(self) -> float:
        """When the oldest waiting request came; plus infinity when none waits."""
        oldest = self.oldest
        return oldest.since_s if oldest is not None else NEVER

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.rules.priority

    @property
    def asked_at(self) -> float:
        """When the first of those who wait for it came."""
        oldest = self.oldest
        if oldest is not None:
            return oldest.since_s
        arrivals = list(self.loads.values())
        if self.preload_since is not None:
            arrivals.append(self.preload_since)
        return min(arrivals)

    @property
    def moving(self) -> bool:
        """Its process is on the way somewhere."""
        if self.state in LEAVING:
            return not self.stuck
        return self.swap is not None and self.swap.phase is Phase.LOAD

    @property
    def next_rest(self) -> tuple[float, State] | None:
        """When it has been idle long enough, and what it does then; None: it has no clock."""
        rests: list[tuple[float, State]] = []
        rules = self.rules
        if self.state is State.READY and rules.can_sleep and rules.sleep_after_s > 0:
            rests.append((self.idle_since + rules.sleep_after_s, State.ASLEEP))
        if self.state in (State.READY, State.ASLEEP) and rules.ttl_s > 0:
            rests.append((self.idle_since + rules.ttl_s, State.STOPPED))
        return min(rests, default=None)

    @property
    def leave_by(self) -> Action:
        """How it leaves when it has to."""
        return Action.SLEEP if self.rules.can_sleep else Action.STOP

    def durations(self, kind: LoadKind | Action) -> Durations:
        """Return the measurements of one kind of move."""
        match kind:
            case LoadKind.START:
                return self.starts
            case LoadKind.WAKE:
                return self.wakes
            case Action.SLEEP:
                return self.sleeps
            case Action.STOP:
                return self.stops

    def measured_s(self, move: LoadKind | Action) -> float | None:
        """Return the median of what such moves took, None when none was measured."""
        return self.durations(move).p50_s

    @property
    def load_kind(self) -> LoadKind:
        """How it would become ready from where it is."""
        return LoadKind.WAKE if self.state is State.ASLEEP else LoadKind.START

    @property
    def load_estimate_s(self) -> float:
        """What its load, or its wake when asleep, is likely to take."""
        measured = self.durations(self.load_kind).p50_s
        return UNKNOWN_S if measured is None else measured

    @property
    def leave_estimate_s(self) -> float:
        """What its leaving is likely to take; nothing until one was measured."""
        return self.durations(self.leave_by).p50_s or 0.0


# --- the state of the scheduler -------------------------------------------------------------------

TimerKind = Literal["queue", "load", "preload", "idle", "due", "reopen", "drain"]
TimerKey = tuple[TimerKind, int | str]


class SchedulerState:
    """The scheduler's whole state.

    *running* are the models that take room, *awaited* those that requests, loads by hand or a
    preload wait for, *tickets* the waiting requests, *active_stops* the models that a stop or sleep
    of their own concerns, by its number. *watched* are the models whose becoming idle may let a
    swap begin. *needs_replan*: the planner decides anew at the end of the step.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        self.now = 0.0
        self.effects: list[Effect] = []
        self.needs_replan = False
        self.shutting_down = False
        self.models: dict[str, ModelState] = {}
        self.running: dict[str, ModelState] = {}
        self.awaited: dict[str, ModelState] = {}
        self.removed: dict[str, ModelState] = {}
        self.tickets: dict[int, Waiter] = {}
        self.swaps: dict[int, Swap] = {}
        self.active_stops: dict[int, ModelState] = {}
        self.watched: set[str] = set()
        self.timers: Timers[TimerKey] = Timers()
        self.residency: Residency = Groups()
        self.options = options
        self.policy: Policy = POLICIES[options.policy](options)
        self.last_number = 0

    def next_number(self) -> int:
        """Return a number never returned before, larger than all earlier ones."""
        self.last_number += 1
        return self.last_number

    def count_from(self, number: int) -> None:
        """Return *number* or more from now on."""
        self.last_number = max(self.last_number, number - 1)

    # --- who leaves ------------------------------------------------------------------------

    def plan(self, target: ModelState, *, beside: ModelState | None = None) -> Plan | NeverFits:
        """Return which of the running models leave for *target*; *beside* counts as running."""
        running: Collection[str] = self.running.keys()
        if beside is not None and beside.model_id not in self.running:
            running = [*running, beside.model_id]
        return self.residency.plan(target.model_id, running, self.models)

    def victims_of(self, plan: Plan) -> list[ModelState]:
        """Return the models that *plan* evicts."""
        return [self.models[name] for name in plan.victims]

    # --- where a model is ------------------------------------------------------------------

    def move(self, model: ModelState, to: State) -> None:
        """Note that *model* is in state *to* from now on."""
        if model.state is State.READY:
            self._end_turn(model)
        if to in LEAVING and model.state not in LEAVING:
            model.left_from = model.state
        model.state = to
        model.since_s = self.now
        model.stuck = False
        self._count_running(model)
        if to is State.READY:
            model.ready_at = model.idle_since = self.now
        model.refresh()
        self.arm_idle(model)
        self.needs_replan = True

    def arm_idle(self, model: ModelState) -> None:
        """Have the clocks of an idle *model* looked at when the first may run out."""
        rest = None if model.leases else model.next_rest
        if rest is not None:
            self.timers.set(("idle", model.model_id), rest[0])
            model.idle_armed = True

    def revert_leave(self, model: ModelState) -> None:
        """Note that *model*, which was to leave, did not after all: it is where it was before."""
        model.state = model.left_from
        model.since_s = model.ready_at
        model.refresh()
        self.arm_idle(model)
        self.needs_replan = True

    def release(self, model: ModelState) -> None:
        """Take *model* out of the swap that evicts it."""
        swap, model.evicted_by = model.evicted_by, None
        if swap is not None:
            swap.victims.pop(model.model_id, None)
            swap.requests_ended(model.leases)
        model.refresh()
        self.needs_replan = True

    def _count_running(self, model: ModelState) -> None:
        """Keep track of who takes room; one that is stopped out of its sleep does not."""
        name = model.model_id
        if model.state in AT_REST:
            self.running.pop(name, None)
        elif model.state is not State.STOPPING:
            self.running[name] = model

    def _end_turn(self, model: ModelState) -> None:
        model.turn_ended = self.now
        if self.now - model.ready_at >= MIN_UPTIME_S:
            model.backoff.clear()

    def note_left(self, model: ModelState, event: Idled) -> None:
        """Note where the leaving of *model* led, and what it took."""
        self.move(model, event.state)
        model.stuck = event.state is State.STOPPING
        if event.error is None:
            action = Action.SLEEP if event.state is State.ASLEEP else Action.STOP
            model.durations(action).append(event.duration_s)

    def end_swap(self, swap: Swap, outcome: SwapOutcome, error: str = "") -> None:
        """End *swap*; victims it did not evict stay ready."""
        del self.swaps[swap.work]
        swap.target.swap = None
        self.timers.cancel(("reopen", swap.work))
        for victim in swap.victims.values():
            victim.evicted_by = None
            if victim.state in LEAVING and not swap.draining:
                self.revert_leave(victim)
            victim.refresh()
        swap.note(self.now)
        self.effects.append(SwapEnded(swap.record(outcome, error, self.now)))
        self.needs_replan = True

    # --- requests --------------------------------------------------------------------------

    def fill(self, model: ModelState) -> None:
        """Grant free slots to those who wait, oldest first, as far as the gate allows."""
        while model.waiters and model.serves and len(model.leases) < model.limit:
            waiter = next(iter(model.waiters.values()))
            pending_stop = model.pending_stop
            if pending_stop is not None and waiter.number > pending_stop.served_first:
                return
            self.forget(waiter)
            model.leases[waiter.ticket] = self.now
            self.effects.append(Grant(waiter.ticket, model.model_id, self.now - waiter.since_s))

    def refuse(
        self,
        waiter: Waiter,
        reason: RefusalReason,
        *,
        why: str = "",
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send *waiter* away."""
        model = waiter.model
        self.forget(waiter)
        self.effects.append(
            Refuse(
                waiter.ticket,
                model.model_id,
                reason,
                model.state,
                why=why,
                waited_s=self.now - waiter.since_s,
                retry_after_s=retry_after_s,
                error=error,
            )
        )

    def refuse_all(
        self,
        model: ModelState,
        reason: RefusalReason,
        *,
        why: str = "",
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send all who wait for *model* away."""
        for waiter in list(model.waiters.values()):
            self.refuse(waiter, reason, why=why, retry_after_s=retry_after_s, error=error)

    def forget(self, waiter: Waiter) -> None:
        """Take *waiter* out of the queue."""
        model = waiter.model
        del model.waiters[waiter.ticket]
        del self.tickets[waiter.ticket]
        self.timers.cancel(("queue", waiter.ticket))
        self._forget_unwanted(model)

    # --- arrivals --------------------------------------------------------------------------

    def end_loads(
        self, model: ModelState, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Answer every load command that waits for *model*."""
        for command in list(model.loads):
            self.end_load(model, command, outcome, error)

    def end_load(
        self, model: ModelState, command: int, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Answer one load command that waits for *model*."""
        del model.loads[command]
        self.timers.cancel(("load", command))
        self.effects.append(CommandDone(command, outcome, error))
        self._forget_unwanted(model)

    def end_preload(
        self, model: ModelState, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Say how the preload of *model* ended, if one is under way."""
        if model.preload_since is None:
            return
        model.preload_since = None
        self.timers.cancel(("preload", model.model_id))
        self.effects.append(PreloadEnded(model.model_id, outcome, error))
        self._forget_unwanted(model)

    def _forget_unwanted(self, model: ModelState) -> None:
        """Note it when nothing waits for *model* any more."""
        if model.wanted:
            return
        self.awaited.pop(model.model_id, None)
        self.timers.cancel(("due", model.model_id))
        model.checked = False
