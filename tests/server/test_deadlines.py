"""Clients that take too long are hung up on, the oldest first; requests start in fair portions."""

import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.server import deadlines
from llmsnap.server.deadlines import ConnectionLimits, Deadline, Deadlines, StartThrottle
from llmsnap.sockets import Readiness
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


def test_each_has_its_own_time_from_its_last_start(deadline: Deadline, clock: Clock) -> None:
    first, second, again, stopped = all_ = [Waiting() for _ in range(4)]
    for one in (first, again, stopped):
        deadline.start(one)
    clock.now += 6
    deadline.start(second)
    deadline.start(again)
    deadline.stop(stopped)
    deadline.stop(stopped)
    clock.now += 6
    deadline.hang_up_late()
    assert (hung_up(*all_), len(deadline)) == ([True, False, False, False], 2)
    clock.now += 6
    deadline.hang_up_late()
    assert hung_up(*all_) == [True, True, True, False]


@pytest.mark.parametrize("too_early", [False, True])
def test_the_timer_hangs_up_and_is_set_again(clock: Clock, too_early: bool) -> None:
    deadline = Deadline(0.02, clock)
    for _ in range(2):
        late = Waiting()
        deadline.start(late)
        if too_early:
            deadline.hang_up_late()  # nothing but a new timer
        clock.now += 1
        assert late.hung_up.wait(4)


def test_idle_connections_make_room_and_then_those_that_waited_longest(clock: Clock) -> None:
    all_ = Deadlines(ConnectionLimits())
    all_.heads, all_.bodies = Deadline(15, clock), Deadline(60, clock)
    waiting = [Waiting() for _ in range(6)]
    kinds = (all_.bodies, all_.heads, all_.bodies, all_.lingering, all_.idle, all_.idle)
    for one, kind in zip(waiting, kinds, strict=True):
        kind.start(one)
        clock.now += 1
    for number in (4, 5, 3, 0, 1, 2):
        assert all_.make_room()
        assert waiting[number].hung_up.is_set()
    assert not all_.make_room()


def test_the_end_of_all(clock: Clock) -> None:
    connections = Deadlines(ConnectionLimits())
    connections.heads = Deadline(15.0, clock)
    waiting = [Waiting() for _ in range(4)]
    for one in waiting[:2]:
        connections.idle.start(one)
    connections.heads.start(waiting[2])
    clock.now += 0.3
    connections.heads.start(waiting[3])
    clock.now += 0.3
    connections.end_idle()
    assert hung_up(*waiting) == [True, True, True, False], "the last has only just connected"
    clock.now += deadlines.LAST_HEAD_S
    connections.end_idle()
    assert hung_up(waiting[3]) == [True]


LONG_S = 5 * deadlines.START_BUDGET_S


def work(for_s: float = LONG_S) -> None:
    """Block the event loop."""
    until = time.perf_counter() + for_s
    while time.perf_counter() < until:
        pass


@pytest.fixture
def throttle() -> Iterator[StartThrottle]:
    made = StartThrottle()
    yield made
    made.close()


@pytest.fixture
def polls() -> Iterator[list[int]]:
    """How often the loop has polled the sockets: one element, counted up."""
    count = [0]
    watcher = gevent.get_hub().loop.check()

    def counted() -> None:
        count[0] += 1

    watcher.start(counted)
    yield count
    watcher.stop()
    watcher.close()


@pytest.fixture
def start(throttle: StartThrottle, polls: list[int]) -> Callable[..., list[gevent.Greenlet]]:
    """Have greenlets come, who note after how many polls which of them is in, and then work."""

    def run_all(count: int, into: list, then: Callable[[], None]) -> list[gevent.Greenlet]:
        def run(number: int) -> None:
            throttle.wait_turn()
            into.append((polls[0], number))
            then()

        return [gevent.spawn(run, number) for number in range(count)]

    return run_all


def test_an_early_request_starts_at_once(throttle, polls: list[int], monkeypatch) -> None:
    monkeypatch.setattr(deadlines, "START_BUDGET_S", 60.0)
    before = polls[0]
    throttle.wait_turn()
    assert polls[0] == before


def test_a_late_request_waits_until_the_sockets_were_polled(throttle, polls) -> None:
    before = polls[0]
    work()
    throttle.wait_turn()
    assert polls[0] > before


def test_slow_requests_start_one_per_iteration_and_in_their_order(start) -> None:
    seen: list[tuple[int, int]] = []
    gevent.joinall(start(6, seen, work), timeout=2)
    assert [number for _, number in seen] == list(range(6))
    assert len({at for at, _ in seen[1:]}) == 5, "one in each iteration"


def test_quick_requests_start_together(start, monkeypatch) -> None:
    monkeypatch.setattr(deadlines, "START_BUDGET_S", -1.0)  # all wait
    seen: list[tuple[int, int]] = []
    started = start(6, seen, lambda: None)
    gevent.sleep(0)
    assert seen == []
    monkeypatch.setattr(deadlines, "START_BUDGET_S", 60.0)  # and there is time for all
    gevent.joinall(started, timeout=2)
    assert len(seen) == 6
    assert len({at for at, _ in seen}) == 1


def test_sockets_are_served_before_a_waiting_request(throttle: StartThrottle) -> None:
    order: list[str] = []
    pairs = [socket.socketpair() for _ in range(3)]
    waits = [Readiness(ours) for ours, _ in pairs]

    def read(one: Readiness) -> None:
        one.wait()
        order.append("socket")

    greenlets = [gevent.spawn(read, one) for one in waits]
    gevent.sleep(0)
    for _, theirs in pairs:
        theirs.sendall(b"x")
    work()
    throttle.wait_turn()
    order.append("request")
    gevent.joinall(greenlets, timeout=2)
    for one, pair in zip(waits, pairs, strict=True):
        one.close()
        for sock in pair:
            sock.close()
    assert order == ["socket"] * 3 + ["request"]


def test_a_request_that_is_killed_while_it_waits_holds_up_no_other(start, monkeypatch) -> None:
    monkeypatch.setattr(deadlines, "START_BUDGET_S", -1.0)  # all wait
    seen: list[tuple[int, int]] = []
    first, second = start(2, seen, lambda: None)
    gevent.get_hub().loop.run_callback(lambda: first.kill(block=False))
    gevent.joinall([first, second], timeout=4)
    assert [number for _, number in seen] == [1]
