import pytest

from llmsnap.models import State
from llmsnap.routing.messages import Outcome, PreloadEnded
from tests.routing.world import BOOM, World, gate_shut, group

OK = Outcome.OK


def test_a_load_by_hand_answers_when_the_model_is_ready() -> None:
    world = World("a")
    command = world.load("a")
    assert world.after(0.9).outcome(command) is None
    assert world.after(0.1).outcome(command) is OK
    assert world.outcome(world.load("a")) is OK
    assert world.outcome(world.load("nope")) is Outcome.UNKNOWN
    assert world.records[-1].reason == "load"


@pytest.mark.parametrize(
    ("before", "then", "gives_way"),
    [
        ("left", "request", True),
        ("left", "load", True),
        ("request", "request", False),
        ("load", "request", False),
        ("preload", "load", False),
        ("preload", "request", True),
        ("preload request", "request", False),
    ],
)
def test_a_load_makes_room_unless_a_client_or_a_load_by_hand_waits_for_it(
    before: str, then: str, gives_way: bool
) -> None:
    world = World("a b", slow="a")
    for each in before.split():
        match each:
            case "left":
                world.leave(world.request("a"))
            case "request":
                world.request("a", 0.0)
            case _:
                getattr(world, each)("a")
    getattr(world, then)("b")
    outcome = Outcome.SUPERSEDED if gives_way else OK
    preloads = [PreloadEnded("a", outcome)] if "preload" in before else []
    assert world.preloads == preloads[: 1 if gives_way else 0]
    world.run(1.5)
    assert (world.view("b").state is State.READY) is gives_way
    assert [each.outcome for each in world.records] == ["aborted", "done"] * gives_way
    assert world.after(600.0).view("b").state is State.READY
    assert world.preloads == preloads


def test_loads_by_hand_and_preloads_evict_only_idle_models() -> None:
    world = World("a b c")
    stream = world.occupy("a")
    command = world.load("b")
    world.preload("c")
    world.run(1000.0)
    assert world.request("a", 0.0).in_flight
    assert world.outcome(command) is None
    world.finish(stream)
    assert world.after(1.5).outcome(command) is OK
    assert world.after(1.5).preloads == [PreloadEnded("c", OK)]


def test_a_drain_is_given_up_when_only_a_load_by_hand_is_left() -> None:
    world, _, asked, held = gate_shut()
    world.load("b")
    world.leave(asked)
    assert held.in_flight


def test_clients_go_before_loads_by_hand_and_those_before_preloads() -> None:
    world = World("a b c d")
    stream = world.occupy("a")
    world.preload("b")
    world.load("c")
    world.run(10.0)
    world.request("d", 1.0)
    world.finish(stream)
    assert world.after(20.0).started == ["a", "d", "c", "b"]


def test_loads_by_hand_and_preloads_have_a_deadline() -> None:
    world = World("a b c", queue_timeout_s=60.0)
    world.occupy("a")
    commands = [world.load("b"), world.load("b")]
    world.preload("b", "c")
    world.run(60.0)
    assert [world.outcome(each) for each in commands] == [Outcome.QUEUE_TIMEOUT] * 2
    assert world.preloads == [PreloadEnded("b", Outcome.QUEUE_TIMEOUT)]
    assert len(world.after(60.0).preloads) == 2
    assert not world.scheduler._state.awaited


def test_a_load_by_hand_starts_the_count_of_failures_again() -> None:
    world = World("a")
    world.fail("a")
    assert world.request("a").refused
    world.models["a"].failures = 1
    command = world.load("a")
    world.run(1.0)
    answer = world.answers[command]
    assert (answer.outcome, answer.error) == (Outcome.FAILED, BOOM)
    assert world.view("a").failures == 1
    world.occupy("a")  # the first failure holds no start off


def test_an_unload_answers_the_load_and_the_preload_it_cancels() -> None:
    world = World("a b", group("g", "a b", swap=False))
    command = world.load("a")
    world.preload("b")
    world.unload()
    assert world.outcome(command) is Outcome.UNLOADED
    assert world.preloads == [PreloadEnded("b", Outcome.UNLOADED)]


def test_preloads_run_one_after_the_other() -> None:
    world = World("a b c", group("g", "a b c", swap=False))
    world.preload("a", "b", "c")
    assert world.started == ["a"]
    assert world.after(2.5).preloads == [PreloadEnded("a", OK), PreloadEnded("b", OK)]
    assert world.after(0.5).state("c") == "ready"
    world.preload("c")
    assert world.preloads[3:] == [PreloadEnded("c", OK)], "it is ready already"


def test_the_event_of_a_preload_tells_the_truth() -> None:
    world = World("a")
    world.models["a"].failures = 2
    world.preload("nope", "a")
    world.run(1.0)
    world.preload("a")
    world.run(1.0)
    world.preload("a")  # backing off
    found = [(p.model_id, p.outcome) for p in world.preloads]
    assert found == [("nope", Outcome.UNKNOWN), *[("a", Outcome.FAILED)] * 3]
    assert world.preloads[-1].error is BOOM


def test_a_new_list_replaces_the_old_one() -> None:
    world = World("a b c", group("g", "a b c", swap=False))
    world.preload("a", "b")
    world.preload("a", "c")
    world.run(5.0)
    superseded = PreloadEnded("b", Outcome.SUPERSEDED)
    assert world.preloads == [superseded, PreloadEnded("a", OK), PreloadEnded("c", OK)]
    assert world.started == ["a", "c"]
