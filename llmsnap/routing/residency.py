"""Residency decides who: which models must leave so that another may load. Pure.

``Residency`` is the seam: the scheduler asks what has to leave for a target, and whether swaps may
run side by side; ``policies`` say when. ``Groups`` is the first implementation, ``matrix`` has
another; a further one needs no change of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from llmsnap.models import State


class LoadKind(StrEnum):
    """How a model becomes ready."""

    START = "start"
    WAKE = "wake"


class Action(StrEnum):
    """How a model leaves."""

    STOP = "stop"
    SLEEP = "sleep"


# --- the seam -------------------------------------------------------------------------------------


class ModelFacts(Protocol):
    """What is known of one model when a plan is made. Times are on the scheduler's clock."""

    @property
    def state(self) -> State:
        """What its process is doing; one that starts or wakes takes its room already."""

    @property
    def busy(self) -> bool:
        """Requests are in flight or waiting."""

    @property
    def idle_since(self) -> float:
        """When its last request ended."""

    @property
    def priority(self) -> int:
        """Higher is served first."""

    @property
    def leave_by(self) -> Action:
        """How it leaves unless a plan says otherwise."""

    @property
    def leaves(self) -> tuple[str, Action] | None:
        """The target of the decided swap that evicts it, and how it leaves; None: it stays."""

    @property
    def device(self) -> str:
        """The GPU it was placed on by its last load; empty where it had no choice."""

    @property
    def uses(self) -> float:
        """How often it became idle, with a half-life of ``HALF_LIFE_S``, as of ``idle_since``."""

    @property
    def retries(self) -> int:
        """How many loads for those who wait now failed because there was no room after all."""

    def measured_s(self, move: LoadKind | Action) -> float | None:
        """Return the median of what such moves took, None when none was measured."""

    def answers_s(self, now: float) -> float:
        """Return how long the answers under way are likely to take from *now*; 0 when idle."""


class Lost(StrEnum):
    """Why a plan was not chosen: what the chosen one is better by."""

    COST = "cost"
    BUSY = "busy"
    RECENT = "recent"
    ORDER = "order"
    LATE = "late"
    """It became better by use alone after gates were shut for the chosen one."""


@dataclass(frozen=True, slots=True)
class Considered:
    """A plan that was not chosen, and why. *device* is the GPU it would place the target on."""

    victims: tuple[str, ...]
    cost: float
    lost_by: Lost
    device: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The combination of a matrix that a plan makes room for: its set, and the part of it."""

    set_name: str
    expression: str
    combination: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """What one victim frees, in bytes by device."""

    model_id: str
    size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceRoom:
    """Bytes that a model takes on a device, and those that are free there when it loads."""

    device: str
    takes: int
    free: int


@dataclass(frozen=True, slots=True)
class Room:
    """What a plan of a memory budget takes and frees, in bytes by device.

    *device* is the GPU it was placed on where it had a choice. *takes* is what the target needs
    beyond what it holds, *left* what is free once this swap and all decided ones are over. *names*
    are those of the devices.
    """

    device: str = ""
    takes: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    frees: tuple[Freed, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def by_device(self) -> tuple[DeviceRoom, ...]:
        """What the target takes on each device that it uses, and what is free for it there."""
        sizes = zip(self.names, self.takes, self.left, strict=True)
        return tuple(DeviceRoom(name, takes, takes + left) for name, takes, left in sizes if takes)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models leave before a target loads.

    *victims* are sorted. *how* names those that leave in another way than by default: to sleep if
    they can, else to stop. *why* is the rule that decided, for people. *cost* is what the victims
    cost, of which *answers_s* are the seconds that their answers under way are likely to take.
    *stays* are the models that run once the swap is over, for a residency that plans by what
    runs. *allowed* is what a matrix allows, *room* what a memory budget accounts for. *rivals*
    works out the next best plans.
    """

    victims: tuple[str, ...] = ()
    how: Mapping[str, Action] = field(default_factory=dict)
    why: str = ""
    cost: float = 0.0
    answers_s: float = 0.0
    stays: frozenset[str] = frozenset()
    allowed: Allowed | None = None
    room: Room | None = None
    rivals: Callable[[], tuple[Considered, ...]] = field(default=tuple, compare=False, repr=False)

    @property
    def considered(self) -> tuple[Considered, ...]:
        """The next best plans, which are only worked out when asked for."""
        return self.rivals()


