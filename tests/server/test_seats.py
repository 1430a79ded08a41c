"""Facts about llmsnap.server.seats: who serves a connection, and who rests."""

from __future__ import annotations

import gc
import weakref

import gevent
import pytest
from gevent.event import Event

from llmsnap.server import seats as module
from llmsnap.server.connections import Connections, Limits
from llmsnap.server.seats import Seats


class Guest:
    """One connection, served until the gate opens."""

    def __init__(self) -> None:
        self.gate = Event()
        self.greenlet: object = None

    def serve(self) -> None:
        self.greenlet = gevent.getcurrent()
        self.gate.wait()


@pytest.fixture
def seats():
    made = Seats(3, Connections(Limits()))
    yield made
    made.kill()
    made.close()


def take(seats: Seats, count: int = 1) -> list[Guest]:
    guests = [Guest() for _ in range(count)]
    for guest in guests:
        seats.spawn(guest.serve)
    gevent.idle()
    return guests


def leave(*guests: Guest) -> None:
    for guest in guests:
        guest.gate.set()
    gevent.idle()


def test_who_has_served_one_connection_serves_the_next(seats) -> None:
    (first,) = take(seats)
    leave(first)
    assert len(seats) == 0
    (second,) = take(seats)
    assert second.greenlet is first.greenlet
    assert len(seats) == 1


def test_each_connection_has_a_place_whoever_serves_it(seats) -> None:
    guests = take(seats, 3)
    assert seats.all_taken
    leave(*guests[:2])
    assert seats.free_count() == 2
    again = take(seats, 2)
    assert seats.all_taken
    assert len({id(one.greenlet) for one in [guests[2], *again]}) == 3
    leave(guests[2], *again)
    assert seats.free_count() == 3


def test_only_some_rest(seats, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_RESTED", 1)
    guests = take(seats, 3)
    leave(*guests)
    assert sum(guest.greenlet.dead for guest in guests) == 2


def test_nothing_of_a_connection_is_kept_by_who_rests(seats) -> None:
    for _ in range(2):  # the first of a greenlet, and one that it was given later
        (guest,) = take(seats)
        leave(guest)
        gone = weakref.ref(guest)
        del guest
        gc.collect()
        assert gone() is None


def test_one_that_fails_costs_its_greenlet_and_no_place(seats) -> None:
    def fail() -> None:
        raise OSError("as gevent prints it")

    (first,) = take(seats)
    leave(first)
    gevent.get_hub().exception_stream, before = None, gevent.get_hub().exception_stream
    try:
        seats.spawn(fail)
        gevent.idle()
    finally:
        gevent.get_hub().exception_stream = before
    assert first.greenlet.dead
    assert seats.free_count() == 3
    (second,) = take(seats)
    assert second.greenlet is not first.greenlet


def test_the_end_waits_for_those_that_rest_and_nobody_rests_after_it(seats) -> None:
    stays, goes = take(seats, 2)
    leave(goes)
    seats.close()
    assert goes.greenlet.dead
    leave(stays)
    assert stays.greenlet.dead
    assert seats.free_count() == 3
