"""Facts about llmsnap.server.attention."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.proxy.disconnect import EpollWatch
from llmsnap.server.attention import Attention
from llmsnap.server.reader import Reader


@pytest.fixture
def others():
    made = EpollWatch()
    yield made
    made.close()


@pytest.fixture
def reader(pair):
    return Reader(pair[0])


@pytest.fixture
def attention(pair, reader, others):
    made = Attention(pair[0], reader, others)
    yield made
    made.close()


def let_the_loop_look() -> None:
    for _ in range(3):
        gevent.idle()


@pytest.mark.parametrize("leave", [socket.socket.close, lambda sock: sock.shutdown(1)])
def test_a_client_that_leaves_is_told_of_at_once(pair, attention, leave) -> None:
    gone = Event()
    attention.add(pair[0].fileno(), gone.set)
    leave(pair[1])
    assert gone.wait(2)


def test_one_that_left_before_is_told_of_too(pair, attention) -> None:
    gone = Event()
    pair[1].close()
    attention.add(pair[0].fileno(), gone.set)
    assert gone.wait(2)


def test_a_next_request_is_no_departure_but_an_end_behind_it_is(pair, attention, others) -> None:
    ours, theirs = pair
    gone = Event()
    attention.add(ours.fileno(), gone.set)
    theirs.sendall(b"GET /next")
    let_the_loop_look()
    assert not gone.is_set()
    assert repr(others) == "<EpollWatch 1 clients>"
    theirs.close()
    assert gone.wait(2)


def test_after_remove_nothing_is_told_nor_watched(pair, attention, others) -> None:
    ours, theirs = pair
    gone = Event()
    attention.add(ours.fileno(), gone.set)
    theirs.sendall(b"GET /next")
    let_the_loop_look()
    attention.remove(ours.fileno())
    theirs.close()
    let_the_loop_look()
    assert not gone.is_set()
    assert repr(others) == "<EpollWatch 0 clients>"


def test_bytes_while_no_request_is_served_are_left_to_who_reads(pair, attention, others) -> None:
    ours, theirs = pair
    attention.turn_on()
    theirs.sendall(b"a body in pieces")
    let_the_loop_look()
    assert not attention.is_on
    assert repr(others) == "<EpollWatch 0 clients>"
    assert ours.recv(100) == b"a body in pieces"


def test_who_reads_a_body_finds_its_end_before_the_watch_does(pair, reader, attention) -> None:
    ours, theirs = pair
    gone = Event()
    attention.add(ours.fileno(), gone.set)
    for act in (lambda: theirs.sendall(b"x"), theirs.close):
        reading = gevent.spawn(reader.some, 100)
        gevent.idle()
        assert reader.is_reading
        act()
        assert reading.get() in (b"x", b"")
        assert not gone.is_set()
    assert gone.wait(2), "and then it is told as ever"


def test_it_serves_request_after_request(pair, attention) -> None:
    ours, theirs = pair
    for _ in range(3):
        attention.add(ours.fileno(), pytest.fail)
        attention.remove(ours.fileno())
        waiting = gevent.spawn(attention.wait)
        theirs.sendall(b"x")
        waiting.get()
        assert ours.recv(1) == b"x"