@dataclass(frozen=True, slots=True)
class NeverFits:
    """The target can never load, whatever leaves; *reason* names need and capacity."""

    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The target fits, but other programs hold its room now; *reason* names them, for people.

    What only our own models hold is no reason: a ``Plan`` names those as victims, and the scheduler
    waits for them. The target waits on and reserves nothing meanwhile. The scheduler asks again
    whenever one of its facts changes, and after *recheck_s*, since no event tells of other
    programs.
    """

    reason: str
    recheck_s: float = 5.0


Answer = Plan | NeverFits | Blocked


@dataclass(frozen=True, slots=True)
class PlannedSwap:
    """A target and the plan to load it by: what other swaps must be compatible with."""

    target: str
    plan: Plan

    @property
    def models(self) -> tuple[str, ...]:
        """All models concerned."""
        return (self.target, *self.plan.victims)


class SwapSet(Protocol):
    """Some swaps, and whether another one may run beside all of them."""

    def add(self, swap: PlannedSwap) -> None:
        """Count *swap* in."""

    def admits(self, swap: PlannedSwap) -> bool:
        """Tell whether *swap* is compatible with all swaps of the set together."""

    def blocks(self, target: str) -> bool:
        """Tell whether no swap to *target* can be admitted, and adding one would change nothing.

        A quick answer that spares the plan; False is always right.
        """


class Residency(Protocol):
    """One way to say what may be in memory together. Immutable; equal ones decide the same.

    Implementations inherit what has a default.
    """

    @property
    def replans(self) -> bool:
        """Whether plans depend on what else runs.

        Then *running* counts decided swaps as over: their targets are in it, their victims are not.
        A decided swap is planned again whenever a fact changes, until its first victim leaves.
        """

    def plan(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Plan | None = None,
        *,
        now: float = 0.0,
    ) -> Answer:
        """Return which models leave so that *target* may load, or why it may not.

        *running* are the models that take room, *facts* are of every model, *target* included.
        *current* is the plan that gates are shut for: it is returned unless it no longer does, or
        another one is cheaper, or as cheap with all victims idle.
        """

    def swap_set(self) -> SwapSet:
        """Return an empty set of swaps."""

    def compatible(self, one: PlannedSwap, other: PlannedSwap) -> bool:
        """Tell whether the two swaps may run side by side."""
        swaps = self.swap_set()
        swaps.add(one)
        return swaps.admits(other)


# --- groups ---------------------------------------------------------------------------------------

ALONE = Plan()
_NO_GROUP = -1


@dataclass(frozen=True, slots=True)
class Group:
    """Models that share swap rules."""

    name: str
    members: tuple[str, ...]
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False
    places: tuple[str, ...] = ("local",)
    """The launchers of its members: ``exclusive`` concerns groups that share one."""

    def excludes(self, other: Group) -> bool:
        """Tell whether it takes the room of another group that does not keep its own."""
        if not self.exclusive or other.persistent:
            return False
        return self.places == other.places or not frozenset(self.places).isdisjoint(other.places)


class Groups(Residency):
    """Residency by groups: which models leave follows from the group of each.

    Loading T makes M leave when both are in one group with ``swap``, or when T's group is
    ``exclusive`` and M is in another group of the same launcher that is not ``persistent``. This is
    not symmetric: a
    non-exclusive model loads beside an exclusive one. A model of no group evicts no other and is
    evicted by exclusive groups only.
    """

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self.groups = tuple(groups)
        self._number = {m: i for i, group in enumerate(self.groups) for m in group.members}

    def __repr__(self) -> str:
        return f"<Groups {len(self.groups)} groups, {len(self._number)} models>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and other.groups == self.groups

    def __hash__(self) -> int:
        return hash(self.groups)

    replans = False
    """Which models leave depends on the target alone."""

    def plan(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Plan | None = None,
        *,
        now: float = 0.0,
    ) -> Plan:
        """Return which of *running* must leave; groups leave no choice, so *facts* do not count."""
        mine = self.group_of(target)
        if mine == _NO_GROUP or not (self.groups[mine].swap or self.groups[mine].exclusive):
            return ALONE
        number, expels = self._number, self.expels
        victims = [
            other
            for other in running
            if other != target and expels(mine, number.get(other, _NO_GROUP))
        ]
        if not victims:
            return ALONE
        return Plan(tuple(sorted(victims)), why=f"{target} is in group {self.groups[mine].name}")

    def swap_set(self) -> GroupSwaps:
        """Return an empty set of swaps."""
        return GroupSwaps(self)

    def group_of(self, model_id: str) -> int:
        """Return the number of the group of *model_id*, -1 for none."""
        return self._number.get(model_id, _NO_GROUP)

    def expels(self, mine: int, theirs: int) -> bool:
        """Tell whether loading a model of group *mine* makes another one of *theirs* leave."""
        if mine == _NO_GROUP:
            return False
        if mine == theirs:
            return self.groups[mine].swap
        if theirs == _NO_GROUP:
            return self.groups[mine].exclusive
        return self.groups[mine].excludes(self.groups[theirs])


class GroupSwaps:
    """Swaps as the models and groups they concern.

    Compares groups, so the cost does not grow with the number of models of a group.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._models: set[str] = set()
        self._numbers: set[int] = set()

    def add(self, swap: PlannedSwap) -> None:
        """Count *swap* in."""
        for model_id in swap.models:
            self._models.add(model_id)
            self._numbers.add(self._groups.group_of(model_id))

    def admits(self, swap: PlannedSwap) -> bool:
        """Tell whether no model of *swap* is in the set, or excludes one that is."""
        mine: set[int] = set()
        for model_id in swap.models:
            if model_id in self._models:
                return False
            mine.add(self._groups.group_of(model_id))
        expels = self._groups.expels
        return not any(
            expels(one, other) or expels(other, one) for one in mine for other in self._numbers
        )

    def blocks(self, target: str) -> bool:
        """Tell whether the set touches the swap group of *target*.

        Then no swap to it is admitted, and it concerns no group that the set does not.
        """
        group = self._groups.group_of(target)
        return group in self._numbers and group != _NO_GROUP and self._groups.groups[group].swap
