"""The memory budget: who leaves, how, and why; property tests are in test_scheduler_properties."""

from __future__ import annotations

from typing import Any

import pytest

from llmsnap.errors import in_full
from llmsnap.models import State
from llmsnap.routing.budget import grown
from llmsnap.routing.explain import error_of
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import (
    Due,
    DueRule,
    Eviction,
    ModelRules,
    RefusalReason,
)
from llmsnap.routing.occupancy import Occupancy
from llmsnap.routing.policies import AT_ONCE
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
from tests.routing.facts import Facts
from tests.routing.world import HELD, World


def gpu(size: int, *, others: int = 0, reserve: int = 0, name: str = "gpu0") -> Device:
    return Device(name, size * GIB, reserve * GIB, others * GIB, "game (pid 7)" if others else "")


def need(name: str, size: int, *, asleep: int = 0, **more: object) -> Need:
    shares = (Share("gpu0", size * GIB),) if size else ()
    kept = (Share("gpu0", asleep * GIB),) if asleep else ()
    return Need(name, shares, asleep=kept, **more)  # type: ignore[arg-type]


def plan(
    memory: Memory, running: str, current: Plan | None = None, now: float = 0.0, **facts: Facts
) -> Answer:
    """What leaves for t."""
    known = {each.model_id: Facts(state=State.STOPPED) for each in memory.needs}
    known |= {name: Facts() for name in running} | facts
    return memory.plan("t", list(running), known, current, now=now)


def leaving(memory: Memory, running: str, **facts: Facts) -> dict[str, Action]:
    found = plan(memory, running, **facts)
    assert isinstance(found, Plan)
    assert set(found.victims) == set(found.how)
    return dict(found.how)


A, B, C = need("a", 8), need("b", 4), need("c", 4)
STOP, SLEEP = Action.STOP, Action.SLEEP
SLEEPER = Facts(leave_by=SLEEP)


@pytest.mark.parametrize(
    ("target", "running", "facts", "how"),
    [
        (8, "a", {}, {}),  # both fit
        (12, "a", {}, {"a": STOP}),
        (8, "abc", {}, {"a": STOP}),  # the one that is enough
        (10, "bc", {}, {"b": STOP}),  # equal costs: order of definition
        (10, "bc", {"b": Facts(idle_since=9.0), "c": Facts(idle_since=1.0)}, {"c": STOP}),
        (10, "bc", {"b": Facts(busy=True), "c": Facts(idle_since=9.0)}, {"c": STOP}),
        (10, "bc", {"b": Facts(busy=True), "c": Facts(busy=True, left_s=4.0)}, {"c": STOP}),
        (10, "bc", {"b": Facts(start_s=2.0)}, {"b": STOP}),  # the one that loads faster
        (10, "bc", {"b": Facts(uses=5.0)}, {"c": STOP}),  # the one used less
        (16, "abc", {}, {"a": STOP, "b": STOP, "c": STOP}),
        (10, "bc", {"b": Facts(state=State.STARTING)}, {"c": STOP}),
        (12, "a", {"a": SLEEPER}, {"a": SLEEP}),
        # Uses count less as time goes by.
        (
            10,
            "bc",
            {"b": Facts(start_s=12.0, uses=3.0), "c": Facts(uses=1.0, idle_since=6e3)},
            {"b": STOP},
        ),
    ],
)
def test_the_cheapest_leave_that_make_enough_room(
    target: int, running: str, facts: dict[str, Facts], how: dict[str, Action]
) -> None:
    memory = Memory([gpu(16)], [need("t", target), A, B, C])
    assert leaving(memory, running, **facts) == how


@pytest.mark.parametrize(
    ("target", "how"),
    [(6, {}), (10, {"s": SLEEP}), (15, {"s": STOP})],
)
def test_a_victim_sleeps_if_what_it_keeps_still_lets_the_target_fit(
    target: int, how: dict[str, Action]
) -> None:
    memory = Memory([gpu(16)], [need("t", target), need("s", 8, asleep=2)])
    assert leaving(memory, "s", s=SLEEPER) == how


