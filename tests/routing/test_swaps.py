import pytest

from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.messages import (
    CheckStart,
    Eviction,
    ModelRules,
    Outcome,
    RefusalReason,
    Step,
    SwapOutcome,
)
from llmsnap.routing.residency import Action, LoadKind
from tests.routing.world import BOOM, World, gate_shut, group

LOOSE = {"swap": False, "exclusive": False}
SLEEPY = ModelRules("a", can_sleep=True)

# --- turns ----------------------------------------------------------------------------------------


def test_a_record_has_what_each_phase_took() -> None:
    world = World("a b", max_hold_s=20.0)
    stream = world.occupy("a")
    world.request("b").after(6.0)
    world.later(3.0, lambda: world.finish(stream))
    world.run(30.0)
    record = world.records[-1]
    assert str(record) == (
        f"swap {record.swap_id}: start b for request, done; evicted a (stop); 1 waited; "
        "wait 6.00 s, drain 3.00 s, evict 0.50 s, load 1.00 s"
    )
    # b waits until a had its turn of twice 5 s, from its start at 1 s on; it asked at 5 s.
    phases = (("wait", 6.0), ("drain", 3.0), ("evict", 0.5), ("load", 1.0))
    assert record.phases == phases


def test_parts_of_leaving_and_loading_are_phases_of_a_record() -> None:
    """Those of victims side by side take as long as the longest."""
    world = World("a b x", group("one", "a b", swap=False), group("two", "x"))
    world.serve("a", "b")
    a, b, x = world.models.values()
    a.stop_s, a.leave_steps = 1.0, (Step("save", 0.25), Step("hook", 0.5))
    b.stop_s, b.leave_steps = 2.0, (Step("save", 0.75),)
    x.load_s = 4.0
    x.load_steps = (Step("canary", 0.5), Step("failed_wake", 1.0), Step("failed_check", 0.25))
    world.run(1.0)
    asked = world.request("x")
    assert asked.after(10.0).waited_s == 6.0, "the longer stop, and the load"
    assert world.records[-1].evicted == (Eviction("a", Action.STOP), Eviction("b", Action.STOP))
    assert world.records[-1].phases == (
        *(("wait", 0.0), ("save", 0.75), ("hook", 0.5), ("evict", 0.75)),
        *(("failed_wake", 1.0), ("failed_check", 0.25), ("load", 2.25), ("canary", 0.5)),
    )
    x.stop_s, x.leave_steps, a.leave_steps = 0.5, (Step("save", 0.625),), ()
    world.request("a")  # what is measured may be more than what the whole took by the clock
    world.finish(world.asked[max(world.serving["x"])])
    world.run(10.0)
    assert world.records[-1].phases[-3:] == (("save", 0.625), ("evict", 0.0), ("load", 1.0))
    world.finish(world.asked[max(world.serving["a"])])
    x.load_steps, x.failures = (Step("failed_wake", 1.0), Step("failed_check", 0.25)), 1
    assert world.request("x").after(10.0).reason is RefusalReason.FAILED
    failed = (("failed_wake", 1.0), ("failed_check", 0.25), ("load", 2.75))
    assert world.records[-1].phases[-3:] == failed


def test_a_record_has_the_first_requests_that_waited_for_the_swap() -> None:
    world = World("a b", max_hold_s=20.0, slow="b")
    stream = world.occupy("a")
    early = world.requests("b", 2)
    world.run(10.0)
    world.leave(early[0])
    later = world.requests("b", 2)
    world.finish(stream)
    world.run(300.0)
    last = world.requests("b", 30)
    world.run(400.0)
    found = world.records[-1].tickets
    assert found == tuple(each.ticket for each in (*early, *later, *last[:16]))


@pytest.mark.parametrize(
    ("asked", "waits_s"),
    [("preload load", 30.0), ("load preload", 30.0), ("load load", 30.0), ("load request", 5.0)],
)
def test_a_swap_waits_from_when_it_was_asked_for_first(asked: str, waits_s: float) -> None:
    """Which is when its oldest request came, if there is one."""
    world = World("a b")
    stream = world.occupy("a")
    for each in asked.split():
        getattr(world, each)("b")
        world.run(10.0)
    world.run(10.0)
    world.finish(stream)
    assert world.after(10.0).records[-1].phases[0] == ("wait", waits_s)


def test_no_gate_shuts_before_all_of_them_may() -> None:
    world = World("a b x", group("one", "a b", swap=False), group("two", "x"))
    world.request("a").after(100.0)
    world.request("b").after(1.0)
    world.request("x").after(5.0)
    assert world.request("a").in_flight  # b became ready too lately
    world.run(5.0)
    assert world.request("a").pending
    assert world.request("b").pending


