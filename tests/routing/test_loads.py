from llmsnap.routing.messages import ModelRules, Outcome, PreloadEnded
from tests.routing.world import BOOM, World, group

# --- by hand -------------------------------------------------------------------------------------


def test_a_load_by_hand_answers_when_the_model_is_ready() -> None:
    world = World("a")
    command = world.load("a")
    world.run(0.9)
    assert world.outcome(command) is None
    world.run(0.1)
    assert world.outcome(command) is Outcome.OK
    assert world.outcome(world.load("a")) is Outcome.OK
    assert world.records[-1].reason == "load"


def test_a_load_by_hand_is_not_aborted_for_clients() -> None:
    world = World("a b")
    world.models["a"].load_s = 100.0
    command = world.load("a")
    asked = world.request("b")
    world.run(100.0)
    assert world.outcome(command) is Outcome.OK
    world.run(5.0)
    assert asked.in_flight


def test_a_load_by_hand_takes_the_room_of_a_load_nobody_waits_for() -> None:
    world = World("a b")
    world.models["a"].load_s = 600.0
    world.leave(world.request("a"))
    command = world.load("b")
    world.run(1.5)
    assert world.outcome(command) is Outcome.OK


def test_a_load_by_hand_waits_for_a_preload() -> None:
    world = World("a b")
    world.models["a"].load_s = 60.0
    world.preload("a")
    command = world.load("b")
    world.run(60.0)
    assert world.preloads == [PreloadEnded("a", Outcome.OK)]
    world.run(1.5)
    assert world.outcome(command) is Outcome.OK


def test_a_load_by_hand_evicts_only_idle_models() -> None:
    world = World("a b")
    stream = world.occupy("a")
    command = world.load("b")
    world.run(1000.0)
    assert world.request("a", 0.0).in_flight
    assert world.outcome(command) is None
    world.finish(stream)
    world.run(1.5)
    assert world.outcome(command) is Outcome.OK


def test_a_drain_is_given_up_when_only_a_load_by_hand_is_left() -> None:
    world = World("a b")
    world.occupy("a")
    world.run(100.0)
    asked = world.request("b")
    world.load("b")
    world.run(10.0)
    held = world.request("a")
    world.leave(asked)
    assert held.in_flight


def test_clients_go_before_loads_by_hand() -> None:
    world = World("a b c")
    stream = world.occupy("a")
    world.load("b")
    world.run(10.0)
    world.request("c", 1.0)
    world.finish(stream)
    world.run(20.0)
    assert world.started == ["a", "c", "b"]


def test_a_load_by_hand_has_a_deadline() -> None:
    world = World("a b", queue_timeout_s=60.0)
    world.occupy("a")
    command, later = world.load("b"), world.load("b")
    world.run(60.0)
    assert world.outcome(command) is Outcome.QUEUE_TIMEOUT
    assert world.outcome(later) is Outcome.QUEUE_TIMEOUT
    assert not world.scheduler._state.awaited


def test_a_load_by_hand_forgets_failures() -> None:
    world = World("a")
    world.models["a"].failures = 2
    for _ in range(2):
        world.request("a")
        world.run(1.0)
    assert world.request("a").refused
    world.load("a")
    asked = world.request("a")
    world.run(1.0)
    assert asked.in_flight


def test_a_load_by_hand_that_fails_or_cannot_be() -> None:
    world = World("a")
    world.models["a"].failures = 1
    command = world.load("a")
    world.run(1.0)
    answer = world.answers[command]
    assert (answer.outcome, answer.error) == (Outcome.FAILED, BOOM)
    assert world.outcome(world.load("nope")) is Outcome.UNKNOWN


def test_an_unload_answers_the_load_it_cancels() -> None:
    world = World("a")
    command = world.load("a")
    world.unload("a")
    assert world.outcome(command) is Outcome.UNLOADED


# --- preload -------------------------------------------------------------------------------------


def test_preloads_run_one_after_the_other() -> None:
    world = World("a b c", group("g", "a b c", swap=False))
    world.preload("a", "b", "c")
    assert world.started == ["a"]
    world.run(2.5)
    assert world.preloads == [PreloadEnded("a", Outcome.OK), PreloadEnded("b", Outcome.OK)]
    world.run(0.5)
    assert world.state("c") == "ready"


