from llmsnap.models import State
from llmsnap.routing import messages as ev
from llmsnap.routing.effects import Outcome, Refusal
from llmsnap.routing.rules import ModelRules
from llmsnap.routing.swaps import LoadKind, SwapOutcome
from tests.routing.world import BOOM, Asked, World


def ready(world: World, model_id: str) -> Asked:
    asked = world.request(model_id)
    world.run(5.0)
    assert asked.in_flight
    return asked


def test_a_failed_load_tells_all_who_wait() -> None:
    world = World("a")
    world.models["a"].failures = 1
    asked = world.requests("a", 3)
    world.run(1.0)
    assert [a.refused.error for a in asked if a.refused] == [BOOM] * 3
    assert world.records[-1].outcome is SwapOutcome.FAILED
    assert world.records[-1].error == str(BOOM)
    again = world.request("a")
    world.run(1.0)
    assert again.in_flight


def test_the_second_failure_in_a_row_says_when_to_come_back() -> None:
    world = World("a")
    world.models["a"].failures = 2
    for retry_after_s in (None, 1.0):
        asked = world.request("a")
        world.run(1.0)
        assert asked.refused
        assert asked.refused.retry_after_s == retry_after_s


def test_evicted_models_stay_away_when_the_load_fails() -> None:
    world = World("a b")
    world.finish(ready(world, "a"))
    world.models["b"].failures = 1
    world.request("b")
    world.run(5.0)
    assert world.state("a") == world.state("b") == "stopped"


def test_a_check_that_fails_when_the_swap_begins_leaves_the_victims_ready() -> None:
    world = World("a b")
    world.finish(ready(world, "a"))
    world.models["b"].check_fails = True
    asked, held = world.request("b"), world.request("a")
    assert held.pending
    world.run(0.0)
    assert asked.refused
    assert asked.refused.error is BOOM
    assert held.in_flight
    assert world.state("a") == "ready"


def test_a_victim_that_stays_after_all_is_still_unloaded_if_asked_for() -> None:
    world = World("a b")
    world.finish(ready(world, "a"))
    world.models["b"].check_fails = True
    world.request("b")
    command = world.unload("a")
    world.run(0.5)
    assert world.outcome(command) is Outcome.OK
    assert world.state("a") == "stopped"


def test_a_load_that_cannot_be_stopped_holds_its_room_until_it_dies() -> None:
    world = World("a b")
    world.models["a"].load_s = 600.0
    world.models["a"].stop_fails = True
    world.request("a")
    command = world.unload("a")
    asked = world.request("b")
    world.run(60.0)
    assert world.outcome(command) is Outcome.FAILED
    assert world.state("a") == "stopping"
    assert asked.pending
    world.die("a")
    world.run(1.0)
    assert asked.in_flight


def test_a_failed_check_refuses_the_waiters_and_disturbs_nobody() -> None:
    world = World("a b")
    ready(world, "a")
    asked = world.request("b")
    world.tell(ev.CheckFailed("b", BOOM))
    assert asked.refused
    assert asked.refused.reason is Refusal.FAILED
    world.run(100.0)
    assert world.started == ["a"]
    assert world.view("b").failures == 1


def test_a_failed_check_opens_gates_that_shut_already() -> None:
    world = World("a b")
    ready(world, "a")
    world.run(100.0)
    world.request("b")
    world.run(10.0)
    held = world.request("a")
    assert held.pending
    world.tell(ev.CheckFailed("b", BOOM))
    assert held.in_flight


def test_a_check_that_fails_too_late_is_ignored() -> None:
    world = World("a")
    asked = world.request("a")
    world.tell(ev.CheckFailed("a", BOOM))
    world.run(1.0)
    world.tell(ev.CheckFailed("a", BOOM))
    assert asked.in_flight


def test_a_crash_later_than_ten_seconds_is_no_failure() -> None:
    world = World("a")
    ready(world, "a")
    world.run(10.0)
    world.crash("a")
    assert world.view("a").failures == 0
    ready(world, "a")


def test_a_crash_within_ten_seconds_is_a_failed_load() -> None:
    world = World("a")
    ready(world, "a")
    world.crash("a")
    assert world.view("a").failures == 1
    ready(world, "a")
    world.crash("a")
    refused = world.request("a").refused
    assert refused
    assert refused.retry_after_s == 1.0


def test_those_who_wait_survive_the_first_crash_of_their_model_and_not_the_second() -> None:
    world = World("a", a=ModelRules("a", concurrency_limit=1))
    first, second, third = world.requests("a", 3)
    world.run(5.0)
    assert first.in_flight
    world.crash("a")
    assert first.returned
    assert second.pending
    world.run(5.0)
    assert second.in_flight
    world.crash("a")
    assert third.refused
    assert third.refused.error is BOOM


