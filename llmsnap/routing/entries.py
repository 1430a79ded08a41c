"""Models, waiters and swaps as the scheduler keeps them. Pure.

``SchedulerState`` (in ``state``) holds them; their methods change nothing but themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from llmsnap.models import State
from llmsnap.routing.messages import (
    CutReason,
    Due,
    Eviction,
    ModelRules,
    Step,
    SwapOutcome,
    SwapRecord,
)
from llmsnap.routing.policies import NEVER
from llmsnap.routing.residency import Action, LoadKind, PlannedSwap
from llmsnap.routing.timing import UNKNOWN_S, Backoff, Durations

LEAVING = frozenset({State.SLEEP_PENDING, State.STOPPING})
AT_REST = frozenset({State.STOPPED, State.ASLEEP})
"""Not running: a model here never has to leave for another."""
TICKETS_KEPT = 20
"""Requests that the record of a swap names."""


class Phase(Enum):
    """How far a swap has come. No model has been evicted before EVICT."""

    DRAIN = "gates shut, waiting for requests in flight"
    REOPENED = "gates open once more, waiting for the requests of before"
    LAST_DRAIN = "gates shut for good"
    EVICT = "victims leaving"
    BARRIER = "waiting for the memory of the victims"
    LOAD = "target loading"


PHASE_NAMES = {Phase.EVICT: "evict", Phase.BARRIER: "barrier", Phase.LOAD: "load"}
BEFORE_LOAD = frozenset({"failed_wake", "failed_check", "placing"})
"""Parts of a load before a server starts: a wake that failed, the wait for a machine to run it."""
DRAINING = frozenset({Phase.DRAIN, Phase.REOPENED, Phase.LAST_DRAIN})
LOADING = frozenset({Phase.BARRIER, Phase.LOAD})
"""All victims have left."""


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
    *served_first*: waiters with a number up to this one are served first. *if_faulty*: it is only
    stopped if its server does not work; *check* is the number of that check, 0 before it begins.
    """

    to: State
    commands: list[int] = field(default_factory=list)
    cut: CutReason | None = None
    served_first: int = 0
    if_faulty: bool = False
    check: int = 0

    def make_certain(self) -> None:
        """Have the model stopped whether it works or not."""
        self.if_faulty = False

    def join(self, command: int) -> None:
        """Have *command* answered, too, once the model is stopped or asleep."""
        self.commands.append(command)

    def cut_requests(self, reason: CutReason) -> None:
        """Do not wait for requests in flight; the first *reason* counts."""
        self.cut = self.cut or reason