@pytest.mark.parametrize(
    ("ram", "in_ram", "apart", "action"),
    [(8, 2, "", SLEEP), (8, 3, "", STOP), (5, 8, "", STOP), (8, 2, "g", SLEEP), (8, 3, "g", STOP)],
)
def test_a_victim_does_not_sleep_into_ram_that_is_full(
    ram: int, in_ram: int, apart: str, action: Action
) -> None:
    """Also where the target takes none of it."""
    moves = Need("s", (Share("gpu0", 8),), asleep=(Share("ram", 6),), apart=apart)
    other = Need("o", (Share("ram", in_ram),), evict_cost=99.0)
    target = Need("t", (Share("gpu0", 8),), apart=apart)
    memory = Memory([Device("gpu0", 12), Device("ram", ram)], [target, moves, other])
    assert leaving(memory, "so", s=SLEEPER) == {"s": action}


def test_a_sleeping_model_that_is_pinned_keeps_what_it_keeps() -> None:
    memory = Memory([gpu(16)], [need("t", 15), need("s", 8, asleep=2, is_pinned=True)])
    assert isinstance(plan(memory, "", s=Facts(state=State.ASLEEP)), Blocked | NeverFits)
    some = Memory([gpu(16)], [need("t", 10), need("s", 5, asleep=2, is_pinned=True), need("a", 6)])
    assert leaving(some, "a", s=Facts(state=State.ASLEEP, start_s=0.1)) == {"a": STOP}


def test_a_model_on_its_way_out_keeps_what_it_keeps_asleep() -> None:
    memory = Memory([gpu(16)], [need("t", 15), need("a", 12, asleep=2)])
    assert isinstance(plan(memory, "a", a=Facts(state=State.SLEEP_PENDING)), Blocked)
    stops = plan(memory, "a", a=Facts(state=State.STOPPING))
    assert isinstance(stops, Plan)
    assert stops.victims == ("a",)


def test_a_sleeping_model_may_be_the_cheapest_to_stop() -> None:
    memory = Memory([gpu(16)], [need("t", 9), need("s", 8, asleep=2), need("a", 6)])
    asleep = Facts(state=State.ASLEEP, start_s=3.0)
    beside = plan(Memory([gpu(16)], [need("t", 1), need("s", 8, asleep=2)]), "", s=asleep)
    assert isinstance(beside, Plan)
    assert beside.stays == frozenset("st")
    assert leaving(memory, "a", s=asleep, a=Facts(start_s=60.0)) == {"s": STOP}
    assert leaving(memory, "a", s=asleep, a=Facts(start_s=1.0)) == {"a": STOP}


def test_a_cost_of_its_own_keeps_a_model() -> None:
    memory = Memory([gpu(16)], [need("t", 10), need("b", 6, evict_cost=9.0), need("c", 6)])
    assert leaving(memory, "bc") == {"c": STOP}


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (
            Memory([gpu(16, reserve=1)], [need("t", 16)]),
            "it needs 16.0 GiB on gpu0; gpu0 has 15.0 GiB",
        ),
        (
            Memory([gpu(16)], [need("t", 12), need("a", 8, is_pinned=True)]),
            "it needs 12.0 GiB on gpu0; gpu0 has 16.0 GiB, beside a, which is pinned",
        ),
        (
            Memory([], [need("t", 1)]),
            "it needs gpu0, which this machine does not have; there is no device",
        ),
    ],
)
def test_what_can_never_fit_is_said_to_without_an_eviction(memory: Memory, reason: str) -> None:
    assert plan(memory, "") == NeverFits(reason)


def test_a_reserve_is_kept_free() -> None:
    cases: list[tuple[int, dict[str, Action]]] = [(2, {}), (3, {"a": STOP})]
    for reserve, how in cases:
        memory = Memory([gpu(16, reserve=reserve)], [need("t", 8), need("a", 6)])
        assert leaving(memory, "a") == how
    larger = Memory([gpu(8), gpu(6, name="gpu1")], [Need("t", anywhere=9 * GIB)])
    assert plan(larger, "") == NeverFits(
        "it needs 9.0 GiB on one GPU; gpu0 has 8.0 GiB, gpu1 has 6.0 GiB"
    )


