"""The scheduler's books: one entry per model, one record per waiter, swap and pending command."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from llmsnap.models import State
from llmsnap.routing.backoff import Backoff
from llmsnap.routing.durations import UNKNOWN_S, Durations
from llmsnap.routing.effects import CutReason
from llmsnap.routing.rules import ModelRules
from llmsnap.routing.swaps import Action, Eviction, LoadKind, SwapOutcome, SwapRecord

LEAVING = frozenset({State.SLEEP_PENDING, State.STOPPING})
AT_REST = frozenset({State.STOPPED, State.ASLEEP})
"""Not running: a model here never has to leave for another."""


class Phase(Enum):
    """How far a swap has come. Nobody has been evicted before EVICT."""

    DRAIN = "gates shut, waiting for requests in flight"
    REOPENED = "gates open once more, waiting for the requests of before"
    LAST_DRAIN = "gates shut for good"
    EVICT = "victims leaving"
    LOAD = "target loading"


PHASE_NAMES = {Phase.EVICT: "evict", Phase.LOAD: "load"}
DRAINING = frozenset({Phase.DRAIN, Phase.REOPENED, Phase.LAST_DRAIN})


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in the queue of *entry*; *number* grows with every arrival."""

    ticket: int
    entry: Entry
    since_s: float
    number: int


@dataclass(slots=True)
class Closing:
    """The model's gate is shut until it is stopped or asleep.

    *commands* are the API calls to answer then, *cut* why requests in flight need not end first,
    *owed*: waiters with a number up to this one are served first.
    """

    to: State
    commands: list[int] = field(default_factory=list)
    cut: CutReason | None = None
    owed: int = 0


@dataclass(slots=True, eq=False)
class Swap:
    """A swap from its decision to its end.

    *victims* are those that still have to leave, *evicted* what the driver was told, *former* the
    requests that were in flight when the gates shut first, *footprint* all models concerned.
    *doomed*: one of those to be evicted would not go, so the load will not come.
    """

    work: int
    target: Entry
    victims: dict[str, Entry]
    reason: str
    footprint: frozenset[str]
    began_s: float
    since_s: float
    phases: list[tuple[str, float]]
    phase: Phase = Phase.DRAIN
    kind: LoadKind = LoadKind.START
    evicted: tuple[Eviction, ...] = ()
    former: set[int] = field(default_factory=set)
    reopened: bool = False
    aborting: bool = False
    doomed: bool = False
    waits_s: tuple[float, ...] = ()

    def __repr__(self) -> str:
        victims = " ".join(self.victims) or "nobody"
        return f"<Swap {self.work} to {self.target.model_id}, {self.phase.name}, evicts {victims}>"

    @property
    def draining(self) -> bool:
        """Nobody has been evicted yet."""
        return self.phase in DRAINING

    def settle(self, tickets: Iterable[int]) -> None:
        """Note that requests of before ended; after the last, reopened gates shut for good."""
        self.former.difference_update(tickets)
        if self.phase is Phase.REOPENED and not self.former:
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


class Entry:
    """One model as the scheduler sees it.

    *open*: ready and no gate shut, so a free slot may be taken; kept by ``refresh``. *leases* maps
    tickets in flight to their start, *waiters* are in order of arrival. *swap* is the swap it is
    the target of, *claim* the one it has to leave for, *work* its own stop or sleep under way.
    *loads* maps load commands that wait for it to their arrival. *loaded_by* is the swap that made
    it ready. *stuck*: it could not be stopped.
    """

    __slots__ = (
        "backoff",
        "checked",
        "claim",
        "closing",
        "idle_armed",
        "idle_since",
        "leases",
        "limit",
        "loaded_by",
        "loads",
        "model_id",
        "open",
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
        self.state = State.STOPPED
        self.since_s = self.ready_at = self.idle_since = now
        self.turn_ended = float("-inf")
        self.open = self.checked = self.idle_armed = self.removed = self.stuck = False
        self.leases: dict[int, float] = {}
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()
        self.loads: dict[int, float] = {}
        self.preload_since: float | None = None
        self.swap: Swap | None = None
        self.claim: Swap | None = None
        self.work: int | None = None
        self.loaded_by = 0
        self.closing: Closing | None = None
        self.backoff = Backoff()
        self.starts, self.wakes = Durations(), Durations()
        self.sleeps, self.stops = Durations(), Durations()

    def __repr__(self) -> str:
        gate = "open" if self.open else "shut"
        return (
            f"<Entry {self.model_id} {self.state}, {gate}, "
            f"{len(self.leases)} in flight, {len(self.waiters)} waiting>"
        )

    def refresh(self) -> None:
        """Work out whether the gate is open."""
        self.open = self.closing is None and self.serves

    @property
    def serves(self) -> bool:
        """Ready, and no swap has shut the gate: those owed a turn before a sleep may be granted."""
        claim = self.claim
        return self.state is State.READY and (claim is None or claim.phase is Phase.REOPENED)

    @property
    def wanted(self) -> bool:
        """Somebody waits for this model: requests or sponsors."""
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
    def asked_at(self) -> float:
        """When the first of those who wait for it came."""
        oldest = self.oldest
        if oldest is not None:
            return oldest.since_s
        sponsors = list(self.loads.values())
        if self.preload_since is not None:
            sponsors.append(self.preload_since)
        return min(sponsors)

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


def swap_estimate_s(target: Entry, victims: Iterable[Entry]) -> float:
    """Return S: what evicting *victims* side by side and then loading *target* is likely to take.

    Drains are not counted.
    """
    return target.load_estimate_s + max((v.leave_estimate_s for v in victims), default=0.0)
