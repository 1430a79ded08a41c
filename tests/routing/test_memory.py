"""The memory budget: who leaves, how, and why; all plans are tried in test_memory_plans."""

from typing import Any

import pytest

from llmsnap.errors import in_full
from llmsnap.models import State
from llmsnap.routing.budget import grown
from llmsnap.routing.explain import error_of
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import Eviction, ModelRules, RefusalReason
from llmsnap.routing.occupancy import Occupancy
from llmsnap.routing.residency import (
    Action,
    Answer,
    Blocked,
    Considered,
    DeviceRoom,
    Lost,
    NeverFits,
    Plan,
    PlannedSwap,
)
from tests.routing.facts import Facts, gpu, need
from tests.routing.world import HELD, World


def plan(memory: Memory, running: str, current: Plan | None = None, **facts: Facts) -> Answer:
    """What leaves for t."""
    known = {each.model_id: Facts(state=State.STOPPED) for each in memory.needs}
    known |= {name: Facts() for name in running} | facts
    return memory.plan("t", list(running), known, current)


def planned(memory: Memory, running: str, current: Plan | None = None, **facts: Facts) -> Plan:
    found = plan(memory, running, current, **facts)
    assert isinstance(found, Plan)
    return found


def leaving(memory: Memory, running: str, **facts: Facts) -> dict[str, Action]:
    return dict(planned(memory, running, **facts).how)


MIB = 1024**2
A, B, C = need("a", 8), need("b", 4), need("c", 4)
STOP, SLEEP = Action.STOP, Action.SLEEP
SLEEPER = Facts(leave_by=SLEEP)
CARDS = [gpu(8), gpu(8, name="gpu1")]
PINS = [Need(name, anywhere=5 * GIB, is_pinned=True) for name in "pq"]
TIGHT = Device("ram", 380 * MIB)


def in_ram(source: str) -> Need:
    return Need("t", (Share("ram", 391 * MIB),), source=source)


def machine_of(things: list[Device | Need]) -> Memory:
    devices = [each for each in things if isinstance(each, Device)]
    return Memory(devices, [each for each in things if isinstance(each, Need)])


@pytest.mark.parametrize(
    ("target", "running", "facts", "how"),
    [
        (8, "a", {}, {}),  # both fit
        (8, "abc", {}, {"a": STOP}),  # the one that is enough
        (10, "bc", {}, {"b": STOP}),  # equal costs: order of definition
        (10, "bc", {"b": Facts(idle_since=9.0), "c": Facts(idle_since=1.0)}, {"c": STOP}),
        (10, "bc", {"b": Facts(busy=True), "c": Facts(idle_since=9.0)}, {"c": STOP}),
        (10, "bc", {"b": Facts(uses=5.0)}, {"c": STOP}),  # the one used less
        (12, "a", {"a": SLEEPER}, {"a": SLEEP}),
    ],
)
def test_the_cheapest_leave_that_make_enough_room(
    target: int, running: str, facts: dict[str, Facts], how: dict[str, Action]
) -> None:
    memory = Memory([gpu(16)], [need("t", target), A, B, C])
    assert leaving(memory, running, **facts) == how


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (
            [gpu(16, reserve=1), need("t", 16)],
            "it needs 16.0 GiB on gpu0; gpu0 has 16.0 GiB (1.0 GiB reserved)",
        ),
        (
            [gpu(16), need("t", 12), need("a", 8, is_pinned=True)],
            "it needs 12.0 GiB on gpu0; gpu0 has 16.0 GiB, beside a, which is pinned",
        ),
        (
            [*CARDS, need("t", 6), *PINS],
            "it needs 6.0 GiB on gpu0; gpu0 has 8.0 GiB, beside p, q, which are pinned",
        ),
        ([need("t", 1)], "it needs gpu0, which this machine does not have; there is no device"),
        (
            [gpu(8), gpu(6, name="gpu1"), Need("t", anywhere=9 * GIB)],
            "it needs 9.0 GiB on one GPU; gpu0 has 8.0 GiB, gpu1 has 6.0 GiB",
        ),
        ([TIGHT, in_ram("declared")], "it needs 391 MiB on ram; ram has 380 MiB"),
        (
            [TIGHT, in_ram("estimated")],
            "it needs 391 MiB on ram (estimated: give it a `memory` if it takes less); ram has "
            "380 MiB",
        ),
    ],
)
def test_what_can_never_fit_is_said_to_without_an_eviction(
    memory: list[Device | Need], reason: str
) -> None:
    assert plan(machine_of(memory), "") == NeverFits(reason)


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (
            [*CARDS, need("t", 6), PINS[0]],
            "t needs 6.0 GiB on gpu0; p is pinned and stays where it is",
        ),
        (
            [gpu(16, others=6), need("t", 12), need("a", 4)],
            "t needs 12.0 GiB on gpu0; other programs hold 6.0 GiB of gpu0 (game (pid 7))",
        ),
        (
            [Device("ram", 420 * MIB, others=46 * MIB), in_ram("measured 2026-11-30")],
            "t needs 391 MiB on ram (measured 2026-11-30); llmsnap and other programs hold 46 MiB "
            "of ram",
        ),
    ],
)
def test_what_does_not_fit_now_says_what_is_in_the_way(
    memory: list[Device | Need], reason: str
) -> None:
    assert plan(machine_of(memory), "ap", p=Facts(device="gpu0")) == Blocked(reason)


