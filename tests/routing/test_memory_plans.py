"""Plans of a memory budget, against trying all ways to make room."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from random import Random
from typing import NamedTuple

from llmsnap.models import State
from llmsnap.routing.memory import Device, Memory, Need, Share
from llmsnap.routing.residency import Action, Blocked, NeverFits, Plan
from tests.drawn import cases
from tests.routing.facts import Facts

STOP, SLEEP = Action.STOP, Action.SLEEP
NAMES = "tabcde"


def takes(memory: Memory, shares: tuple[Share, ...], anywhere: int, gpu: str) -> list[int]:
    """Bytes by device; what may be on any GPU is on *gpu*, without one on the first."""
    sizes = dict.fromkeys([each.name for each in memory.devices], 0)
    for share in shares:
        sizes[share.device] += share.size
    sizes[gpu or "gpu0"] += anywhere
    return list(sizes.values())


def holds(memory: Memory, need: Need, model: Facts, *, asleep: bool) -> list[int]:
    """What it is taken to hold: what it needs, or was seen to hold in that state."""
    if asleep:
        held = takes(memory, need.asleep, need.asleep_anywhere, model.device)
    else:
        held = takes(memory, need.shares, need.anywhere, model.device)
    if not need.measured or need.is_measured_asleep is not asleep:
        return held
    return [max(a, b) for a, b in zip(held, takes(memory, need.measured, 0, ""), strict=True)]


class Way(NamedTuple):
    """One thing that may become of a model: what it holds then, and what that costs."""

    how: Action | None
    holds: list[int]
    cost: float = 0.0
    tie: tuple[bool, float] = (False, -math.inf)
    awake: tuple[int, ...] = ()


def cost(need: Need, model: Facts, action: Action, latest: float) -> float:
    seconds = 5.0 if model.start_s is None else model.start_s
    if action is SLEEP:
        seconds = min(0.9 * seconds, math.inf if model.wake_s is None else model.wake_s)
    uses = model.uses * 0.5 ** ((latest - model.idle_since) / 1200.0)
    likely = 0.05 + 0.95 * (1 - math.exp(-uses))
    loads = max(0.001, seconds * likely * need.evict_cost)
    late = model.state not in {State.READY, State.ASLEEP}
    return loads + (model.left_s if model.busy else 0.0) + (1e6 if late else 0.0)


def ways(memory: Memory, need: Need, target: Need, facts: Mapping[str, Facts]) -> list[Way]:
    """What may become of the model of *need* when *target* is loaded."""
    model = facts[need.model_id]
    latest = max(each.idle_since for each in facts.values())
    full = holds(memory, need, model, asleep=False)
    rest = holds(memory, need, model, asleep=True)
    nothing = [0] * len(full)
    elsewhere = model.leaves is not None and model.leaves[0] != target.model_id
    if elsewhere or model.state in {State.STOPPED, State.STOPPING}:
        return [Way(None, rest if model.leaves == ("u", SLEEP) else nothing)]
    if model.state is State.SLEEP_PENDING:
        return [Way(None, rest)]
    used = sys.float_info.max if model.busy else model.idle_since
    late = model.state is State.STARTING
    tie = (model.busy or late, math.inf if late else used)
    stop = Way(STOP, nothing, cost(need, model, STOP, latest), tie)
    sleep = Way(SLEEP, rest, cost(need, model, SLEEP, latest), tie)
    sleeps = model.leave_by is SLEEP
    if need.apart and need.apart == target.apart and model.state is not State.ASLEEP:
        return [Way(SLEEP, rest, awake=tuple(full)), stop] if sleeps else [Way(STOP, nothing)]
    if model.state is State.ASLEEP:
        return [Way(None, rest), *([stop] if any(rest) and not need.is_pinned else [])]
    may_leave = [sleep, stop] if sleeps else [stop]
    return [Way(None, full), *(may_leave if not need.is_pinned else [])]


def now(found: list[Way]) -> list[int]:
    """What is there before; of one that leaves in any case, what it keeps at most."""
    first = found[0]
    if first.how is SLEEP:
        return [min(a, b) for a, b in zip(first.holds, first.awake, strict=True)]
    return first.holds


Key = tuple[float, bool, float, list[int]]


def choices(
    memory: Memory, target: Need, place: str, facts: Mapping[str, Facts]
) -> Iterator[tuple[Key, dict[str, Action]]]:
    """Yield all ways to make room on *place*, and what they are compared by."""
    others = [each for each in memory.needs if each is not target]
    mine = takes(memory, target.shares, target.anywhere, place)
    free = [each.capacity - each.reserve - each.others for each in memory.devices]
    every = [ways(memory, each, target, facts) for each in others]
    # A device that the target does not use may be too full already; it must not become fuller.
    before = [sum(sizes) for sizes in zip(*(now(each) for each in every), strict=True)]
    room = [a if size else max(a, b) for a, b, size in zip(free, before, mine, strict=True)]
    for chosen in product(*every):
        used = [sum(sizes) for sizes in zip(mine, *(each.holds for each in chosen), strict=True)]
        if any(size > most for size, most in zip(used, room, strict=True)):
            continue
        pairs = list(zip(others, chosen, strict=True))
        paid = [number for number, each in enumerate(chosen) if each.cost]
        key = (
            round(sum(each.cost for each in chosen), 6),
            any(each.tie[0] for each in chosen),
            max(each.tie[1] for each in chosen),
            paid,
        )
        yield key, {need.model_id: way.how for need, way in pairs if way.how is not None}


def ever_fits(memory: Memory, target: Need, place: str) -> bool:
    """Whether *target* fits on *place* beside all that is pinned, wherever that is."""
    pinned = [each for each in memory.needs if each.always_stays and each is not target]
    gpus = [each.name for each in memory.devices if each.is_gpu]
    room = [each.capacity - each.reserve for each in memory.devices]
    mine = takes(memory, target.shares, target.anywhere, place)
    for where in product(gpus, repeat=len(pinned)):
        sizes = [
            takes(memory, each.shares, each.anywhere, gpu)
            for each, gpu in zip(pinned, where, strict=True)
        ]
        if all(sum(used) <= most for *used, most in zip(mine, *sizes, room, strict=True)):
            return True
    return False


# --- what is drawn --------------------------------------------------------------------------------

GPUS = ("gpu0", "gpu1")
STATES = (
    *[State.READY] * 4,
    State.ASLEEP,
    State.STARTING,
    State.STOPPED,
    State.STOPPING,
    State.SLEEP_PENDING,
)
LEAVES = (None, None, None, ("u", STOP), ("u", SLEEP), ("t", STOP))


def shares(chance: Random) -> tuple[Share, ...]:
    devices = [chance.choice(["gpu0", "gpu0", "gpu1", "ram"]) for _ in range(chance.randint(0, 2))]
    return tuple(Share(each, chance.randint(1, 6)) for each in dict.fromkeys(devices))


def machine(chance: Random) -> list[Device]:
    return [
        Device("gpu0", chance.randint(5, 14), chance.choice([0, 1])),
        Device("gpu1", chance.randint(3, 9), others=chance.choice([0, 0, 3])),
        Device("ram", chance.randint(8, 16)),
    ]


def needs(chance: Random, name: str) -> Need:
    return Need(
        name,
        shares(chance),
        chance.choice([0, 0, 4]),
        asleep=(Share("ram", 1),) if chance.random() < 0.5 else shares(chance),
        is_pinned=chance.random() < 0.2,
        evict_cost=chance.choice([1.0, 1.0, 3.0]),
        apart=chance.choice(["", "", "one"]),
        measured=(Share("gpu0", chance.randint(1, 6)),) if chance.random() < 0.5 else (),
        is_measured_asleep=chance.random() < 0.5,
    )


def models(chance: Random) -> Facts:
    state = chance.choice(STATES)
    return Facts(
        busy=state is State.READY and chance.random() < 0.4,
        idle_since=chance.choice([0.0, 60.0, 900.0]),
        state=state,
        start_s=chance.choice([None, 3.0, 3.0, 30.0]),
        wake_s=chance.choice([None, 1.0]),
        leave_by=chance.choice([STOP, SLEEP]),
        leaves=chance.choice(LEAVES) if state is State.READY else None,
        device=chance.choice(GPUS),
        uses=chance.choice([0.0, 2.0]),
        left_s=chance.choice([2.0, 40.0]),
    )


def question(chance: Random) -> tuple[Memory, dict[str, Facts]]:
    """A machine, and what runs on it; t is asked for."""
    names = NAMES[: chance.randint(2, len(NAMES))]
    defined = chance.sample(names, len(names))
    memory = Memory(machine(chance), [needs(chance, name) for name in defined])
    facts = {name: models(chance) for name in names}
    state = chance.choice([State.STOPPED, State.STOPPED, State.ASLEEP])
    facts["t"] = replace(facts["t"], state=state, busy=False, leaves=None)
    return memory, facts


def running(facts: Mapping[str, Facts]) -> list[str]:
    """The models that run once all decided swaps but that to t are over."""
    present = {
        name
        for name, one in facts.items()
        if one.state in {State.READY, State.STARTING, State.SLEEP_PENDING}
    }
    stays = {name for name, one in facts.items() if one.leaves is None or one.leaves[0] == "t"}
    return sorted(present & stays)


# --- the tests ------------------------------------------------------------------------------------


Choice = tuple[Key, int, dict[str, Action]]


def everything(memory: Memory, facts: dict[str, Facts]) -> tuple[list[str], list[Choice]]:
    """The GPUs on which t may be placed, and all ways to make room, with the GPU's number."""
    target = next(each for each in memory.needs if each.model_id == "t")
    places = [""] if not target.anywhere else ["gpu0", "gpu1"]
    if target.anywhere and facts["t"].state is State.ASLEEP:
        places = [facts["t"].device]
    places = [place for place in places if ever_fits(memory, target, place)]
    return places, [
        (key, number, how)
        for number, place in enumerate(places)
        for key, how in choices(memory, target, place, facts)
    ]


