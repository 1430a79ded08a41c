import pytest

from llmsnap.routing.messages import CutReason, ModelRules, Outcome, RefusalReason, SwapOutcome
from tests.parity import parity
from tests.routing.world import BOOM, World, gate_shut, group

SLEEPY = ModelRules("a", can_sleep=True)


# --- a check of a model that fails ---------------------------------------------------------------


@pytest.mark.parametrize("faulty", [False, True])
def test_a_suspected_model_is_checked_when_it_is_drained_and_stopped_only_if_faulty(
    faulty: bool,
) -> None:
    world = World("a")
    stream = world.occupy("a")
    world.models["a"].faulty = faulty
    world.suspect("a")
    world.suspect("a")
    newcomer = world.request("a")
    assert newcomer.after(20.0).pending
    assert "is to be checked first" in world.view("a").why
    world.finish(stream)
    assert world.after(0.25).state("a") == ("stopping" if faulty else "ready")
    assert newcomer.pending is faulty
    assert newcomer.after(1.5).in_flight, "a restart serves those who wait"
    assert len(world.records) == 1 + faulty


def test_a_check_does_not_wait_for_ever_and_cuts_what_a_broken_server_holds() -> None:
    world = World("a")
    stream = world.occupy("a")
    world.models["a"].faulty = True
    world.suspect("a")
    assert not stream.after(30.0).returned
    assert world.after(0.25).cuts[0].reason is CutReason.FAULTY
    world.run(0.5)
    assert (stream.returned, world.state("a")) == (True, "stopped")


@pytest.mark.parametrize("end", ["unload", "crash", "swap", "sleep"])
def test_a_model_that_leaves_meanwhile_is_not_suspected_any_more(end: str) -> None:
    world = World("a b", a=SLEEPY if end == "sleep" else ModelRules("a"))
    world.serve("a")
    world.models["a"].faulty = True
    world.suspect("a")
    match end:
        case "unload":
            command = world.unload("a")
        case "crash":
            world.crash("a")
        case "swap" | "sleep":
            world.request("b", 0.0)
    assert world.after(60.0).state("a") == ("asleep" if end == "sleep" else "stopped")
    if end == "unload":
        assert world.outcome(command) is Outcome.OK
    world.models["a"].faulty = False
    world.serve("a")


def test_an_idle_model_that_works_goes_idle_after_its_check() -> None:
    world = World("a", a=ModelRules("a", ttl_s=4.1))
    world.serve("a")
    world.suspect("a")  # 0.1 s before its idle clock runs out
    assert world.after(0.2).state("a") == "ready"
    assert world.after(0.5).state("a") == "stopping"


# --- unload --------------------------------------------------------------------------------------


def test_unload_cuts_what_is_in_flight_and_answers_when_the_process_is_gone() -> None:
    world = World("a")
    stream = world.occupy("a")
    commands = [world.unload("a"), world.unload("a")]
    assert (world.state("a"), stream.in_flight) == ("stopping", True), "it waits for no request"
    assert stream.after(0.25).returned
    assert [each.reason for each in world.cuts] == [CutReason.UNLOADED]
    assert [world.outcome(each) for each in commands] == [None, None]
    world.run(0.25)
    assert [world.outcome(each) for each in commands] == [Outcome.OK, Outcome.OK]
    world.serve("a")
    world.unload("a")
    assert len(world.cuts) == 1, "an idle model has nothing to cut"


def test_unload_with_drain_lets_requests_end_and_newcomers_wait_for_the_next_load() -> None:
    world = World("a")
    stream = world.occupy("a")
    command = world.unload("a", drain=True)
    newcomer = world.request("a")
    assert newcomer.after(60.0).pending
    assert world.outcome(command) is None
    world.finish(stream)
    assert world.after(0.5).outcome(command) is Outcome.OK
    assert newcomer.after(1.0).in_flight


def test_a_second_unload_may_cut_what_the_first_lets_end() -> None:
    world = World("a")
    stream = world.occupy("a")
    commands = [world.unload("a", drain=True), world.unload("a")]
    assert stream.after(0.5).returned
    assert [world.outcome(c) for c in commands] == [Outcome.OK] * 2


