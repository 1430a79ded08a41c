"""Facts about llmsnap.chores."""

from __future__ import annotations

import logging

import gevent
from gevent.event import Event

from llmsnap import chores as module
from llmsnap.chores import FEW, MOST_WAITING, OF_A_REQUEST, Chores, at_once


def test_chores_are_done_in_their_order_when_somebody_has_time() -> None:
    chores, done = Chores(), []
    chores.add(lambda: done.append(1))
    chores.add(lambda: done.append(2))
    assert (done, repr(chores)) == ([], "<Chores, 2 waiting>")
    chores.do()
    assert done == [1, 2]


def test_when_nobody_has_time_the_loop_does_them() -> None:
    chores, done = Chores(), Event()
    for _ in range(2):  # the timer is made anew each time
        done.clear()
        chores.add(done.set)
        assert done.wait(2)


def test_one_that_fails_is_logged_and_the_others_are_done(caplog) -> None:
    chores, done = Chores(), []
    chores.add(lambda: 1 / 0)
    chores.add(lambda: done.append(1))
    with caplog.at_level(logging.ERROR):
        chores.do()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_chore_that_makes_another_has_it_done_as_well() -> None:
    chores, done = Chores(), []
    chores.add(lambda: chores.add(lambda: done.append(2)))
    chores.do()
    assert done == [2]


def test_at_once_is_at_once() -> None:
    done = []
    at_once(lambda: done.append(1))
    assert done == [1]


def test_who_waits_anyway_does_a_few() -> None:
    chores, done = Chores(), []
    for number in range(OF_A_REQUEST + 1):
        chores.add(lambda n=number: done.append(n))
    gevent.get_hub().loop.update_now()
    chores.do_some()
    assert done == list(range(OF_A_REQUEST))
    chores.do()
    chores.do_some()
    assert len(done) == OF_A_REQUEST + 1


def test_whoever_is_late_does_none(monkeypatch) -> None:
    chores, done = Chores(), []
    chores.add(lambda: done.append(1))
    monkeypatch.setattr(module, "LATE_S", -1.0)
    chores.do_some()
    assert done == []
    chores.do()


def test_the_loop_does_a_few_at_a_time(monkeypatch) -> None:
    chores, done, seen = Chores(), [], Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    for number in range(2 * FEW):
        chores.add(lambda n=number: done.append(n))
    chores.add(seen.set)
    assert seen.wait(2)
    assert done == list(range(2 * FEW))


def test_only_so_many_wait() -> None:
    chores, done = Chores(), []
    for number in range(MOST_WAITING + 1):
        chores.add(lambda n=number: done.append(n))
    assert done == list(range(FEW))
    chores.do()


def test_one_that_has_the_others_done_leaves_nothing_to_do() -> None:
    chores, done = Chores(), []
    chores.add(chores.do)  # as a line of the log does
    chores.add(lambda: done.append(1))
    chores.add(lambda: done.append(2))
    chores.do()
    assert done == [1, 2]