def test_later_preloads_swap_out_earlier_ones() -> None:
    world = World("a b")
    world.preload("a", "b")
    world.run(2.5)
    assert (world.state("a"), world.state("b")) == ("stopped", "ready")
    assert [p.outcome for p in world.preloads] == [Outcome.OK] * 2


def test_a_preload_gives_way_to_a_client() -> None:
    world = World("a b")
    world.models["a"].load_s = 600.0
    world.preload("a", "b")
    world.run(1.0)
    asked = world.request("b")
    assert world.preloads == [PreloadEnded("a", Outcome.SUPERSEDED)]
    world.run(1.5)
    assert asked.in_flight
    assert world.preloads[1:] == [PreloadEnded("b", Outcome.OK)]


def test_a_preload_a_client_joined_does_not_give_way() -> None:
    world = World("a b")
    world.models["a"].load_s = 100.0
    world.preload("a")
    asked = world.request("a")
    world.request("b")
    world.run(100.0)
    assert asked.in_flight
    assert world.preloads == [PreloadEnded("a", Outcome.OK)]


def test_a_preload_never_disturbs_anybody() -> None:
    world = World("a b")
    stream = world.occupy("a")
    world.preload("b")
    world.run(1000.0)
    assert world.request("a", 0.0).in_flight
    world.finish(stream)
    world.run(1.5)
    assert world.preloads == [PreloadEnded("b", Outcome.OK)]


def test_the_event_of_a_preload_tells_the_truth() -> None:
    world = World("a")
    world.models["a"].failures = 2
    world.preload("nope", "a")
    world.run(1.0)
    world.preload("a")
    world.run(1.0)
    world.preload("a")  # backing off
    assert [(p.model_id, p.outcome) for p in world.preloads] == [
        ("nope", Outcome.UNKNOWN),
        ("a", Outcome.FAILED),
        ("a", Outcome.FAILED),
        ("a", Outcome.FAILED),
    ]
    assert world.preloads[-1].error is BOOM


def test_a_ready_model_is_preloaded_already() -> None:
    world = World("a")
    world.occupy("a")
    world.preload("a")
    assert world.preloads == [PreloadEnded("a", Outcome.OK)]


def test_a_new_list_replaces_the_old_one() -> None:
    world = World("a b c", group("g", "a b c", swap=False))
    world.preload("a", "b")
    world.preload("a", "c")
    world.run(5.0)
    assert world.preloads == [
        PreloadEnded("b", Outcome.SUPERSEDED),
        PreloadEnded("a", Outcome.OK),
        PreloadEnded("c", Outcome.OK),
    ]
    assert world.started == ["a", "c"]


def test_a_preload_has_a_deadline() -> None:
    world = World("a b c", queue_timeout_s=60.0, c=ModelRules("c"))
    world.occupy("a")
    world.preload("b", "c")
    world.run(60.0)
    assert world.preloads == [PreloadEnded("b", Outcome.QUEUE_TIMEOUT)]
    world.run(60.0)
    assert len(world.preloads) == 2


def test_an_unload_ends_the_preload_it_cancels() -> None:
    world = World("a b")
    world.preload("a")
    world.unload("a")
    assert world.preloads == [PreloadEnded("a", Outcome.UNLOADED)]


def test_a_load_by_hand_goes_before_preloads_that_came_first() -> None:
    world = World("a b c")
    stream = world.occupy("a")
    world.preload("b")
    world.load("c")
    world.finish(stream)
    world.run(20.0)
    assert world.started == ["a", "c", "b"]


def test_a_load_by_hand_starts_the_count_of_failures_again() -> None:
    world = World("a")
    world.models["a"].failures = 3
    for _ in range(2):
        world.request("a")
        world.run(1.0)
    world.load("a")
    world.run(1.0)
    assert world.view("a").failures == 1
    assert world.request("a").pending, "the first failure holds no start off"


def test_without_a_queue_timeout_a_load_waits_for_ever() -> None:
    world = World("a b", queue_timeout_s=0.0)
    stream = world.occupy("a")
    command = world.load("b")
    world.run(1e6)
    assert world.outcome(command) is None
    world.finish(stream)
    world.run(2.0)
    assert world.outcome(command) is Outcome.OK