@cases(800)
def test_the_answer_is_the_best_of_all(chance: Random) -> None:
    memory, facts = question(chance)
    places, every = everything(memory, facts)
    found = memory.plan("t", running(facts), facts)
    if not every:
        assert isinstance(found, Blocked if places else NeverFits)
        return
    assert isinstance(found, Plan)
    assert found.room is not None
    best = min(every, key=lambda each: each[:2])
    assert (found.cost, found.how) == (best[0][0], best[2])
    assert found.room.device == places[best[1]]


@cases(400)
def test_a_plan_of_before_is_kept_only_if_all_its_victims_are_needed(chance: Random) -> None:
    """Models have moved since, and other programs have left."""
    memory, facts = question(chance)
    before = {name: models(chance) for name in chance.sample(NAMES[1:], chance.randint(0, 2))}
    others = chance.randint(0, 5)
    places, every = everything(memory, facts)
    earlier = {**facts, **before, "t": facts["t"]}
    full = Memory([replace(each, others=others) for each in memory.devices], memory.needs)
    current = full.plan("t", running(earlier), earlier)
    found = memory.plan("t", running(facts), facts)
    if not isinstance(current, Plan) or not isinstance(found, Plan):
        return
    kept = memory.plan("t", running(facts), facts, current)
    assert isinstance(kept, Plan)
    assert kept.room is not None
    fits = [how for _, number, how in every if places[number] == kept.room.device]
    assert kept.how in fits
    forced = set.intersection(*map(set, fits))
    for name in kept.how.keys() - forced:
        fewer = {other: action for other, action in kept.how.items() if other != name}
        assert fewer not in fits, "without this victim there is room"
    if kept.how != found.how:
        assert kept.how.keys() - forced <= current.how.keys()
        assert found.cost >= (kept.cost - kept.answers_s) * 0.9 - 1.0
