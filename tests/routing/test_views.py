from llmsnap.models import State
from llmsnap.routing.rules import ModelRules
from tests.routing.world import World


def test_a_stopped_model_has_nothing_to_tell() -> None:
    view = World("a").view("a")
    assert view.state is State.STOPPED
    assert (view.in_flight, view.waiting, view.why, view.eta_s) == (0, 0, "", None)
    assert (view.rest, view.oldest_in_flight_for_s, view.oldest_waiting_for_s) == (None,) * 3


def test_a_serving_model() -> None:
    world = World("a", a=ModelRules("a", ttl_s=60.0))
    first, second = world.requests("a", 2)
    world.run(11.0)
    view = world.view("a")
    assert view.state is State.READY
    assert view.gate_open
    assert (view.in_flight, view.state_for_s, view.oldest_in_flight_for_s) == (2, 10.0, 10.0)
    assert view.rest is None
    world.finish(first)
    world.finish(second)
    world.run(20.0)
    view = world.view("a")
    assert (view.rest, view.rest_in_s) == (State.STOPPED, 40.0)
    assert view.start.p50_s == 1.0


def test_a_model_that_is_waited_for_says_why() -> None:
    world = World("a b")
    world.request("a")
    world.run(1.0)
    world.request("b")
    world.run(2.0)
    view = world.view("b")
    assert (view.waiting, view.oldest_waiting_for_s) == (1, 2.0)
    assert view.why == "a is serving 1 request for 2 s"
    assert view.eta_s == 13.0


def test_a_failing_model_says_when_it_may_be_tried_again() -> None:
    world = World("a")
    world.models["a"].failures = 2
    for _ in range(2):
        world.request("a")
        world.run(1.0)
    view = world.view("a")
    assert (view.failures, view.backoff_s) == (2, 1.0)


def test_models_are_listed_by_id() -> None:
    assert [view.model_id for view in World("c a b").scheduler.snapshot(0.0)] == ["a", "b", "c"]


def test_a_place_in_the_queue_counts_those_who_came_before() -> None:
    world = World("a")
    first, second, third = world.requests("a", 3)
    assert [world.scheduler.position(a.ticket) for a in (first, second, third)] == [1, 2, 3]
    world.leave(first)
    assert world.scheduler.position(third.ticket) == 2
    world.run(1.0)
    assert world.scheduler.position(third.ticket) is None
