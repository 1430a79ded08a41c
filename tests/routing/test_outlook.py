import pytest

from llmsnap.routing.outlook import span
from llmsnap.routing.rules import ModelRules
from tests.routing.world import Asked, World, group


def ready(world: World, model_id: str) -> Asked:
    asked = world.request(model_id)
    world.run(5.0)
    assert asked.in_flight
    return asked


def why(world: World, model_id: str) -> str:
    return world.scheduler.explain(model_id, world.now)


def eta(world: World, model_id: str) -> float:
    eta_s = world.scheduler.eta_s(model_id, world.now)
    assert eta_s is not None
    return round(eta_s, 6)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119.0, "119 s"), (3660.0, "61 min"), (86400.0, "24 h")]
)
def test_spans_read_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_who_is_in_the_way() -> None:
    world = World("a b", max_hold_s=10_000.0)
    ready(world, "a")
    world.request("a")
    world.request("b")
    world.run(3600.0 - 5.0)
    assert why(world, "b") == "a is serving 2 requests for 60 min"


def test_a_load_under_way() -> None:
    world = World("a b")
    world.models["a"].load_s = 60.0
    world.request("a")
    world.run(10.0)
    world.request("b")
    assert why(world, "a") == "a has been loading for 10 s"
    assert why(world, "b") == "a goes first: a has been loading for 10 s"


def test_an_eviction_under_way() -> None:
    world = World("a b", a=ModelRules("a", can_sleep=True))
    world.finish(ready(world, "a"))
    world.request("b")
    assert why(world, "b") == "a is going to sleep"
    assert why(world, "a") == "a is going to sleep"


def test_a_gate_that_is_shut() -> None:
    world = World("a b")
    ready(world, "a")
    world.run(100.0)
    world.request("b")
    world.run(10.0)
    assert why(world, "a") == "a makes room for b; a is serving 1 request for 114 s"


def test_all_slots_taken() -> None:
    world = World("a", a=ModelRules("a", concurrency_limit=1))
    world.requests("a", 2)
    world.run(11.0)
    text = "a has 1 slots (concurrencyLimit); a is serving 1 request for 10 s"
    assert why(world, "a") == text


def test_a_model_on_its_way_out() -> None:
    world = World("a", a=ModelRules("a", can_sleep=True))
    ready(world, "a")
    world.sleep("a")
    assert why(world, "a") == "a is to be asleep first; a is serving 1 request for 4 s"
    world.unload("a", drain=True)
    assert why(world, "a") == "a is to be stopped first; a is serving 1 request for 4 s"


def test_others_that_waited_longer() -> None:
    world = World("x y s", group("big", "x y"), group("small", "s", swap=False, exclusive=False))
    ready(world, "x")
    world.request("y")
    world.request("s")
    assert why(world, "s") == "y waited longer"


def test_nothing_in_the_way() -> None:
    assert why(World("a"), "a") == "a is about to load"


def test_a_ready_model_serves_at_once() -> None:
    world = World("a")
    ready(world, "a")
    assert eta(world, "a") == 0.0


def test_estimates_follow_what_was_measured() -> None:
    world = World("a b")
    assert eta(world, "a") == 5.0  # nothing known yet
    world.finish(ready(world, "a"))
    assert eta(world, "b") == 5.0
    world.finish(ready(world, "b"))
    assert eta(world, "a") == 1.0  # a's load; nothing known of how long b takes to stop
    world.finish(ready(world, "a"))
    assert eta(world, "b") == 1.5


def test_a_load_under_way_counts_down() -> None:
    world = World("a b")
    world.request("a")
    world.run(0.5)
    assert eta(world, "a") == 4.5
    assert eta(world, "b") == 9.5  # a first, then its own


def test_the_turn_of_another_counts() -> None:
    world = World("a b")
    ready(world, "a")
    world.request("b")
    assert eta(world, "b") == 11.0  # a is ready since 4 s and has a turn of 10 s; then b loads


def test_a_load_that_takes_longer_than_ever_is_due_now() -> None:
    world = World("a")
    world.models["a"].load_s = 600.0
    world.request("a")
    world.run(100.0)
    assert eta(world, "a") == 0.0