def test_gates_open_again_when_the_waiters_leave_before_the_eviction() -> None:
    world, _, asked, held = gate_shut()
    world.leave(asked)
    assert held.in_flight
    assert world.records[-1].outcome is SwapOutcome.ABORTED
    assert not world.records[-1].evicted
    assert world.after(1000.0).started == ["a"]


def test_a_long_drain_opens_the_gates_once_more() -> None:
    world, stream, asked, held = gate_shut(max_hold_s=60.0, queue_timeout_s=0.0)
    world.run(54.0)  # the gate shut 5 s after b was asked for
    assert held.pending
    assert held.after(1.0).in_flight
    assert world.request("a").in_flight
    world.run(10_000.0)
    assert world.request("a").in_flight
    world.finish(stream)  # the last request of before is over: now the gates shut for good
    assert world.request("a").after(1000.0).pending
    for other in list(world.serving["a"].values()):
        world.finish(other)
    assert asked.after(1.5).in_flight
    assert world.records[-1].reopened


def test_a_victim_that_leaves_by_itself_is_waited_for() -> None:
    world = World("a b c", a=ModelRules("a", ttl_s=10.0))
    world.models["a"].stop_s = 30.0
    world.serve("a")
    assert world.after(10.0).state("a") == "stopping"
    asked, load = world.request("b", 1.0), world.load("c")
    world.run(30.0)
    assert asked.returned or asked.in_flight
    assert not world.after(5.0).records[1].evicted
    assert world.outcome(load)


def test_a_target_that_is_being_stopped_is_loaded_after_that() -> None:
    world = World("a b", a=SLEEPY)
    world.serve("a")
    stream = world.request("b").after(100.0)
    asked = world.request("a").after(20.0)
    world.models["a"].stop_s = 10.0
    world.configure(restart=["a"])
    world.finish(stream)
    assert world.after(5.0).state("b") == "ready"
    assert asked.after(10.0).in_flight
    assert world.records[-1].kind is LoadKind.START


def test_unrelated_swaps_run_side_by_side_and_others_one_after_the_other() -> None:
    world = World(
        "a b c d", group("one", "a b", exclusive=False), group("two", "c d", exclusive=False)
    )
    asked = [world.request(name, 0.0) for name in "abc"]
    world.run(2.5)
    assert [a.granted_at for a in asked] == [1.0, 2.5, 1.0]


def test_small_loads_cannot_keep_an_exclusive_model_out() -> None:
    world = World("x s t", group("big", "x"), group("small", "s t", **LOOSE))
    stream = world.request("s").after(100.0)
    big = world.request("x")
    small = world.request("t")  # could load beside s, but x waits and would evict it
    assert world.after(5.0).started == ["s"]
    world.finish(stream)
    assert big.after(1.5).in_flight
    assert small.after(1.0).in_flight  # a non-exclusive model loads beside an exclusive one


def test_a_load_nobody_waits_for_goes_on_while_nobody_needs_the_room() -> None:
    world = World("a b")
    world.leave(world.request("a"))
    world.run(0.5)
    assert world.request("a").after(0.5).granted_at == 1.0
    assert world.started == ["a"]


def test_a_load_that_is_in_nobodys_way_is_not_aborted() -> None:
    world = World("x s", group("big", "x"), group("small", "s", **LOOSE))
    world.models["x"].load_s = 30.0
    world.leave(world.request("x"))
    asked = world.request("s")  # loads beside x, but not while x loads and would evict it
    assert asked.after(31.0).in_flight
    assert world.state("x") == "ready"


def test_who_comes_back_while_the_load_is_aborted_is_served_by_the_next() -> None:
    world = World("a b", slow="a")
    world.leave(world.request("a"))
    world.run(1.0)
    world.leave(world.request("b"))
    asked = world.request("a")
    world.models["a"].load_s = 1.0
    assert asked.after(1.5).in_flight


def test_what_can_be_known_is_checked_once_before_anybody_is_disturbed() -> None:
    world = World("a b")
    world.occupy("a")
    world.requests("b", 2)
    assert world.checks == [CheckStart("b", ("a",))]
    assert len(world.after(100.0).checks) == 1


# --- failures -------------------------------------------------------------------------------------


def test_a_victim_that_cannot_be_stopped_fails_the_swap_and_nothing_else() -> None:
    world = World("a b")
    world.serve("a")
    world.models["a"].stop_fails = True
    assert world.request("b").after(1.0).reason is RefusalReason.FAILED
    assert world.state("a") == "stopping"
    waiting = world.request("b")
    assert waiting.after(60.0).pending  # a still holds the memory
    world.die("a")
    assert waiting.after(1.0).in_flight


