"""Residency by memory: models leave so that the target fits, at the least cost. Pure.

The figures come from outside, as a value: ``Need`` says what a model takes while it runs and
while it sleeps, ``Device`` what a device has and what other programs use. What each model holds
follows from its state. Cost is the time to load a victim again, times how often it was used lately,
times its ``evictCost``, and the time until the answers of a busy one have ended.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from llmsnap.config import device_order
from llmsnap.models import State
from llmsnap.routing.cover import Bytes, Cover, Way, cheapest, cover_of, is_needed
from llmsnap.routing.residency import (
    Action,
    Answer,
    Blocked,
    Considered,
    DeviceRoom,
    Freed,
    LoadKind,
    Lost,
    ModelFacts,
    NeverFits,
    Plan,
    PlannedSwap,
    Residency,
    Room,
)
from llmsnap.routing.timing import HALF_LIFE_S, UNKNOWN_S

MIB, GIB = 1024**2, 1024**3
GPU_PARTS = 10_000
"""Parts of a GPU: the smallest share that Ray counts is one."""
DECLARED, ESTIMATED = "declared", "estimated"
"""Sources of figures: the file, and what command and model files let expect."""
_NOWHERE = "-"
"""No device: what a model takes on any one GPU does not count."""


def is_node(device: str) -> bool:
    """Tell whether a device is a machine of a launcher, which has GPUs rather than bytes."""
    return "/" in device


def amount(device: str, size: int) -> float:
    """Return *size* as documents have it: in bytes, on a machine of a launcher in GPUs."""
    return size / GPU_PARTS if is_node(device) else size


@dataclass(frozen=True, slots=True)
class Device:
    """One device: bytes it has, keeps free, and other programs use. *holders* names those.

    A machine of a launcher, ``LAUNCHER/NODE``, is a device that has parts of GPUs, of which
    ``GPU_PARTS`` are one GPU. *labels* are what it is known to offer, None where that is unknown.
    """

    name: str
    capacity: int
    reserve: int = 0
    others: int = 0
    holders: str = ""
    labels: tuple[str, ...] | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether models that may run on any GPU may run on it."""
        return self.name.startswith("gpu") or is_node(self.name)


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes on a device."""

    device: str
    size: int


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes: *shares* on certain devices, *anywhere* on any one GPU.

    *asleep* and *asleep_anywhere* are what it keeps while it sleeps. An unknown need (*is_known*
    is False) is the whole of *device*, or of the first one if that is empty. Models of the same
    *apart* never run together; a *pinned* model leaves for no other one. *source* is where the
    figures come from, for people. *lacks* is how often a load ran out of memory with less: the
    figures of a running model have grown by it.
    *measured* is what it was seen to hold last, while it slept if *is_measured_asleep*. *labels*
    are those that its machine must have, where a launcher looks for one.
    """

    model_id: str
    shares: tuple[Share, ...] = ()
    anywhere: int = 0
    asleep: tuple[Share, ...] = ()
    asleep_anywhere: int = 0
    is_known: bool = True
    is_pinned: bool = False
    evict_cost: float = 1.0
    apart: str = ""
    source: str = DECLARED
    lacks: int = 0
    measured: tuple[Share, ...] = ()
    is_measured_asleep: bool = False
    device: str = ""
    labels: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """The devices that must exist for it."""
        if self.is_known:
            return tuple(each.device for each in self.shares if each.size)
        return (self.device,) if self.device else ()

    @property
    def always_stays(self) -> bool:
        """Whether it leaves for no model at all."""
        return self.is_pinned and not self.apart


