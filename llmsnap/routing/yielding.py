"""Memory that other programs take: idle models leave for it, the cheapest first. Pure.

Measured figures say what other programs hold of a device. Where less than the reserve is free
because of them, one idle model after the other leaves, until the reserve is free again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from llmsnap.models import State
from llmsnap.routing.cover import Bytes
from llmsnap.routing.entries import ModelState
from llmsnap.routing.memory import Memory, Need, reload_cost
from llmsnap.routing.messages import Yielded
from llmsnap.routing.pools import budget_in
from llmsnap.routing.residency import Action, ModelFacts
from llmsnap.routing.state import SchedulerState

PAUSE_S = 5.0
"""The shortest time between two models that leave: figures follow what happens with a delay."""
MIN_LOOK_S = 1.0
"""The shortest time after which it is looked again whether a model has to leave."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A model that is to leave, and the device that lacks memory because of *holders*."""

    model_id: str
    action: Action
    device: str
    holders: str = ""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way for a model to leave."""

    need: Need
    action: Action
    cost: float


def may_help(memory: Memory, facts: Mapping[str, ModelFacts]) -> bool:
    """Tell whether a device lacks memory because of other programs, and a model could leave it."""
    return any(
        _present(memory, need, facts[need.model_id])[number]
        for number in _short(memory, facts)
        for need in memory.needs
        if need.model_id in facts and not need.is_pinned
    )


def next_to_leave(
    memory: Memory, facts: Mapping[str, ModelFacts], idle: Collection[str]
) -> Leaving | None:
    """Return which of the *idle* models leaves next, and how; None: none has to, or none can.

    A model that can sleep sleeps, where that frees anything, and where what it keeps meanwhile has
    room: weights may move to RAM. Pinned models stay.
    """
    latest = max((each.idle_since for each in facts.values()), default=0.0)
    left = _left(memory, facts)
    for number in _short(memory, facts):
        free_to_leave = [
            need for need in memory.needs if need.model_id in idle and not need.is_pinned
        ]
        found = (
            _way(memory, each, facts[each.model_id], number, left, latest) for each in free_to_leave
        )
        ways = [way for way in found if way is not None]
        if ways:
            best = min(ways, key=lambda way: (way.cost, facts[way.need.model_id].idle_since))
            device = memory.devices[number]
            return Leaving(best.need.model_id, best.action, device.name, device.holders)
    return None


def no_room_asleep(memory: Memory, facts: Mapping[str, ModelFacts], model_id: str) -> str:
    """Return the device that has no room for what a ready model keeps asleep; "" if all have."""
    need = memory.need(model_id)
    if need is None:
        return ""
    model = facts[model_id]
    return _too_small(memory, need, model, _present(memory, need, model), _left(memory, facts))


def _too_small(
    memory: Memory, need: Need, model: ModelFacts, held: Bytes, left: Collection[int]
) -> str:
    """Return the device that lacks room for what *model* keeps asleep; "" if none does.

    *held* is what it holds now, *left* what each device has free.
    """
    asleep = memory.holds(need.model_id, model.device, asleep=True)
    sizes = zip(memory.devices, held, asleep, left, strict=True)
    return next((each.name for each, now, after, free in sizes if after - now > max(0, free)), "")


def _short(memory: Memory, facts: Mapping[str, ModelFacts]) -> list[int]:
    """Return the numbers of the devices that lack memory because of other programs."""
    left = _left(memory, facts)
    return [
        number for number, each in enumerate(memory.devices) if each.others and left[number] < 0
    ]


def _left(memory: Memory, facts: Mapping[str, ModelFacts]) -> list[int]:
    """Return what each device has free beyond its reserve; below zero: what it lacks of that."""
    left = [each.capacity - each.reserve - each.others for each in memory.devices]
    for need in memory.needs:
        if need.model_id in facts:
            sizes = _present(memory, need, facts[need.model_id])
            left = [a - b for a, b in zip(left, sizes, strict=True)]
    return left


def _present(memory: Memory, need: Need, model: ModelFacts) -> Bytes:
    """Return what *model* holds now: as measured, where it was; else what it needs."""
    asleep = model.state in (State.ASLEEP, State.SLEEP_PENDING)
    if model.state in (State.STOPPED, State.STOPPING, State.SHUTDOWN):
        return (0,) * len(memory.devices)
    if need.measured and need.is_measured_asleep is asleep:
        measured = {each.device: each.size for each in need.measured}
        return tuple(measured.get(each.name, 0) for each in memory.devices)
    return memory.held(need.model_id, model.device, asleep=asleep)


def _way(
    memory: Memory, need: Need, model: ModelFacts, number: int, left: Collection[int], latest: float
) -> _Way | None:
    """Return how an idle *model* leaves for the memory of a device; None: it holds none of it.

    *left* is what each device has free.
    """
    held = _present(memory, need, model)
    if not held[number]:
        return None
    asleep = memory.holds(need.model_id, model.device, asleep=True)
    can_sleep = model.state is State.READY and model.leave_by is Action.SLEEP
    has_room = not _too_small(memory, need, model, held, left)
    sleeps = can_sleep and has_room and asleep[number] < held[number]
    action = Action.SLEEP if sleeps else Action.STOP
    return _Way(need, action, reload_cost(need, model, action, latest))


# --- what the scheduler does ----------------------------------------------------------------------


class Yields:
    """Lets idle models leave for memory that other programs take, one each ``PAUSE_S``.

    *rest* has a model stop, or sleep.
    """

    def __init__(self, state: SchedulerState, rest: Callable[[ModelState, State], None]) -> None:
        self._state = state
        self._rest = rest
        self._last_at = float("-inf")

    def look(self, _key: int | str = 0) -> None:
        """Let a model leave if one has to, and look again as long as one may have to."""
        state = self._state
        memory = budget_in(state.residency)
        if not state.options.yields or memory is None or state.shutting_down:
            return
        if not may_help(memory, state.models):
            return
        if state.now >= self._last_at + PAUSE_S:
            idle = [name for name, model in state.models.items() if _is_idle(model)]
            leaving = next_to_leave(memory, state.models, idle)
            if leaving is not None:
                self._leave(leaving)
        state.look_for_memory(max(self._last_at + PAUSE_S - state.now, MIN_LOOK_S))

    def _leave(self, leaving: Leaving) -> None:
        self._last_at = self._state.now
        name = leaving.model_id
        self._state.effects.append(Yielded(name, leaving.device, leaving.holders))
        to = State.ASLEEP if leaving.action is Action.SLEEP else State.STOPPED
        self._rest(self._state.models[name], to)


def _is_idle(model: ModelState) -> bool:
    """Nothing is in flight, waits for *model*, or is about to happen to it."""
    return (
        model.state in (State.READY, State.ASLEEP)
        and not (model.leases or model.wanted or model.removed)
        and model.swap is None
        and model.evicted_by is None
        and model.pending_stop is None
    )