def test_ten_good_seconds_clear_the_failures() -> None:
    world = World("a")
    world.models["a"].failures = 1
    world.request("a")
    world.run(1.0)
    world.finish(ready(world, "a"))
    world.run(10.0)
    world.unload("a")
    world.run(1.0)
    assert world.view("a").failures == 0


def test_those_who_wait_behind_a_gate_survive_a_late_crash() -> None:
    world = World("a b")
    ready(world, "a")
    world.run(100.0)
    asked = world.request("b")
    world.run(10.0)
    held = world.request("a")
    world.crash("a")
    world.run(1.0)
    assert asked.in_flight  # nobody left to evict
    assert held.pending
    world.finish(asked)
    world.run(5.0)
    assert held.in_flight


def test_a_crash_ends_a_drain_that_had_opened_its_gates_again() -> None:
    world = World("a b", max_hold_s=10.0)
    ready(world, "a")
    world.run(100.0)
    asked = world.request("b")
    world.run(25.0)
    assert world.request("a").in_flight
    world.crash("a")
    world.run(1.0)
    assert asked.in_flight


def test_the_end_of_an_earlier_process_does_not_touch_the_present_one() -> None:
    world = World("a")
    ready(world, "a")
    old = world.models["a"].loaded_by
    world.unload("a")
    world.run(5.0)
    asked = ready(world, "a")
    world.tell(ev.Exited(old, "a", BOOM))
    assert asked.in_flight
    assert world.state("a") == "ready"


def test_a_sleeping_model_that_dies_is_stopped() -> None:
    world = World("a", a=ModelRules("a", can_sleep=True))
    world.finish(ready(world, "a"))
    world.sleep("a")
    world.run(5.0)
    world.crash("a")
    assert world.state("a") == "stopped"
    assert world.view("a").failures == 0


def test_reports_about_work_long_over_are_ignored() -> None:
    world = World("a")
    ready(world, "a")
    world.tell(ev.Loaded(999, "a", LoadKind.START, 1.0))
    world.tell(ev.LoadFailed(999, "a", BOOM))
    world.tell(ev.LoadAborted(999, "a"))
    world.tell(ev.Idled(999, "a", State.STOPPED, 1.0))
    world.tell(ev.LeaseReturned(999, "a"))
    world.tell(ev.LeaseReturned(999, "nope"))
    world.tell(ev.ClientGone(999))
    world.tell(ev.Exited(999, "nope", BOOM))
    world.tell(ev.CheckFailed("nope", BOOM))
    assert world.state("a") == "ready"
    assert world.view("a").in_flight == 1


def test_a_load_that_ends_well_while_it_is_aborted_is_a_load() -> None:
    world = World("a b")
    world.models["a"].load_s = 100.0
    world.models["a"].outruns_abort = True
    world.leave(world.request("a"))
    asked = world.request("b")
    world.run(0.0)
    assert world.records[-1].outcome is SwapOutcome.DONE
    world.run(5.0)
    assert asked.in_flight


def test_a_load_that_ends_well_while_it_is_unloaded_is_stopped() -> None:
    world = World("a")
    world.models["a"].outruns_abort = True
    world.request("a")
    command = world.unload("a")
    world.run(0.5)
    assert world.outcome(command) is Outcome.OK
    assert world.state("a") == "stopped"


def test_a_load_that_fails_while_it_is_aborted_is_no_failure() -> None:
    world = World("a b")
    world.models["a"].load_s = 100.0
    world.leave(world.request("a"))
    world.leave(world.request("b"))
    asked = world.request("a")
    work = next(iter(world._swaps))
    world._agenda.clear()
    world.models["a"].state = State.STOPPED
    world._swaps.clear()
    world.tell(ev.LoadFailed(work, "a", BOOM))
    world.models["a"].load_s = 1.0
    assert world.view("a").failures == 0
    world.run(100.0)
    assert asked.in_flight


def test_durations_are_measured_by_kind() -> None:
    world = World("a b", a=ModelRules("a", can_sleep=True))
    world.finish(ready(world, "a"))
    world.finish(ready(world, "b"))
    world.finish(ready(world, "a"))
    a, b = world.view("a"), world.view("b")
    assert (a.start.last_s, a.wake.last_s, a.sleep.last_s) == (1.0, 0.1, 0.2)
    assert (b.start.count, b.stop.last_s, b.wake.count) == (1, 0.5, 0)


def test_a_sleep_that_fails_is_not_measured() -> None:
    world = World("a", a=ModelRules("a", can_sleep=True))
    world.finish(ready(world, "a"))
    world.models["a"].sleep_fails = True
    command = world.sleep("a")
    world.run(5.0)
    assert world.outcome(command) is Outcome.FAILED
    assert world.view("a").stop.count == world.view("a").sleep.count == 0
