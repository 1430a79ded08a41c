"""Who keeps us waiting too long is hung up on, and the oldest go first when there are too many."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from llmsnap.server.connections import LAST_HEAD_S, Connections, Deadline, Limits
from tests.fakes.clock import Clock


class Waiting:
    def __init__(self) -> None:
        self.hung_up = Event()

    def hang_up(self) -> None:
        self.hung_up.set()


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def deadline(clock: Clock) -> Iterator[Deadline]:
    made = Deadline(10.0, clock)
    yield made
    made.hang_up_all()


def hung_up(*all_: Waiting) -> list[bool]:
    return [one.hung_up.is_set() for one in all_]


def test_each_has_its_own_time(deadline: Deadline, clock: Clock) -> None:
    first, second = Waiting(), Waiting()
    deadline.start(first)
    clock.now += 6
    deadline.start(second)
    clock.now += 6
    deadline.hang_up_late()
    assert hung_up(first, second) == [True, False]
    assert len(deadline) == 1
    clock.now += 6
    deadline.hang_up_late()
    assert hung_up(second) == [True]


def test_starting_again_gives_the_whole_time_again(deadline: Deadline, clock: Clock) -> None:
    first, second = Waiting(), Waiting()
    deadline.start(first)
    deadline.start(second)
    clock.now += 6
    deadline.start(first)
    clock.now += 6
    deadline.hang_up_late()
    assert hung_up(first, second) == [False, True]


def test_who_was_in_time_is_left_alone(deadline: Deadline, clock: Clock) -> None:
    one = Waiting()
    deadline.start(one)
    deadline.stop(one)
    deadline.stop(one)
    clock.now += 60
    deadline.hang_up_late()
    assert hung_up(one) == [False]


def test_it_comes_by_itself() -> None:
    deadline = Deadline(0.01)
    one = Waiting()
    deadline.start(one)
    assert one.hung_up.wait(2)
    again = Waiting()
    deadline.start(again)
    assert again.hung_up.wait(2)


def test_it_comes_back_for_those_that_began_later(clock: Clock) -> None:
    deadline = Deadline(0.02, clock)
    late = Waiting()
    deadline.start(late)
    deadline.hang_up_late()  # too early: nothing but a new timer
    clock.now += 1
    assert late.hung_up.wait(2)


def test_the_oldest_makes_room(deadline: Deadline) -> None:
    first, second = Waiting(), Waiting()
    deadline.start(first)
    deadline.start(second)
    assert deadline.hang_up_oldest()
    assert hung_up(first, second) == [True, False]
    assert deadline.hang_up_oldest()
    assert not deadline.hang_up_oldest()


def test_idle_connections_make_room_before_those_that_may_be_asking() -> None:
    connections = Connections(Limits())
    asking, idle = Waiting(), Waiting()
    connections.heads.start(asking)
    connections.idle.start(idle)
    assert repr(connections) == ("<Connections 1 idle, 1 without a head, 0 in a body, 0 lingering>")
    assert connections.make_room()
    assert hung_up(asking, idle) == [False, True]
    assert connections.make_room()
    assert hung_up(asking) == [True]
    assert not connections.make_room()


def test_of_those_that_owe_us_something_the_one_that_has_owed_it_longest_makes_room() -> None:
    connections = Connections(Limits())
    clock = Clock(100.0)
    connections.heads, connections.bodies = Deadline(15, clock), Deadline(60, clock)
    first, second, third, last = waiting = [Waiting() for _ in range(4)]
    for one, kind in zip(
        waiting,
        (connections.bodies, connections.heads, connections.bodies, connections.lingering),
        strict=True,
    ):
        kind.start(one)
        clock.now += 1
    for one in (last, first, second, third):
        assert connections.make_room()
        assert one.hung_up.is_set()
    assert not connections.make_room()


def test_the_end_of_all(clock: Clock) -> None:
    connections = Connections(Limits())
    connections.heads = Deadline(15.0, clock)
    waiting = [Waiting() for _ in range(4)]
    for one in waiting[:2]:
        connections.idle.start(one)
    connections.heads.start(waiting[2])
    clock.now += 0.3
    connections.heads.start(waiting[3])
    clock.now += 0.3
    connections.end_waiting()
    assert hung_up(*waiting) == [True, True, True, False], "the last has only just connected"
    clock.now += LAST_HEAD_S
    connections.end_waiting()
    assert hung_up(waiting[3]) == [True]
    gevent.idle()
    assert repr(connections.idle) == "<Deadline of 75 s for 0>"
