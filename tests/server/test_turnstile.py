from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket

from llmsnap.server import turnstile
from llmsnap.server.turnstile import Turnstile
from llmsnap.sockets import Readiness

LONG_S = 5 * turnstile.LATE_S


def work(for_s: float = LONG_S) -> None:
    """Keep the event loop from going on."""
    until = time.perf_counter() + for_s
    while time.perf_counter() < until:
        pass


@pytest.fixture
def gate() -> Iterator[Turnstile]:
    made = Turnstile()
    yield made
    made.close()


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """How often the loop has looked at the sockets: one element, counted up."""
    count = [0]
    watcher = gevent.get_hub().loop.check()

    def counted() -> None:
        count[0] += 1

    watcher.start(counted)
    yield count
    watcher.stop()
    watcher.close()


@pytest.fixture
def enter(gate: Turnstile, looks: list[int]) -> Callable[..., list[gevent.Greenlet]]:
    """Have greenlets come, who note after how many looks they are in, and then work."""

    def come(count: int, into: list[int], then: Callable[[], None]) -> list[gevent.Greenlet]:
        def run() -> None:
            gate.pass_through()
            into.append(looks[0])
            then()

        return [gevent.spawn(run) for _ in range(count)]

    return come


def test_whoever_comes_in_time_is_let_in_at_once(gate: Turnstile, looks: list[int]) -> None:
    gevent.sleep(0)
    gevent.get_hub().loop.update_now()
    before = looks[0]
    gate.pass_through()
    assert looks[0] == before


def test_whoever_comes_late_waits_until_the_sockets_were_looked_at(
    gate: Turnstile, looks: list[int]
) -> None:
    before = looks[0]
    work()
    gate.pass_through()
    assert looks[0] > before


def test_of_those_who_wait_one_is_let_in_per_pass_when_each_takes_long(enter, looks) -> None:
    seen: list[int] = []
    gevent.joinall(enter(6, seen, work), timeout=2)
    assert len(seen) == 6
    assert len(set(seen[1:])) == 5, "one in each pass"
    assert seen == sorted(seen)


def test_several_who_take_little_are_let_in_together(enter, gate, looks, monkeypatch) -> None:
    monkeypatch.setattr(turnstile, "LATE_S", -1.0)  # everybody waits
    seen: list[int] = []
    entered = enter(6, seen, lambda: None)
    gevent.sleep(0)
    assert seen == []
    monkeypatch.setattr(turnstile, "LATE_S", 60.0)  # and there is time for all
    gevent.joinall(entered, timeout=2)
    assert len(seen) == 6
    assert len(set(seen)) == 1


def test_nobody_overtakes(gate: Turnstile) -> None:
    order: list[int] = []

    def run(number: int) -> None:
        gate.pass_through()
        order.append(number)
        work()

    greenlets = [gevent.Greenlet(run, number) for number in range(8)]
    for greenlet in greenlets:
        greenlet.start()
        gevent.sleep(0)
    gevent.joinall(greenlets, timeout=2)
    assert order == list(range(8))


def test_sockets_are_served_before_whoever_waits(gate: Turnstile) -> None:
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
    gate.pass_through()
    order.append("request")
    gevent.joinall(greenlets, timeout=2)
    for one, pair in zip(waits, pairs, strict=True):
        one.close()
        for sock in pair:
            sock.close()
    assert order == ["socket"] * 3 + ["request"]


def test_whoever_is_ended_while_it_waits_keeps_nobody_else(
    gate: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "LATE_S", -1.0)  # everybody waits
    entered: list[str] = []

    def run(name: str) -> None:
        gate.pass_through()
        entered.append(name)

    first, second = gevent.Greenlet(run, "first"), gevent.Greenlet(run, "second")
    first.start()
    second.start()
    gevent.get_hub().loop.run_callback(lambda: first.kill(block=False))
    gevent.joinall([first, second], timeout=2)
    assert entered == ["second"]
    assert repr(gate) == "<Turnstile, 0 wait>"