def test_an_unknown_need_is_the_whole_first_device_or_that_of_its_model() -> None:
    memory = Memory([gpu(16)], [Need("t", is_known=False), A, need("p", 2, is_pinned=True)])
    assert leaving(memory, "ap") == {"a": STOP}
    assert memory.held("t", "") == (14 * GIB,)
    assert memory.held("t", "", asleep=True) == (0,)
    other = Memory([gpu(16)], [need("t", 1), Need("a", is_known=False)])
    assert leaving(other, "a") == {"a": STOP}
    two = [gpu(16), gpu(8, name="gpu1")]
    busy_card = Memory([gpu(16, others=3, reserve=1)], [Need("t", is_known=False)])
    assert busy_card.held("t", "") == (12 * GIB,)
    placed = Memory(two, [need("t", 1), Need("a", is_known=False, device="gpu1")])
    assert placed.held("a", "") == (0, 8 * GIB)
    assert leaving(placed, "a") == {}


def test_a_model_that_is_leaving_is_waited_for_if_its_memory_is_needed() -> None:
    memory = Memory([gpu(16)], [need("t", 10), A, B])
    gone = Facts(state=State.STOPPING)
    found = planned(memory, "a", a=gone)
    assert (found.victims, found.cost, dict(found.how)) == (("a",), 0.0, {})
    assert planned(memory, "b", b=gone).victims == ()


def test_a_plan_says_what_it_takes_and_what_it_was_preferred_to() -> None:
    memory = Memory([gpu(16)], [need("t", 9), need("b", 6), need("c", 6)])
    found = planned(memory, "bc", b=Facts(start_s=3.0), c=Facts(start_s=30.0))
    assert found.why == "t needs 9.0 GiB of gpu0, of which 4.0 GiB is free"
    assert found.room is not None
    assert found.room.by_device == (DeviceRoom("gpu0", 9 * GIB, 10 * GIB),)
    assert [(each.victims, each.lost_by) for each in found.considered] == [(("c",), Lost.COST)]
    elsewhere = Need("u", (Share("gpu1", 6 * GIB),))
    placed = planned(Memory(CARDS, [Need("t", anywhere=6 * GIB), need("b", 6), elsewhere]), "ub")
    assert placed.victims == ("b",)
    assert placed.considered == (Considered(("u",), placed.cost, Lost.ORDER, "gpu1"),)


@pytest.mark.parametrize(
    ("b", "c", "victim"),
    [
        ({}, {"start_s": 9.0}, "b"),  # hardly cheaper
        ({}, {"busy": False}, "c"),
        ({"left_s": 3.0}, {"busy": False, "start_s": 60.0}, "c"),  # idle, and as cheap
        ({"left_s": 3.0}, {"busy": False, "start_s": 80.0}, "b"),
        ({"start_s": 900.0}, {}, "c"),  # much cheaper
        # Which answers end sooner does not count between two that are busy.
        ({"left_s": 3600.0}, {}, "b"),
    ],
)
def test_gates_stay_shut_for_a_plan_that_still_does(
    b: dict[str, Any], c: dict[str, Any], victim: str
) -> None:
    memory = Memory([gpu(16)], [need("t", 10), need("b", 6), need("c", 6)])
    current = planned(memory, "bc", b=Facts(busy=True), c=Facts(busy=True))
    assert current.victims == ("b",)
    now = {"b": Facts(**{"busy": True, **b}), "c": Facts(**{"busy": True, **c})}
    assert planned(memory, "bc", current, **now).victims == (victim,)