@dataclass(slots=True, eq=False)
class Swap:
    """A swap from its decision to its end.

    *victims* are those that still have to leave, *evicted* what the driver was asked to evict,
    *in_flight_before* the requests that were in flight when the gates shut first, *planned* the
    plan it follows, *due* why it was decided when it was, *steps* the parts of the present phase so
    far. *tickets* are the first requests that wait or waited for it. *eviction_failed*: a victim
    could not be stopped, so the load does not begin. *held_by*: what memory the load waits for.
    """

    work: int
    target: ModelState
    victims: dict[str, ModelState]
    reason: str
    planned: PlannedSwap
    due: Due
    began_s: float
    since_s: float
    phases: list[tuple[str, float]]
    steps: dict[str, float] = field(default_factory=dict)
    phase: Phase = Phase.DRAIN
    kind: LoadKind = LoadKind.START
    evicted: tuple[Eviction, ...] = ()
    in_flight_before: set[int] = field(default_factory=set)
    reopened: bool = False
    aborting: bool = False
    eviction_failed: bool = False
    waits_s: tuple[float, ...] = ()
    tickets: list[int] = field(default_factory=list)
    held_by: str = ""

    def __repr__(self) -> str:
        victims = " ".join(self.victims) or "no model"
        return f"<Swap {self.work} to {self.target.model_id}, {self.phase.name}, evicts {victims}>"

    @property
    def draining(self) -> bool:
        """No model has been evicted yet."""
        return self.phase in DRAINING

    @property
    def loading(self) -> bool:
        """All victims have left, and the target loads or is about to."""
        return self.phase in LOADING

    def hold(self, why: str, now: float) -> None:
        """Note that the load waits for memory, and why; empty: it begins now."""
        self.held_by = why
        if not why:
            self.enter(Phase.LOAD, now)
        else:
            self.phase = Phase.BARRIER  # in place of the load, which has not begun

    def mark_aborting(self) -> None:
        """Note that the driver was asked to give the load up."""
        self.aborting = True

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

    def add_steps(self, steps: Iterable[Step]) -> None:
        """Note parts of the present phase; of those of victims side by side the longest counts."""
        for step in steps:
            self.steps[step.name] = max(step.seconds, self.steps.get(step.name, 0.0))

    def note(self, now: float) -> None:
        """Note how long the present phase took; the parts of a drain count as one."""
        took = now - self.since_s
        steps, self.steps = tuple(self.steps.items()), {}
        rest_s = max(0.0, took - sum(seconds for _, seconds in steps))
        rest = (PHASE_NAMES.get(self.phase, "drain"), rest_s)
        if took > 0:
            is_evict = self.phase is Phase.EVICT
            early = [step for step in steps if is_evict or step[0] in BEFORE_LOAD]
            self.phases += [*early, rest, *(step for step in steps if step not in early)]

    def note_waiters(self) -> None:
        """Add the requests that wait for the target to *tickets*, up to ``TICKETS_KEPT``."""
        for ticket in self.target.waiters:
            if len(self.tickets) == TICKETS_KEPT:
                return
            if ticket not in self.tickets:
                self.tickets.append(ticket)

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
            plan=self.planned.plan,
            due=self.due,
            tickets=tuple(self.tickets),
        )


class ModelState:
    """One model as the scheduler sees it.

    *open*: ready and no gate shut, so a free slot may be taken; kept by ``refresh``. *leases* maps
    tickets in flight to their start, *waiters* are in order of arrival. *swap* is the swap it is
    the target of, *evicted_by* the one it has to leave for, *work* its own stop or sleep under way.
    *loads* maps load commands that wait for it to their arrival. *answer_s* is what its answers
    take on average, later ones counting more. *loaded_by* is the swap that made it ready. *stuck*:
    it could not be stopped. *retries*: how many loads for those who wait failed because there was
    no room after all. *blocked*: it fits, but other programs hold its room.
    """

    __slots__ = (
        "answer_s",
        "backoff",
        "blocked",
        "checked",
        "device",
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
        "retries",
        "rules",
        "since_s",
        "sleeps",
        "starts",
        "state",
        "stops",
        "stuck",
        "swap",
        "turn_ended",
        "uses",
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
        self.device = ""
        self.uses = 0.0
        self.answer_s = UNKNOWN_S
        self.open = self.checked = self.idle_armed = self.removed = self.stuck = False
        self.blocked = False
        self.retries = 0
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

    def note_checked(self) -> None:
        """Note that the driver was asked to check its start since it is waited for."""
        self.checked = True

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
        """When its oldest request came; where none waits, the first load by hand or preload."""
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
        return self.swap is not None and self.swap.loading

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

    def answers_s(self, now: float) -> float:
        """Return how long the answers under way are likely to take from *now*; 0 when idle.

        An answer is taken to last as long as usual, or twice as long as it has lasted so far if
        that is more. So of all in flight either the oldest or the youngest is the last to end.
        """
        if not self.leases:
            return self.answer_s if self.waiters else 0.0
        oldest, youngest = next(iter(self.leases.values())), next(reversed(self.leases.values()))
        return max(self.answer_s - (now - youngest), now - oldest)

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
    def leaves(self) -> tuple[str, Action] | None:
        """The target of the swap that evicts it, and how it leaves; None: it stays."""
        swap = self.evicted_by
        if swap is None:
            return None
        action = swap.planned.plan.how.get(self.model_id, self.leave_by)
        return swap.target.model_id, action

    @property
    def leave_estimate_s(self) -> float:
        """What its leaving is likely to take; nothing until one was measured."""
        return self.durations(self.leave_by).p50_s or 0.0