def test_unload_interrupts_a_load_and_refuses_its_waiters() -> None:
    world = World("a", slow="a")
    asked = world.request("a").after(10.0)
    command = world.unload("a")
    assert asked.reason is RefusalReason.UNLOADED
    assert world.after(0.5).outcome(command) is Outcome.OK
    assert world.state("a") == "stopped"


def test_unload_of_a_model_that_waits_for_its_turn_is_over_at_once() -> None:
    world, _, asked, held = gate_shut()
    command = world.unload("b")
    assert asked.refused
    assert world.outcome(command) is Outcome.OK
    assert held.in_flight


@parity("TTL and unload", "an unload waits for swaps under way", "it waits for none")
def test_unload_never_waits_behind_the_eviction_of_another_model() -> None:
    world = World("a b")
    world.serve("a")
    world.models["a"].stop_s = 60.0
    world.request("b")
    command = world.unload("b")
    assert world.outcome(command) is Outcome.OK
    assert world.after(60.0).records[-1].outcome is SwapOutcome.ABORTED
    assert world.state("b") == "stopped"


def test_unload_stops_a_sleeping_model_and_one_that_falls_asleep() -> None:
    world = World("a", a=SLEEPY)
    for slept_s in (0.0, 1.0):
        world.serve("a")
        world.sleep("a")
        world.run(slept_s)
        command = world.unload("a")
        assert world.after(1.0).outcome(command) is Outcome.OK
        assert world.state("a") == "stopped"


def test_unload_of_all_answers_when_the_last_is_gone() -> None:
    world = World("a b c", group("g", "a b c", swap=False))
    world.occupy("a")
    world.occupy("b")
    world.models["b"].stop_s = 9.0
    waiting = world.request("c")
    command = world.unload()
    assert waiting.refused
    assert world.after(8.0).outcome(command) is None
    assert world.after(1.0).outcome(command) is Outcome.OK
    assert world.state("a") == world.state("b") == world.state("c") == "stopped"


def test_a_model_that_cannot_be_stopped_fails_the_unload_once() -> None:
    world = World("a b", group("g", "a b", swap=False))
    world.occupy("a")
    world.occupy("b")
    world.models["a"].stop_fails = True
    command = world.unload()
    world.run(1.0)
    answer = world.answers[command]
    assert (answer.outcome, answer.error) == (Outcome.FAILED, BOOM)
    world.models["a"].stop_fails = False
    again = world.unload("a")
    assert world.after(1.0).outcome(again) is Outcome.OK


def test_a_victim_that_is_unloaded_makes_room_all_the_same() -> None:
    world, _, asked, _ = gate_shut()
    world.unload("a")
    assert asked.after(1.5).in_flight


def test_commands_that_have_nothing_to_do_are_answered_at_once() -> None:
    world = World("a b", a=SLEEPY)
    assert world.outcome(world.unload("a")) is Outcome.OK
    assert world.outcome(world.unload("nope")) is Outcome.UNKNOWN
    nothing = World("")
    assert nothing.outcome(nothing.unload()) is Outcome.OK
    assert world.outcome(world.sleep("a")) is Outcome.STOPPED
    assert world.outcome(world.sleep("b")) is Outcome.SLEEP_NOT_CONFIGURED
    assert world.outcome(world.sleep("nope")) is Outcome.UNKNOWN


# --- sleep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("drain", [True, False])
def test_sleep_lets_requests_end_or_cuts_them_and_answers_when_it_is_asleep(drain: bool) -> None:
    world = World("a", a=SLEEPY)
    stream = world.occupy("a")
    command = world.sleep("a", drain=drain)
    late = world.request("a")
    if drain:
        world.run(10.0)
        world.finish(stream)
    assert late.pending
    world.run(0.2)
    assert [each.reason for each in world.cuts] == ([] if drain else [CutReason.SLEEP])
    assert stream.returned
    assert world.outcome(command) is Outcome.OK
    assert late.after(0.1).in_flight, "woken like for any request"