class Memory(Residency):
    """Residency by a memory budget. *needs* are in order of definition."""

    replans = True
    """Which models leave depends on what else runs."""

    def __init__(self, devices: Iterable[Device], needs: Iterable[Need]) -> None:
        self.devices = tuple(devices)
        self.needs = tuple(needs)
        self._need_of = {need.model_id: need for need in self.needs}
        self._pinned = tuple(need for need in self.needs if need.always_stays)
        self._held: dict[tuple[str, str, bool], Bytes] = {}
        self._may_fit: dict[tuple[str, str], bool] = {}

    def __repr__(self) -> str:
        return f"<Memory {len(self.devices)} devices, {len(self.needs)} models>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memory) and (self.devices, self.needs) == (
            other.devices,
            other.needs,
        )

    def __hash__(self) -> int:
        return hash((self.devices, self.needs))

    def plan(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Plan | None = None,
        *,
        now: float = 0.0,
    ) -> Answer:
        """Return which models leave so that *target* fits, or why it does not."""
        need = self._need_of.get(target)
        if need is None:
            return Plan(stays=frozenset([*running, target]))
        places = list(self._places(need, facts.get(target)))
        fits = [place for place in places if self.may_fit(need, place)]
        if not fits:
            return NeverFits(self._why_never(need))
        ledger = _Ledger(self, target, running, facts, now)
        found = [one for place in fits if (one := ledger.best(place)) is not None]
        if not found:
            return Blocked(self._why_blocked(need, ledger))
        best = min(found, key=lambda one: one.cover.key)
        kept = ledger.kept(current) if current is not None else None
        if kept is not None and not _is_better(best, kept):
            best = kept
        return ledger.as_plan(best, found)

    def swap_set(self) -> MemorySwaps:
        """Return an empty set of swaps."""
        return MemorySwaps()

    def held(self, model_id: str, device: str, *, asleep: bool = False) -> Bytes:
        """Return what a model takes while it runs or sleeps, with *device* as its GPU."""
        key = (model_id, device, asleep)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = self._sizes(model_id, device, asleep=asleep)
        return found

    def _sizes(self, model_id: str, device: str, *, asleep: bool) -> Bytes:
        need = self._need_of.get(model_id)
        if need is None:
            return (0,) * len(self.devices)
        if not need.is_known:
            return (0,) * len(self.devices) if asleep else self._all_of(need.device)
        shares = need.asleep if asleep else need.shares
        anywhere = need.asleep_anywhere if asleep else need.anywhere
        device = device or next((each.name for each in self.devices if each.is_gpu), "")
        sizes = {each.device: each.size for each in shares}
        if anywhere:
            sizes[device] = sizes.get(device, 0) + anywhere
        return tuple(sizes.get(each.name, 0) for each in self.devices)

    def with_capacities(self, capacities: Mapping[str, int]) -> Memory:
        """Return the same budget if devices had *capacities*, in bytes; unknown ones are added."""
        devices = {each.name: each for each in self.devices}
        for name, capacity in capacities.items():
            devices[name] = replace(devices.get(name, Device(name, 0)), capacity=capacity)
        return Memory(
            sorted(devices.values(), key=lambda each: device_order(each.name)), self.needs
        )

    def why_never(self, model_id: str) -> str:
        """Return why a model can never be loaded; empty if it can."""
        need = self._need_of[model_id]
        if any(self.may_fit(need, place) for place in self._places(need, None)):
            return ""
        return self._why_never(need)

    def holds(self, model_id: str, device: str, *, asleep: bool = False) -> Bytes:
        """Return what a model that runs or sleeps holds: what it needs, or was seen to hold."""
        held = self.held(model_id, device, asleep=asleep)
        need = self._need_of.get(model_id)
        if need is None or not need.measured or need.is_measured_asleep is not asleep:
            return held
        measured = {each.device: each.size for each in need.measured}
        return tuple(
            max(size, measured.get(each.name, 0))
            for size, each in zip(held, self.devices, strict=True)
        )

    def need(self, model_id: str) -> Need | None:
        """Return the figures of a model; None for one that is not accounted for."""
        return self._need_of.get(model_id)

    @property
    def unknown(self) -> dict[str, str]:
        """The models of unknown need, with the device that each gets alone."""
        first = next((each.name for each in self.devices), "")
        return {each.model_id: each.device or first for each in self.needs if not each.is_known}

    def _all_of(self, device: str) -> Bytes:
        """Return the whole of *device*, or of the first one if that is empty."""
        pinned = [0] * len(self.devices)
        for need in self._pinned:
            if need.is_known:
                pinned = [a + b for a, b in zip(pinned, self.held(need.model_id, ""), strict=True)]
        free = [
            max(1, each.capacity - each.reserve - each.others - taken)
            for each, taken in zip(self.devices, pinned, strict=True)
        ]
        whole = device or next((each.name for each in self.devices), "")
        return tuple(
            size if each.name == whole else 0 for each, size in zip(self.devices, free, strict=True)
        )

    def _places(self, need: Need, model: ModelFacts | None) -> Iterator[str]:
        """Yield the GPUs on which *need* may be placed; one empty name where it has no choice."""
        if not need.anywhere:
            yield ""
        elif model is not None and model.state is State.ASLEEP and model.device:
            yield model.device
        else:
            yield from (each.name for each in self.devices if each.is_gpu)

    def may_fit(self, need: Need, place: str) -> bool:
        """Tell whether *need* fits on *place* beside the pinned models, wherever those are."""
        key = (need.model_id, place)
        found = self._may_fit.get(key)
        if found is None:
            known = {each.name for each in self.devices}
            found = known.issuperset(need.named)
            beside = [each for each in self._pinned if each is not need]
            found = found and self._have_places(self.held(need.model_id, place), beside)
            self._may_fit[key] = found
        return found

    def fits_together(self, model_ids: Collection[str]) -> bool:
        """Tell whether *model_ids* and those that always stay fit together, and nothing else."""
        needs = [each for each in self.needs if each.always_stays or each.model_id in model_ids]
        groups = [each.apart for each in needs if each.apart]
        if len(groups) > len(set(groups)):
            return False
        return self._have_places((0,) * len(self.devices), needs)

    def _have_places(self, taken: Bytes, needs: Collection[Need]) -> bool:
        """Tell whether *needs* fit beside what is *taken*, each on certain devices or any GPU."""
        sizes = [taken, *(self.held(each.model_id, _NOWHERE) for each in needs)]
        left = [
            each.capacity - each.reserve - sum(used)
            for each, used in zip(self.devices, zip(*sizes, strict=True), strict=True)
        ]
        movable = [each.anywhere for each in needs if each.is_known and each.anywhere]
        gpus = [size for each, size in zip(self.devices, left, strict=True) if each.is_gpu]
        return min(left, default=0) >= 0 and _can_pack(
            tuple(sorted(movable, reverse=True)), tuple(sorted(gpus))
        )

    def _why_never(self, need: Need) -> str:
        pinned = [each.model_id for each in self._pinned if each is not need]
        verb = "is" if len(pinned) == 1 else "are"
        kept = f", beside {', '.join(pinned)}, which {verb} pinned" if pinned else ""
        places = list(self._places(need, None))
        if not places:
            return "it needs a GPU, and there is none"
        what = self._shown(need)
        known = {each.name for each in self.devices}
        if missing := [name for name in need.named if name not in known]:
            what = f"{' and '.join(missing)}, which this machine does not have"
        sizes = [self.held(need.model_id, place) for place in places]
        wanted = [
            each for number, each in enumerate(self.devices) if any(one[number] for one in sizes)
        ]
        has = ", ".join(map(_shown_capacity, wanted or self.devices))
        return f"it needs {what}; {has or 'there is no device'}{kept}"

    def _why_blocked(self, need: Need, ledger: _Ledger) -> str:
        holders = [
            f"{'llmsnap and other' if each.name == 'ram' else 'other'} programs hold "
            f"{shown_size(each.others)} of {each.name}"
            + (f" ({each.holders})" if each.holders else "")
            for each in self.devices
            if each.others
        ]
        holders += [f"{name} is pinned and stays where it is" for name in ledger.pinned]
        what = self._shown(need)
        why = "; ".join(holders) or "models that leave still hold it"
        return f"{need.model_id} needs {what}; {why}"

    def _shown(self, need: Need) -> str:
        """Return what a model takes as people read it: "18.0 GiB on gpu0 and 4.0 GiB on ram"."""
        shares = need.shares
        if not need.is_known:
            sizes = self.held(need.model_id, "")
            shares = tuple(Share(a.name, b) for a, b in zip(self.devices, sizes, strict=True))
        shown = [f"{shown_size(each.size)} on {each.device}" for each in shares if each.size]
        if need.anywhere:
            shown.append(f"{shown_size(need.anywhere)} on one GPU")
        what = " and ".join(shown) or "nothing"
        if not need.is_known or need.source == DECLARED:
            return what
        hint = ": give it a `memory` if it takes less" if need.source == ESTIMATED else ""
        return f"{what} ({need.source}{hint})"


