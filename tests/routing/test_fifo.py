from llmsnap.routing.fifo import Fifo
from llmsnap.routing.ledger import Entry
from llmsnap.routing.policy import AT_ONCE, NEVER
from llmsnap.routing.rules import PolicyName
from tests.routing.entries import ready, waiting
from tests.routing.world import World

FIFO = Fifo()


def order(*entries: Entry) -> str:
    ranked = sorted(entries, key=lambda entry: FIFO.rank(entry, 50.0))
    return "".join(entry.model_id for entry in ranked)


def test_arrival_decides_after_priority() -> None:
    assert order(waiting("a", 20.0), waiting("b", 10.0)) == "ba"
    assert order(waiting("a", 10.0), waiting("b", 20.0, priority=1)) == "ba"
    assert order(waiting("a", 10.0, turn_ended=30.0), waiting("b", 20.0)) == "ab"
    assert order(waiting("a"), waiting("b", 20.0)) == "ba"


def test_waiting_changes_nothing() -> None:
    assert FIFO.rank_changes_at(waiting("a", 10.0), 1e9) == NEVER
    assert FIFO.reopen_after_s == NEVER


def test_only_idle_victims_leave() -> None:
    target = waiting("t", 10.0)
    assert FIFO.due_at(target, [ready("m", 0.0)]) == AT_ONCE
    assert FIFO.due_at(target, [ready("m", 0.0), ready("n", 0.0, in_flight=1)]) == NEVER


def test_a_ready_model_is_served_whatever_waits() -> None:
    world = World("a b", policy=PolicyName.FIFO, queue_timeout_s=0.0)
    first = world.request("a")
    world.run(1.0)
    asked = world.request("b")
    for _ in range(100):
        second = world.request("a")
        world.run(100.0)
        assert second.in_flight
        world.finish(first)
        first = second
    assert asked.pending
    world.finish(first)
    world.run(1.5)
    assert asked.in_flight


def test_requests_for_the_same_model_share_its_turn() -> None:
    world = World("a b", policy=PolicyName.FIFO)
    for name in "abab":
        world.request(name, 1.0)
    world.run(60.0)
    assert world.started == ["a", "b"]