def test_sleep_waits_for_a_load_and_the_waiters_of_before() -> None:
    world = World("a", a=ModelRules("a", can_sleep=True, concurrency_limit=1))
    first, second = world.requests("a", 2)
    command = world.sleep("a")
    third = world.request("a").after(1.0)
    world.finish(first)
    assert second.in_flight
    world.finish(second)
    assert third.pending
    assert world.after(0.2).outcome(command) is Outcome.OK
    assert third.after(0.1).in_flight


def test_sleep_of_a_sleeping_model_is_ok() -> None:
    world = World("a", a=SLEEPY)
    world.serve("a")
    commands = [world.sleep("a"), world.sleep("a")]
    world.run(0.2)
    commands.append(world.sleep("a"))
    assert [world.outcome(c) for c in commands] == [Outcome.OK] * 3


@pytest.mark.parametrize("fault", ["load", "crash", "sleep"])
def test_a_sleep_that_does_not_come_about_says_why(fault: str) -> None:
    world = World("a", a=SLEEPY)
    if fault == "load":
        world.models["a"].failures = 1
        world.request("a")
    else:
        world.occupy("a")
    command = world.sleep("a", drain=fault != "sleep")
    if fault == "crash":
        world.crash("a")
    world.models["a"].sleep_fails = fault == "sleep"
    world.run(1.0)
    answer = world.answers[command]
    assert (answer.outcome, answer.error) == (Outcome.FAILED, BOOM)
    assert world.state("a") == "stopped"


def test_an_unload_overrules_a_sleep_that_still_waits() -> None:
    world = World("a", a=SLEEPY)
    world.occupy("a")
    sleep, unload = world.sleep("a"), world.unload("a")
    assert world.after(1.0).outcome(sleep) is Outcome.STOPPED
    assert world.outcome(unload) is Outcome.OK
    world.serve("a")
    unload, sleep = world.unload("a"), world.sleep("a")
    assert world.outcome(sleep) is Outcome.STOPPED


def test_a_swap_that_puts_the_model_to_sleep_answers_the_sleep_too() -> None:
    world = World("a b", a=SLEEPY)
    world.serve("a")
    world.request("b")
    command = world.sleep("a")
    assert world.after(0.2).outcome(command) is Outcome.OK


# --- idle clocks ---------------------------------------------------------------------------------


@parity(
    "TTL and unload",
    "the clock of `ttl` counts from the start of the server",
    "from ready, or the end of the last request",
)
def test_an_idle_model_is_stopped_its_ttl_after_its_load_or_last_request() -> None:
    world = World("a", a=ModelRules("a", ttl_s=60.0))
    world.models["a"].load_s = 100.0
    world.load("a")
    for span in (159.0, 50.0, 59.5):
        assert world.after(span).state("a") == "ready"
        world.request("a", 0.0)
    stream = world.request("a")
    assert world.after(1000.0).state("a") == "ready", "a long request is not idle"
    world.finish(stream)
    assert world.after(59.9).state("a") == "ready"
    assert world.after(0.6).state("a") == "stopped"


def test_an_idle_model_sleeps_first_and_is_stopped_later() -> None:
    rules = {
        name: ModelRules(name, ttl_s=100.0, sleep_after_s=10.0, can_sleep=name == "a")
        for name in "ab"
    }
    world = World("a b", group("g", "a b", swap=False), **rules)
    world.request("a", 0.0)
    world.request("b", 0.0).after(12.0)
    assert (world.state("a"), world.state("b")) == ("asleep", "ready")
    assert world.after(88.0).state("a") == "asleep"
    assert world.after(2.0).state("a") == "stopped"


def test_a_sleeping_model_that_is_waited_for_is_not_stopped() -> None:
    world = World("a b", a=ModelRules("a", can_sleep=True, ttl_s=20.0))
    world.serve("a")
    stream = world.occupy("b")
    asked = world.request("a")
    assert world.after(60.0).state("a") == "asleep"
    world.finish(stream)
    assert asked.after(1.0).in_flight


def test_the_clock_goes_on_when_a_swap_comes_to_nothing() -> None:
    world = World(
        "a b c", group("g", "a b", swap=False), group("h", "c"), a=ModelRules("a", ttl_s=50.0)
    )
    world.serve("a")
    world.occupy("b")
    world.run(20.0)
    world.leave(world.request("c"))
    assert world.after(60.0).state("a") == "stopped"