def test_a_pinned_model_on_any_gpu_may_be_on_the_other_one() -> None:
    cards = [gpu(8), gpu(8, name="gpu1")]
    pins = [Need(name, anywhere=5 * GIB, is_pinned=True) for name in "pq"]
    memory = Memory(cards, [need("t", 6), pins[0]])
    assert isinstance(plan(memory, "p", p=Facts(device="gpu1")), Plan)
    assert plan(memory, "p", p=Facts(device="gpu0")) == Blocked(
        "t needs 6.0 GiB on gpu0; p is pinned and stays where it is"
    )
    both = Memory(cards, [need("t", 6), *pins])
    assert plan(both, "") == NeverFits(
        "it needs 6.0 GiB on gpu0; gpu0 has 8.0 GiB, beside p, q, which are pinned"
    )


def test_a_pinned_model_leaves_only_for_one_of_its_own_swap_group() -> None:
    pair = [need("t", 4, apart="g"), need("a", 4, apart="g", is_pinned=True)]
    assert leaving(Memory([gpu(16)], pair), "a") == {"a": STOP}
    other = Memory([gpu(16)], [need("t", 13), pair[1]])
    assert plan(other, "a") == Blocked(
        "t needs 13.0 GiB on gpu0; a is pinned and stays where it is"
    )


def test_a_pinned_model_leaves_for_no_other() -> None:
    memory = Memory([gpu(16)], [need("t", 8), need("a", 6, is_pinned=True), need("b", 6)])
    assert leaving(memory, "ab", b=Facts(start_s=900.0)) == {"b": STOP}


def test_a_model_waits_for_what_other_programs_hold() -> None:
    memory = Memory([gpu(16, others=6)], [need("t", 12), need("a", 4)])
    assert plan(memory, "a") == Blocked(
        "t needs 12.0 GiB on gpu0; other programs hold 6.0 GiB of gpu0 (game (pid 7))"
    )


def test_a_preview_supposes_other_capacities_and_other_models() -> None:
    machine = world(16, need("a", 10), need("b", 10))
    machine.serve("a")
    preview = machine.scheduler.preview
    for running, capacities, victims in (
        (None, None, ["a"]),
        (None, {"gpu0": 20 * GIB}, []),
        (None, {"gpu1": 20 * GIB}, ["a"]),
        (["a"], {"gpu0": 20 * GIB}, []),
        ([], None, []),
    ):
        found = preview("b", machine.now, running, capacities)
        assert found is not None
        assert found["victims"] == victims
    now = preview("b", machine.now)
    assert now is not None
    assert (now["takes"], now["left"]) == ({"gpu0": 10 * GIB}, {"gpu0": 6 * GIB})
    assert now["frees"] == {"a": {"gpu0": 10 * GIB}}
    never = preview("b", machine.now, None, {"gpu0": 4 * GIB})
    assert never is not None
    assert never["answer"] == "never_fits"
    elsewhere = Memory([gpu(4), Device("ram", 0)], [Need("t", anywhere=6 * GIB)])
    larger = elsewhere.with_capacities({"gpu1": 8 * GIB})
    assert [each.name for each in larger.devices] == ["gpu0", "gpu1", "ram"]
    assert isinstance(plan(larger, ""), Plan)


def test_any_gpu_is_the_one_that_costs_least() -> None:
    devices = [gpu(8), gpu(8, name="gpu1")]
    here, there = need("a", 6), Need("b", (Share("gpu1", 6 * GIB),))
    memory = Memory(devices, [Need("t", anywhere=6 * GIB), here, there])
    for running, victims, device in (
        ("", (), "gpu0"),
        ("a", (), "gpu1"),
        ("ab", ("b",), "gpu1"),
    ):
        found = plan(memory, running, b=Facts(start_s=1.0))
        assert isinstance(found, Plan)
        assert found.room is not None
        assert (found.victims, found.room.device) == (victims, device)
    asleep = Facts(state=State.ASLEEP, device="gpu1")
    found = plan(memory, "", t=asleep)
    assert isinstance(found, Plan)
    assert found.room is not None
    assert found.room.device == "gpu1"  # its process is there