# --- swaps side by side ---------------------------------------------------------------------------


def test_swaps_fit_if_memory_is_enough_at_all_times() -> None:
    """u takes the room of a; t fits beside u, but not beside a, which is larger."""
    memory = Memory([gpu(16)], [need("t", 6), need("u", 4), need("a", 12), need("b", 2)])
    stopped = Facts(state=State.STOPPED)
    first = memory.plan("u", "ab", {"t": stopped, "u": stopped, "a": Facts(), "b": Facts()})
    assert isinstance(first, Plan)
    assert first.victims == ("a",)
    second = planned(memory, "ub", a=Facts(leaves=("u", STOP)))
    assert second.victims == ()
    assert not memory.compatible(PlannedSwap("u", first), PlannedSwap("t", second))
    assert memory.compatible(PlannedSwap("u", Plan(room=first.room)), PlannedSwap("t", second))


@pytest.mark.parametrize(("size", "fit"), [(12, True), (11, False)])
def test_a_swap_leaves_room_for_those_ranked_higher(size: int, fit: bool) -> None:
    memory = Memory([gpu(size)], [need("t", 6), need("u", 6)])
    one = PlannedSwap("t", planned(memory, ""))
    other = memory.plan("u", "", {"t": Facts(state=State.STOPPED)})
    assert isinstance(other, Plan)
    assert memory.compatible(one, PlannedSwap("u", other)) is fit
    assert not memory.compatible(one, one)


# --- with the scheduler ---------------------------------------------------------------------------


def world(size: int, *needs: Need, **rules: Any) -> World:
    names = " ".join(each.model_id for each in needs)
    return World(names, residency=Memory([gpu(size)], needs), **rules)


@pytest.mark.parametrize(
    ("usual", "before_s", "leaves", "answers_s"),
    [
        ((60.0, 8.0), 0.0, "b", 6.0),  # answers of a take long
        ((8.0, 60.0), 1.0, "a", 5.0),
        ((8.0, 8.0), 100.0, "b", 6.0),  # that of a has taken long already
    ],
)
def test_of_two_busy_models_the_one_leaves_whose_answers_are_likely_to_end_sooner(
    usual: tuple[float, float], before_s: float, leaves: str, answers_s: float
) -> None:
    machine = world(16, need("a", 8), need("b", 8), need("c", 8), max_hold_s=2.0)
    for _ in range(20):
        for name, answer_s in zip("ab", usual, strict=True):
            machine.request(name, answer_s).after(61.0)
    machine.request("a").after(before_s)
    machine.request("b")
    machine.request("c").after(3.0)
    (swap,) = machine.scheduler._state.swaps.values()
    assert list(swap.victims) == [leaves]
    assert swap.planned.plan.answers_s == pytest.approx(answers_s, abs=0.5)


def test_a_swap_that_drains_counts_on_the_gpu_it_will_use() -> None:
    costs = {"w": 100.0, "x": 1.0, "y": 1.0, "z": 1.0}
    anywhere = [Need(name, anywhere=8 * GIB, evict_cost=cost) for name, cost in costs.items()]
    machine = World("w x y z", residency=Memory(CARDS, anywhere))
    busy = [machine.request(name, 30.0) for name in "wx"]
    machine.run(20.0)
    for name in "yz":
        machine.request(name, 1.0)
    for asked in busy:
        machine.finish(asked)
    machine.run(40.0)
    assert [machine.state(name) for name in "wxyz"] == ["stopped", "stopped", "ready", "ready"]
    models = machine.scheduler._state.models
    assert {models["y"].device, models["z"].device} == {"gpu0", "gpu1"}


