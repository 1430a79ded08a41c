"""Which idle models leave for memory that other programs take, and when."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from llmsnap.models import State
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import ModelRules, SchedulerOptions
from llmsnap.routing.residency import Action, Groups
from llmsnap.routing.yielding import PAUSE_S, Leaving, may_help, next_to_leave
from tests.drawn import cases
from tests.routing.facts import Facts, need
from tests.routing.world import World, group

STOP, SLEEP = Action.STOP, Action.SLEEP
GAME = "game (7) 6144 MiB"


def card(others: int, *, reserve: int = 2) -> Device:
    return Device("gpu0", 16 * GIB, reserve * GIB, others * GIB, GAME if others else "")


def leaving(*needs: Need, others: int, idle: str = "abc", **facts: Facts) -> Leaving | None:
    known = {each.model_id: Facts() for each in needs} | facts
    return next_to_leave(Memory([card(others)], needs), known, [n for n in known if n in idle])


A, B = need("a", 6), need("b", 6)
GONE = Facts(state=State.STOPPED)
SLEEPER = Facts(leave_by=SLEEP)


@pytest.mark.parametrize(
    ("needs", "others", "facts", "leaves"),
    [
        ((A, B), 2, {}, None),  # 2 GiB are free
        ((A, B), 3, {}, ("a", STOP)),  # equal costs: order of definition
        ((A, B), 3, {"a": Facts(uses=5.0)}, ("b", STOP)),
        ((A, B), 3, {"b": Facts(start_s=2.0)}, ("b", STOP)),  # loads faster
        ((replace(A, is_pinned=True), B), 3, {}, ("b", STOP)),
        ((need("a", 6, asleep=1), B), 3, {"a": SLEEPER}, ("a", SLEEP)),
        ((need("a", 6, asleep=6), B), 3, {"a": SLEEPER}, ("a", STOP)),  # sleep frees nothing
        ((need("a", 6, asleep=3), B), 6, {"a": Facts(state=State.ASLEEP)}, ("a", STOP)),
        ((replace(A, measured=(Share("gpu0", GIB),)), B), 3, {}, None),  # it holds less
        ((need("a", 10), B), 0, {}, None),  # no other program
    ],
)
def test_the_cheapest_idle_model_leaves_where_others_took_the_reserve(
    needs: tuple[Need, ...], others: int, facts: dict[str, Facts], leaves: tuple[str, Action] | None
) -> None:
    found = leaving(*needs, others=others, **facts)
    assert found == (None if leaves is None else Leaving(*leaves, "gpu0", GAME))


@pytest.mark.parametrize(
    ("in_ram", "others", "action"), [(2, 0, SLEEP), (2, 1, STOP), (3, 0, STOP), (9, 0, STOP)]
)
def test_a_model_is_stopped_where_ram_has_no_room_for_what_it_keeps_asleep(
    in_ram: int, others: int, action: Action
) -> None:
    kept, small = (Share("ram", 6 * GIB),), (Share("ram", GIB),)
    moves = Need("a", (Share("gpu0", 12 * GIB), *small), asleep=kept)
    beside = Need("b", (Share("ram", in_ram * GIB),))
    ram = Device("ram", 9 * GIB, GIB, others * GIB)
    memory = Memory([card(3), ram], [moves, beside])
    found = next_to_leave(memory, {"a": SLEEPER, "b": Facts()}, ["a"])
    assert found == Leaving("a", action, "gpu0", GAME)


@pytest.mark.parametrize(
    ("in_ram", "to"), [(2, "asleep"), (3, "stopped"), (None, "asleep")], ids=str
)
def test_an_idle_model_is_stopped_instead_where_ram_has_no_room_for_it_asleep(
    in_ram: int | None, to: str
) -> None:
    found = World("a b", a=ModelRules("a", can_sleep=True, sleep_after_s=10.0))
    if in_ram is not None:
        moves = Need("a", (Share("gpu0", 12 * GIB),), asleep=(Share("ram", 6 * GIB),))
        beside = Need("b", (Share("ram", in_ram * GIB),))
        found.residency = Memory([card(0), Device("ram", 9 * GIB, GIB)], [moves, beside])
    else:
        found.residency = Groups([group("all", "a b", swap=False)])
    found.configure()
    found.serve("b", "a")
    assert found.after(9.0).state("a") == to
    assert found.roomless == ([("a", "ram")] if to == "stopped" else [])


def test_models_in_use_stay() -> None:
    assert leaving(A, B, others=3, idle="b") == Leaving("b", STOP, "gpu0", GAME)
    assert leaving(A, B, others=3, idle="") is None


def world(*needs: Need, yields: bool = True) -> World:
    names = " ".join(each.model_id for each in needs)
    found = World(names, residency=Memory([card(0)], needs), a=ModelRules("a", can_sleep=True))
    found.options = SchedulerOptions(yields=yields)
    found.configure()
    return found


def take(machine: World, others: int) -> None:
    assert isinstance(machine.residency, Memory)
    machine.refigure(Memory([card(others)], machine.residency.needs))


def test_one_model_after_the_other_leaves_until_the_reserve_is_free() -> None:
    machine = world(need("a", 4), need("b", 4), need("c", 4))
    machine.serve("a", "b", "c")
    busy = machine.request("b")
    take(machine, 7)
    began = machine.now
    assert machine.after(30.0).yielded == [(began, "a"), (began + PAUSE_S, "c")]
    states = [machine.state(name) for name in "abc"]
    assert states == ["asleep", "ready", "stopped"]
    take(machine, 12)
    assert machine.after(30.0).state("b") == "ready", "it serves"
    machine.finish(busy)
    machine.run(30.0)
    assert [name for _, name in machine.yielded] == ["a", "c", "b"]
    waiting = machine.request("b")
    assert waiting.after(30.0).pending
    assert machine.scheduler.lacks_memory("b")
    assert f"other programs hold 12.0 GiB of gpu0 ({GAME})" in machine.view("b").why
    take(machine, 1)
    assert waiting.after(5.0).granted_at is not None
    assert not machine.scheduler.lacks_memory("b")


def test_models_stay_unless_they_are_to_yield() -> None:
    machine = world(need("a", 4), yields=False)
    machine.serve("a")
    take(machine, 14)
    assert machine.after(60.0).state("a") == "ready"


@cases(60)
def test_no_model_leaves_that_is_in_use_or_too_soon_and_in_the_end_the_reserve_is_free(
    chance: Random,
) -> None:
    """``World`` itself asserts that a model that leaves neither serves nor is waited for."""
    needs = [
        need(name, chance.randint(0, 5), asleep=chance.randint(0, 1), is_pinned=name == "d")
        for name in "abcd"
    ]
    machine = world(*needs)
    for _ in range(chance.randint(3, 12)):
        match chance.choice(["request", "others", "time"]):
            case "request":
                hold_s = chance.choice([0.1, 3.0, 20.0])
                machine.request(chance.choice("abcd"), hold_s, max_wait_s=60.0)
            case "others":
                take(machine, chance.randint(0, 15))
            case "time":
                machine.run(chance.choice([0.5, 4.0, 12.0]))
    machine.run(300.0)
    assert isinstance(machine.residency, Memory)
    assert not may_help(machine.residency, machine.scheduler._state.models)
    assert all(later - sooner >= PAUSE_S for (sooner, _), (later, _) in pairwise(machine.yielded))
    assert "d" not in [name for _, name in machine.yielded]
    assert machine.wake_at is None, "nothing is looked at any more"