@pytest.mark.parametrize(
    ("cards", "sizes", "fit"),
    [
        ([8], [8], True),
        ([8], [9], False),
        ([8], [5, 3], True),
        ([8], [5, 4], False),
        ([8, 8, 8], [5, 5, 5], True),
        ([8, 8, 8], [5, 5, 5, 4], False),
        ([3, 8, 6], [4, 6, 4, 3], True),  # the largest does not go to the largest GPU
        ([8, 9, 8], [6, 5, 4, 3, 4, 3], True),
        ([8, 8, 8], [5, 5, 4, 4, 3, 4], False),
    ],
)
def test_models_on_any_gpu_fit_if_they_can_be_divided_among_all(
    cards: list[int], sizes: list[int], fit: bool
) -> None:
    devices = [Device(f"gpu{number}", size) for number, size in enumerate(cards)]
    needs = [Need(f"m{number}", anywhere=size) for number, size in enumerate(sizes)]
    memory = Memory(devices, needs)
    assert memory.fits_together([each.model_id for each in needs]) is fit


def test_a_model_counts_on_the_gpu_it_was_placed_on() -> None:
    devices = [gpu(8), gpu(8, name="gpu1")]
    memory = Memory(devices, [need("t", 6), Need("a", anywhere=6 * GIB)])
    assert leaving(memory, "a", a=Facts(device="gpu1")) == {}
    assert leaving(memory, "a", a=Facts(device="gpu0")) == {"a": STOP}


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


def test_models_of_one_swap_group_are_never_together() -> None:
    memory = Memory([gpu(16)], [need("t", 1, apart="g"), need("a", 1, apart="g"), need("b", 1)])
    assert leaving(memory, "ab") == {"a": STOP}
    full = Memory([gpu(9)], [need("t", 8, apart="g"), need("a", 8, asleep=2, apart="g")])
    assert leaving(full, "a", a=SLEEPER) == {"a": STOP}


def test_a_model_that_is_leaving_is_waited_for_if_its_memory_is_needed() -> None:
    memory = Memory([gpu(16)], [need("t", 10), A, B])
    gone = Facts(state=State.STOPPING)
    found = plan(memory, "a", a=gone)
    assert isinstance(found, Plan)
    assert (found.victims, found.cost, dict(found.how)) == (("a",), 0.0, {})
    beside = plan(memory, "b", b=gone)
    assert isinstance(beside, Plan)
    assert beside.victims == ()


def test_victims_of_decided_swaps_are_gone_but_for_what_they_keep() -> None:
    memory = Memory([gpu(16)], [need("t", 12), need("a", 12, asleep=3), need("u", 4)])
    stops = Facts(leaves=("u", STOP))
    assert leaving(memory, "u", a=stops) == {}
    found = plan(memory, "", a=Facts(leaves=("u", SLEEP)), u=Facts(state=State.STOPPED))
    assert isinstance(found, Plan)
    assert found.room is not None
    assert found.room.left == (GIB,)


def test_a_plan_says_what_it_takes_and_what_it_was_preferred_to() -> None:
    memory = Memory([gpu(16)], [need("t", 9), need("b", 6), need("c", 6)])
    found = plan(memory, "bc", b=Facts(start_s=3.0), c=Facts(start_s=30.0))
    assert isinstance(found, Plan)
    assert found.why == "t needs 9.0 GiB of gpu0, of which 4.0 GiB is free"
    assert found.room is not None
    assert found.room.by_device == (DeviceRoom("gpu0", 9 * GIB, 10 * GIB),)
    assert [(each.victims, each.lost_by) for each in found.considered] == [(("c",), Lost.COST)]
    cards = [gpu(8), gpu(8, name="gpu1")]
    elsewhere = Need("u", (Share("gpu1", 6 * GIB),))
    placed = plan(Memory(cards, [Need("t", anywhere=6 * GIB), need("b", 6), elsewhere]), "ub")
    assert isinstance(placed, Plan)
    assert placed.victims == ("b",)
    assert placed.considered == (Considered(("u",), placed.cost, Lost.ORDER, "gpu1"),)