def _shown_capacity(device: Device) -> str:
    """Return what a device has as people read it: "gpu0 has 24.0 GiB (1.0 GiB reserved)"."""
    kept = f" ({shown_size(device.reserve)} reserved)" if device.reserve else ""
    return f"{device.name} has {shown_size(device.capacity)}{kept}"


@lru_cache(maxsize=4096)
def _can_pack(sizes: Bytes, rooms: Bytes) -> bool:
    """Tell whether *sizes*, the largest first, can be divided among *rooms*, in any order."""
    if not sizes or sum(sizes) > sum(rooms):
        return not sizes
    return any(
        _can_pack(sizes[1:], tuple(sorted((*rooms[:n], room - sizes[0], *rooms[n + 1 :]))))
        for n, room in enumerate(rooms)
        if room >= sizes[0] and (n == 0 or room != rooms[n - 1])
    )


def shown_size(size: int) -> str:
    """Return *size* as people read it: "18.0 GiB", "391 MiB"."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def shown_room(room: Iterable[DeviceRoom]) -> str:
    """Return *room* as people read it: "it needs 18.0 GiB on gpu0, where 20.0 GiB was free"."""
    shown = (
        f"{shown_size(each.takes)} on {each.device}, where {shown_size(each.free)} was free"
        for each in room
    )
    return f"it needs {' and '.join(shown)}"


# --- the ledger -----------------------------------------------------------------------------------

_REASONS = (Lost.COST, Lost.BUSY, Lost.RECENT)
_LEAVING = (State.SLEEP_PENDING, State.STOPPING)
_UNWILLING = 1e6
"""The cost of a model that is still to become ready: others leave before it."""
_LEAST_COST = 0.001
_SURE = 0.05
"""How likely a model is asked for soon that was not used lately."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model that may leave, and what each way costs and frees.

    *answers_s* is the part of each cost that it takes until its answers have ended.
    """

    model_id: str
    actions: tuple[Action, ...]
    ways: tuple[Way, ...]
    answers_s: float


@dataclass(frozen=True, slots=True)
class _Placed:
    """A choice of victims for the target on a GPU: what it takes, what was missing for it.

    *answers_s* is the part of its cost that it takes until answers have ended.
    """

    place: str
    takes: Bytes
    need: Bytes
    cover: Cover
    answers_s: float = 0.0


class _Ledger:
    """What is free for one target once all decided swaps are over, and who may leave for it."""

    def __init__(
        self,
        memory: Memory,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        now: float,
    ) -> None:
        self._memory = memory
        self._now = now
        self._target = target
        need = memory.need(target)
        self._apart = need.apart if need is not None else ""
        self._running = frozenset(running)
        self._latest = max((each.idle_since for each in facts.values()), default=0.0)
        self.free = [each.capacity - each.reserve - each.others for each in memory.devices]
        self.stays = {target, *running}
        self._forced: dict[str, Action] = {}
        self._freed: dict[str, Bytes] = {}
        self._grown = (0,) * len(memory.devices)
        self._leaving: dict[str, Bytes] = {}
        self.pinned: list[str] = []
        self._candidates: list[_Candidate] = []
        for need in memory.needs:
            model = facts.get(need.model_id)
            if model is None or need.model_id == target:
                continue
            if model.state is not State.STOPPED or need.model_id in self._running:
                self._account(need, model)

    def _account(self, need: Need, model: ModelFacts) -> None:
        name = need.model_id
        full = self._memory.holds(name, model.device)
        asleep = self._memory.holds(name, model.device, asleep=True)
        leaves = model.leaves
        if leaves is not None and leaves[0] != self._target:
            if leaves[1] is Action.SLEEP:
                self._take(asleep)
        elif model.state in _LEAVING:
            after = asleep if model.state is State.SLEEP_PENDING else (0,) * len(asleep)
            self._take(after)
            self._leaving[name] = _minus(full, after)
        elif name in self._running:
            self._take(full)
            if need.is_pinned and not self._is_apart(need):
                self.pinned.append(name)
            else:
                self._add_running(need, model, full, asleep)
        elif model.state is State.ASLEEP:
            self._take(asleep)
            self.stays.add(name)
            if not need.is_pinned and any(asleep):
                self._add(need, model, {Action.STOP: asleep})

    def _is_apart(self, need: Need) -> bool:
        """Tell whether a model and the target never run together."""
        return bool(need.apart) and need.apart == self._apart

    def _add_running(self, need: Need, model: ModelFacts, full: Bytes, asleep: Bytes) -> None:
        """Add a running model as a candidate: it may sleep, if it can, or stop."""
        sizes = {Action.STOP: full}
        if model.leave_by is Action.SLEEP:
            # Less than nothing where it keeps more asleep: weights that move to RAM.
            less = tuple(a - b for a, b in zip(full, asleep, strict=True))
            sizes = {Action.SLEEP: less, Action.STOP: full}
        if not self._is_apart(need):
            self._add(need, model, sizes)
            return
        action = self._forced[need.model_id] = next(iter(sizes))
        self._freed[need.model_id] = sizes[action]
        self._take(tuple(-size for size in sizes[action]))
        self._grown = tuple(a - min(0, b) for a, b in zip(self._grown, sizes[action], strict=True))
        if action is Action.SLEEP and any(asleep):
            self._add(need, model, {Action.STOP: asleep})

    def _add(self, need: Need, model: ModelFacts, sizes: Mapping[Action, Bytes]) -> None:
        """Add a candidate that leaves in one of the ways *sizes*, each with what it frees."""
        answers_s, tie = model.answers_s(self._now), _tie(model)
        ways = tuple(
            Way(reload_cost(need, model, action, self._latest) + answers_s, frees, tie)
            for action, frees in sizes.items()
        )
        self._candidates.append(_Candidate(need.model_id, tuple(sizes), ways, answers_s))

    def _take(self, sizes: Bytes) -> None:
        self.free = [a - b for a, b in zip(self.free, sizes, strict=True)]

    def best(self, place: str) -> _Placed | None:
        """Return the best way to make room on *place*, None if there is none."""
        takes = self._memory.held(self._target, place)
        need = self._missing(takes)
        cover = cheapest([each.ways for each in self._candidates], need)
        if cover is None:
            return None
        return _Placed(place, takes, need, cover, self._answers_s(cover))

    def _answers_s(self, cover: Cover) -> float:
        pairs = zip(self._candidates, cover.chosen, strict=True)
        return sum(each.answers_s for each, index in pairs if index is not None)

    def _missing(self, takes: Bytes) -> Bytes:
        """Return what is not free of *takes*; below zero: what victims may take to sleep.

        A device that the target does not use may be too full already; it must not become fuller.
        """
        return tuple(
            taken - free if taken else min(grown, -free) if free < 0 else -free
            for taken, free, grown in zip(takes, self.free, self._grown, strict=True)
        )

    def kept(self, current: Plan) -> _Placed | None:
        """Return the plan that gates are shut for, if it still frees enough, and not too much."""
        place = current.room.device if current.room is not None else ""
        takes = self._memory.held(self._target, place)
        need = self._missing(takes)
        chosen: list[int | None] = []
        for each in self._candidates:
            action = current.how.get(each.model_id)
            chosen.append(each.actions.index(action) if action in each.actions else None)
        ways = [each.ways for each in self._candidates]
        if not is_needed(ways, chosen, need):
            return None
        cover = cover_of(ways, chosen)
        return _Placed(place, takes, need, cover, self._answers_s(cover))

    def as_plan(self, best: _Placed, found: Collection[_Placed]) -> Plan:
        """Return the plan of *best*; *found* are the best ones of each GPU."""
        how = dict(self._forced)
        freed = dict(self._freed)
        left = [a - b for a, b in zip(self.free, best.takes, strict=True)]
        for each, index in zip(self._candidates, best.cover.chosen, strict=True):
            if index is not None:
                how[each.model_id] = each.actions[index]
                size = each.ways[index].frees
                before = freed.get(each.model_id, (0,) * len(size))
                freed[each.model_id] = tuple(a + b for a, b in zip(before, size, strict=True))
                left = [a + b for a, b in zip(left, size, strict=True)]
        return Plan(
            victims=tuple(sorted({*how, *self._waited_for(best.takes, left)})),
            how=how,
            why=self._why(best),
            cost=best.cover.key[0],
            answers_s=best.answers_s,
            rivals=partial(self._considered, best, found),
            stays=frozenset(self.stays.difference(how)),
            room=Room(
                best.place,
                best.takes,
                tuple(left),
                tuple(Freed(name, size) for name, size in sorted(freed.items())),
                tuple(each.name for each in self._memory.devices),
            ),
        )

    def _waited_for(self, takes: Bytes, left: list[int]) -> list[str]:
        """Return the models that are leaving by themselves, if their memory is needed."""
        pending = [sum(sizes) for sizes in zip(*self._leaving.values(), strict=True)]
        short = [
            number for number, size in enumerate(pending) if takes[number] and size > left[number]
        ]
        return [
            name for name, sizes in self._leaving.items() if any(sizes[number] for number in short)
        ]

    def _considered(self, best: _Placed, found: Collection[_Placed]) -> tuple[Considered, ...]:
        """Return the next best two plans, and what they lost by.

        They spare one of the victims of the best one, or are on another GPU.
        """
        rivals = {each.cover.chosen: each for each in found if each.place != best.place}
        for number, index in enumerate(best.cover.chosen):
            if index is None:
                continue
            ways = [each.ways if n != number else () for n, each in enumerate(self._candidates)]
            cover = cheapest(ways, best.need)
            if cover is not None:
                rivals.setdefault(cover.chosen, replace(best, cover=cover))
        rivals.pop(best.cover.chosen, None)
        return tuple(
            Considered(
                tuple(sorted({*self._forced, *self._victims(each.cover)})),
                each.cover.key[0],
                _lost_by(each.cover, best.cover),
                each.place,
            )
            for each in sorted(rivals.values(), key=lambda each: each.cover.key)[:2]
        )

    def _victims(self, cover: Cover) -> list[str]:
        pairs = zip(self._candidates, cover.chosen, strict=True)
        return [each.model_id for each, index in pairs if index is not None]

    def _why(self, best: _Placed) -> str:
        devices = self._memory.devices
        shown = [
            f"{shown_size(size)} of {each.name}, "
            f"of which {shown_size(max(0, size - max(0, missing)))} is free"
            for each, size, missing in zip(devices, best.takes, best.need, strict=True)
            if size
        ]
        return f"{self._target} needs {' and '.join(shown) or 'no memory'}"


def reload_cost(need: Need, model: ModelFacts, action: Action, latest: float) -> float:
    """Return the time to load *model* again, weighted by how likely that is.

    *latest* is when any model was used last. Sleep counts less than a stop whatever was measured:
    it is the way where it frees enough.
    """
    start_s = model.measured_s(LoadKind.START)
    seconds = UNKNOWN_S if start_s is None else start_s
    if action is Action.SLEEP:
        wake_s = model.measured_s(LoadKind.WAKE)
        seconds = min(0.9 * seconds, math.inf if wake_s is None else wake_s)
    uses = model.uses * 0.5 ** ((latest - model.idle_since) / HALF_LIFE_S)
    likely = _SURE + (1.0 - _SURE) * (1.0 - math.exp(-uses))
    cost = max(_LEAST_COST, seconds * likely * need.evict_cost)
    return cost if model.state in (State.READY, State.ASLEEP) else cost + _UNWILLING


def _minus(one: Bytes, other: Bytes) -> Bytes:
    return tuple(max(0, a - b) for a, b in zip(one, other, strict=True))


def _tie(model: ModelFacts) -> tuple[bool, float]:
    if model.state not in (State.READY, State.ASLEEP):
        return True, math.inf
    return model.busy, sys.float_info.max if model.busy else model.idle_since


def _is_better(best: _Placed, kept: _Placed) -> bool:
    """Tell whether *best* is worth opening the gates that are shut for *kept*.

    What the answers of *kept* still take counts only against a plan that waits for no answers:
    else busy models might be drained in turns without end.
    """
    (cost, busy, *_), (cost_now, busy_now, *_) = best.cover.key, kept.cover.key
    if busy_now and not busy:
        return cost <= cost_now
    return cost < (cost_now - kept.answers_s) * 0.9 - 1.0


def _lost_by(cover: Cover, best: Cover) -> Lost:
    if cover.key < best.key:
        return Lost.LATE
    for reason, one, other in zip(_REASONS, cover.key[:3], best.key[:3], strict=True):
        if one != other:
            return reason
    return Lost.ORDER


# --- swaps side by side ---------------------------------------------------------------------------


class MemorySwaps:
    """Swaps as what they take and free, at each moment until all are over."""

    def __init__(self) -> None:
        self._swaps: list[PlannedSwap] = []
        self._models: set[str] = set()

    def add(self, swap: PlannedSwap) -> None:
        """Count *swap* in."""
        self._swaps.append(swap)
        self._models.update(swap.models)

    def admits(self, swap: PlannedSwap) -> bool:
        """Tell whether *swap* shares no model with the others and always fits beside them.

        While a decided swap is under way its victims hold what its target will take, or more; one
        that is not decided yet will take what its target needs beyond what its victims free.
        """
        if not self._models.isdisjoint(swap.models):
            return False
        room = swap.plan.room
        if room is None:
            return True
        left = dict(zip(room.names, room.left, strict=True))
        for other in self._swaps:
            if other.plan.room is None:
                continue
            decided = other.target in swap.plan.stays
            # Its devices may be others, if the configuration has changed since it was decided.
            for name, size in zip(other.plan.room.names, _extra(other), strict=True):
                left[name] = left.get(name, 0) - max(0, -size if decided else size)
        return all(left[each.device] >= 0 for each in room.by_device)

    def blocks(self, target: str) -> bool:
        """Return False: what a swap needs depends on its plan."""
        del target
        return False


def _extra(swap: PlannedSwap) -> list[int]:
    """Return what *swap* takes beyond what its victims, as far as they are there, free."""
    room = swap.plan.room or Room()
    sizes = list(room.takes)
    for freed in room.frees:
        if freed.model_id in swap.plan.victims:
            sizes = [a - b for a, b in zip(sizes, freed.size, strict=True)]
    return sizes