def test_a_load_that_ran_out_of_memory_is_tried_once_more_with_more_room() -> None:
    machine = world(16, need("a", 8), need("b", 7), need("c", 1))
    machine.serve("a", "c")
    machine.models["b"].lacks = 1
    first, second = machine.requests("b", 2, 1.0)
    assert first.after(20.0).granted_at == second.granted_at, "both waited on"
    evicted = [(each.outcome, each.evicted) for each in machine.records if each.target == "b"]
    assert evicted == [("failed", ()), ("done", (Eviction("a", STOP),))]
    assert machine.view("b").failures == 0


def test_a_load_that_always_runs_out_of_memory_is_tried_twice_until_it_can_never_fit() -> None:
    machine = world(16, need("a", 8), need("b", 13))
    machine.models["b"].lacks = 99
    reasons = []
    for _ in range(4):
        asked = machine.request("b").after(30.0)
        reasons.append(asked.reason)
    assert reasons == [RefusalReason.FAILED, *[RefusalReason.NEVER_FITS] * 3]
    assert machine.started == ["b"] * 3
    text = in_full(error_of(asked.refused))
    assert text.startswith("b does not fit: it needs 17.3 GiB on gpu0 (declared + ")
    assert text.endswith(", having run out of memory); gpu0 has 16.0 GiB")


def test_a_load_that_waits_for_memory_says_so_and_takes_a_phase_of_its_own() -> None:
    machine = world(16, need("a", 12), need("b", 12))
    machine.serve("a")
    machine.models["b"].held_s = 3.0
    machine.request("b", 1.0)
    assert machine.after(2.5).view("b").why == f"b waits for memory for 2 s: {HELD}"
    assert machine.scheduler.lacks_memory("b")
    assert machine.after(1.3).view("b").why.startswith("b has been loading")
    assert not machine.scheduler.lacks_memory("b")
    machine.run(9.0)
    phases = machine.records[-1].phases
    assert phases == (("wait", 0.0), ("evict", 0.5), ("barrier", 3.0), ("load", 1.0))


def test_a_need_grows_by_a_tenth_with_each_load_that_ran_out_of_memory() -> None:
    found = grown(Need("m", (Share("ram", 1000),), 100), 2)
    source = "declared + 21%, having run out of memory"
    assert found == Need("m", (Share("ram", 1210),), 121, source=source, lacks=2)


# --- what devices hold ----------------------------------------------------------------------------


def test_the_occupancy_follows_each_model_from_its_reservation_to_its_end() -> None:
    sleeps = ModelRules("a", can_sleep=True)
    needs = [need("a", 8, asleep=2), need("b", 12), Need("new", is_known=False)]
    machine = World("a b new", max_hold_s=2.0, a=sleeps)
    machine.residency = Memory([gpu(20, others=2, reserve=1)], needs)
    machine.configure()

    def held() -> tuple[list[tuple[str, int, bool]], list[tuple[str, int]], int]:
        (device,) = machine.scheduler.occupancy().devices
        residents = [(each.model, each.bytes // GIB, each.asleep) for each in device.residents]
        reserved = [(each.model, each.bytes // GIB) for each in device.reserved]
        taken = sum(each.bytes for each in (*device.residents, *device.reserved))
        left = device.capacity - device.reserve - device.others.bytes - taken
        assert device.free == max(0, left)
        return residents, reserved, device.free // GIB

    assert held() == ([], [], 17)
    busy = machine.request("a", 20.0).after(0.5)
    assert held() == ([], [("a", 8)], 9), "while it loads"
    machine.run(5.0)
    assert held() == ([("a", 8, False)], [], 9)
    machine.request("b", 60.0).after(5.0)
    assert held() == ([("a", 8, False)], [("b", 12)], 0), "while it drains"
    machine.finish(busy)
    machine.run(10.0)
    assert held() == ([("a", 2, True), ("b", 12, False)], [], 3)
    found = machine.scheduler.occupancy()
    assert (found.mode, found.devices[0].others.holders) == ("memory", "game (pid 7)")
    shown = [(each.model, each.need, each.asleep, each.source) for each in found.models]
    assert shown == [
        ("a", {"gpu0": 8 * GIB}, {"gpu0": 2 * GIB}, "declared"),
        ("b", {"gpu0": 12 * GIB}, {}, "declared"),
        ("new", {}, {}, "unknown"),
    ]
    assert [each.alone_on for each in found.models] == ["", "", "gpu0"]


def test_without_a_budget_no_device_is_known() -> None:
    assert World("a").scheduler.occupancy() == Occupancy("group")