def test_gates_stay_shut_for_a_plan_that_still_does() -> None:
    memory = Memory([gpu(16)], [need("t", 10), need("b", 6), need("c", 6)])
    busy = {name: Facts(busy=True) for name in "bc"}
    current = plan(memory, "bc", **busy)
    assert isinstance(current, Plan)
    assert current.victims == ("b",)
    for changed, victims in (
        ({"c": Facts(busy=True, start_s=9.0)}, ("b",)),  # hardly cheaper
        ({"c": Facts()}, ("c",)),  # idle
        ({"c": Facts(start_s=60.0), "b": Facts(busy=True, left_s=3.0)}, ("c",)),  # and as cheap
        ({"c": Facts(start_s=80.0), "b": Facts(busy=True, left_s=3.0)}, ("b",)),
        ({"b": Facts(busy=True, start_s=900.0)}, ("c",)),  # much cheaper
        # Which answers end sooner does not count between two that are busy.
        ({"b": Facts(busy=True, left_s=3600.0)}, ("b",)),
    ):
        found = plan(memory, "bc", current, **{**busy, **changed})
        assert isinstance(found, Plan)
        assert found.victims == victims


def test_gates_open_where_a_victim_is_not_needed_any_more() -> None:
    needs = [need("t", 10), need("b", 6), need("c", 6)]
    busy = {name: Facts(busy=True, start_s=3.0) for name in "bc"}
    current = plan(Memory([gpu(16, others=4)], needs), "bc", **busy)
    assert isinstance(current, Plan)
    assert current.victims == ("b", "c")
    found = plan(Memory([gpu(16)], needs), "bc", current, **busy)
    assert isinstance(found, Plan)
    assert found.victims == ("b",)


# --- swaps side by side ---------------------------------------------------------------------------


def test_swaps_fit_if_memory_is_enough_at_all_times() -> None:
    """u takes the room of a; t fits beside u, but not beside a, which is larger."""
    needs = [need("t", 6), need("u", 4), need("a", 12), need("b", 2)]
    memory = Memory([gpu(16)], needs)
    facts = {each.model_id: Facts(state=State.STOPPED) for each in needs} | {
        "a": Facts(),
        "b": Facts(),
    }
    first = memory.plan("u", ["a", "b"], facts)
    assert isinstance(first, Plan)
    swap = PlannedSwap("u", first)
    assert first.victims == ("a",)
    facts["a"] = Facts(leaves=("u", STOP))
    second = memory.plan("t", ["b", "u"], facts)
    assert isinstance(second, Plan)
    assert second.victims == ()
    assert not memory.compatible(swap, PlannedSwap("t", second))
    assert memory.compatible(PlannedSwap("u", Plan(room=first.room)), PlannedSwap("t", second))


def test_a_swap_leaves_room_for_those_ranked_higher() -> None:
    needs = [need("t", 6), need("u", 6)]
    facts = {name: Facts(state=State.STOPPED) for name in "tu"}
    for size, fit in ((12, True), (11, False)):
        memory = Memory([gpu(size)], needs)
        plans = [memory.plan(name, [], facts) for name in "tu"]
        assert all(isinstance(each, Plan) for each in plans)
        one, other = (PlannedSwap(name, each) for name, each in zip("tu", plans, strict=True))  # type: ignore[arg-type]
        assert memory.compatible(one, other) is fit
        assert not memory.compatible(one, one)


# --- with the scheduler ---------------------------------------------------------------------------


def world(size: int, *needs: Need, **rules: Any) -> World:
    found = World(" ".join(each.model_id for each in needs), **rules)
    found.residency = Memory([gpu(size)], needs)
    found.configure()
    return found


def test_models_stay_as_long_as_they_fit() -> None:
    machine = world(16, need("a", 6), need("b", 6), need("c", 6))
    for name in "abc":
        asked = machine.request(name, 1.0)
        machine.run(10.0)
    assert [machine.state(name) for name in "abc"] == ["stopped", "ready", "ready"]
    record = machine.records[-1]
    assert record.evicted == (Eviction("a", STOP),)
    assert (record.due, record.tickets) == (Due(AT_ONCE, DueRule.IDLE), (asked.ticket,))


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
            machine.request(name, answer_s)
            machine.run(61.0)
    machine.request("a")
    machine.run(before_s)
    machine.request("b")
    machine.request("c")
    machine.run(3.0)
    (swap,) = machine.scheduler._state.swaps.values()
    assert list(swap.victims) == [leaves]
    assert swap.planned.plan.answers_s == pytest.approx(answers_s, abs=0.5)