def test_a_failed_load_tells_all_who_wait_and_brings_nothing_back() -> None:
    world = World("a b")
    world.serve("b")
    world.models["a"].failures = 1
    asked = world.requests("a", 3)
    world.run(1.5)
    assert [a.refused.error for a in asked if a.refused] == [BOOM] * 3
    assert world.records[-1].outcome is SwapOutcome.FAILED
    assert world.records[-1].error == str(BOOM)
    assert str(world.records[-1]).endswith("; exited with code 1")
    world.run(5.0)
    assert world.state("a") == world.state("b") == "stopped", "what was evicted stays away"
    world.occupy("a")


def test_a_check_that_fails_when_the_swap_begins_leaves_the_victims_ready() -> None:
    world = World("a b")
    world.serve("a")
    world.models["b"].check_fails = True
    asked, held = world.request("b"), world.request("a")
    assert held.pending
    assert asked.after(0.0).refused
    assert asked.refused.error is BOOM
    assert held.in_flight
    world.finish(held)
    world.request("b")
    command = world.unload("a")  # asked for while it was to be evicted
    assert world.after(0.5).outcome(command) is Outcome.OK
    assert world.state("a") == "stopped"


def test_a_load_that_cannot_be_stopped_holds_its_room_until_it_dies() -> None:
    world = World("a b", slow="a")
    world.models["a"].stop_fails = True
    world.request("a")
    command = world.unload("a")
    asked = world.request("b")
    assert world.after(60.0).outcome(command) is Outcome.FAILED
    assert world.state("a") == "stopping"
    assert asked.pending
    world.die("a")
    assert asked.after(1.0).in_flight


def test_a_failed_check_refuses_the_waiters_and_opens_the_gates() -> None:
    world, _, asked, held = gate_shut()
    world.tell(msg.CheckFailed("b", BOOM))
    assert asked.reason is RefusalReason.FAILED
    assert held.in_flight
    assert world.after(100.0).started == ["a"]
    assert world.view("b").failures == 1


def test_only_a_crash_within_ten_seconds_is_a_failed_load() -> None:
    world = World("a")
    world.occupy("a")
    world.run(10.0)
    for failures in (0, 1, 2):
        world.crash("a")
        assert world.view("a").failures == failures
        if failures < 2:
            world.occupy("a")
    assert world.refusal("a").retry_after_s == 1.0
    world.run(1.0)
    world.occupy("a")
    world.run(10.0)
    world.unload("a")
    assert world.view("a").failures == 0, "a good turn makes up for them"


def test_those_who_wait_survive_the_first_crash_of_their_model_and_not_the_second() -> None:
    world = World("a", a=ModelRules("a", concurrency_limit=1))
    first, second, third = world.requests("a", 3)
    world.run(5.0)
    world.crash("a")
    assert first.returned
    assert second.pending
    assert second.after(5.0).in_flight
    world.crash("a")
    assert third.refused.error is BOOM


def test_those_who_wait_behind_a_gate_survive_a_late_crash() -> None:
    world, _, asked, held = gate_shut()
    world.crash("a")
    assert asked.after(1.0).in_flight  # no model left to evict
    assert held.pending
    world.finish(asked)
    assert held.after(5.0).in_flight


def test_a_load_that_ends_well_while_it_is_aborted_is_a_load() -> None:
    world = World("a b", slow="a")
    world.models["a"].outruns_abort = True
    world.leave(world.request("a"))
    asked = world.request("b")
    assert world.after(0.0).records[-1].outcome is SwapOutcome.DONE
    assert asked.after(5.0).in_flight


def test_a_load_that_fails_while_it_is_aborted_is_no_failure() -> None:
    world = World("a b", slow="a")
    world.leave(world.request("a"))
    world.leave(world.request("b"))
    asked = world.request("a")
    work = next(iter(world._swaps))
    world._agenda.clear()
    world.models["a"].state = State.STOPPED
    world._swaps.clear()
    world.models["a"].load_s = 1.0
    world.tell(msg.LoadFailed(work, "a", BOOM))
    assert world.view("a").failures == 0
    assert asked.after(1.0).in_flight


def test_durations_are_measured_by_kind_but_not_of_a_sleep_that_fails() -> None:
    world = World("a b", a=SLEEPY)
    world.serve("a", "b", "a")
    a, b = world.view("a"), world.view("b")
    assert (a.start.last_s, a.wake.last_s, a.sleep.last_s) == (1.0, 0.1, 0.2)
    assert (b.start.count, b.stop.last_s, b.wake.count) == (1, 0.5, 0)
    world.models["a"].sleep_fails = True
    command = world.sleep("a")
    assert world.after(5.0).outcome(command) is Outcome.FAILED
    assert (world.view("a").stop.count, world.view("a").sleep.count) == (0, 1)