def test_a_sleeping_model_is_stopped_for_its_memory() -> None:
    sleeps = ModelRules("a", can_sleep=True)
    machine = world(16, need("a", 8, asleep=4), need("b", 12), need("c", 16), a=sleeps)
    for name, states in (("a", "ready"), ("b", "asleep"), ("c", "stopped")):
        machine.request(name, 1.0)
        machine.run(10.0)
        assert machine.state("a") == states
    assert machine.records[-1].evicted == (Eviction("a", STOP), Eviction("b", STOP))


def test_a_swap_that_drains_counts_on_the_gpu_it_will_use() -> None:
    anywhere = [
        Need(name, anywhere=10 * GIB, evict_cost=100.0 if name == "w" else 1.0) for name in "wxyz"
    ]
    machine = World("w x y z")
    machine.residency = Memory([gpu(10), gpu(10, name="gpu1")], anywhere)
    machine.configure()
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


def test_what_never_fits_is_refused_with_need_and_capacity() -> None:
    machine = world(16, need("a", 6), need("huge", 20))
    machine.request("a", 1.0)
    machine.run(10.0)
    refused = machine.request("huge").refused
    assert refused
    assert refused.reason is RefusalReason.NEVER_FITS
    text = in_full(error_of(refused))
    assert text == "huge does not fit: it needs 20.0 GiB on gpu0; gpu0 has 16.0 GiB"
    assert machine.state("a") == "ready"


def test_a_load_that_ran_out_of_memory_is_tried_once_more_with_more_room() -> None:
    machine = world(16, need("a", 8), need("b", 7), need("c", 1))
    machine.serve("a", "c")
    machine.models["b"].lacks = 1
    first, second = machine.requests("b", 2, 1.0)
    machine.run(20.0)
    assert first.granted_at == second.granted_at, "both waited on"
    evicted = [(each.outcome, each.evicted) for each in machine.records if each.target == "b"]
    assert evicted == [("failed", ()), ("done", (Eviction("a", STOP),))]
    assert machine.view("b").failures == 0


def test_a_load_that_always_runs_out_of_memory_is_tried_twice_until_it_can_never_fit() -> None:
    machine = world(16, need("a", 8), need("b", 13))
    machine.models["b"].lacks = 99
    reasons = []
    for _ in range(4):
        asked = machine.request("b")
        machine.run(30.0)
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
    machine.run(2.5)
    assert machine.view("b").why == f"b waits for memory for 2 s: {HELD}"
    assert machine.scheduler.lacks_memory("b")
    machine.run(1.3)
    assert machine.view("b").why.startswith("b has been loading")
    assert not machine.scheduler.lacks_memory("b")
    machine.run(9.0)
    phases = machine.records[-1].phases
    assert phases == (("wait", 0.0), ("evict", 0.5), ("barrier", 3.0), ("load", 1.0))


def test_a_load_that_waits_for_memory_can_be_given_up() -> None:
    machine = world(16, need("a", 12), need("b", 12))
    machine.models["b"].held_s = 600.0
    machine.request("b")
    machine.unload("b")
    machine.run(5.0)
    assert machine.state("b") == "stopped"
    assert machine.records[-1].outcome == "aborted"


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
    busy = machine.request("a", 20.0)
    machine.run(0.5)
    assert held() == ([], [("a", 8)], 9), "while it loads"
    machine.run(5.0)
    assert held() == ([("a", 8, False)], [], 9)
    machine.request("b", 60.0)
    machine.run(5.0)
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


@pytest.mark.parametrize(
    ("source", "others", "why"),
    [
        ("declared", 0, "it needs 391 MiB on ram; ram has 380 MiB"),
        (
            "estimated",
            0,
            "it needs 391 MiB on ram (estimated: give it a `memory` if it takes less); ram has "
            "380 MiB",
        ),
        (
            "measured 2026-11-30",
            46,
            "t needs 391 MiB on ram (measured 2026-11-30); llmsnap and other programs hold 46 MiB "
            "of ram",
        ),
    ],
)
def test_what_does_not_fit_says_why_in_figures_that_differ(
    source: str, others: int, why: str
) -> None:
    mib = 1024**2
    ram = Device("ram", (380 if not others else 420) * mib, others=others * mib)
    memory = Memory([ram], [Need("t", (Share("ram", 391 * mib),), source=source)])
    found = memory.plan("t", "", {"t": Facts()})
    assert found == (Blocked(why) if others else NeverFits(why))
