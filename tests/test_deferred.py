"""Facts about llmsnap.deferred."""

from __future__ import annotations

import logging

import gevent
from gevent.event import Event

from llmsnap import deferred as module
from llmsnap.deferred import BATCH, MAX_WAITING, PER_REQUEST, DeferredQueue, run_now


def test_deferred_calls_run_in_their_order() -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(lambda: done.append(1))
    deferred.add(lambda: done.append(2))
    assert (done, repr(deferred)) == ([], "<DeferredQueue, 2 waiting>")
    deferred.flush()
    assert done == [1, 2]


def test_when_nobody_has_time_the_loop_does_them() -> None:
    deferred, done = DeferredQueue(), Event()
    for _ in range(2):  # the timer is made anew each time
        done.clear()
        deferred.add(done.set)
        assert done.wait(2)


def test_one_that_fails_is_logged_and_the_others_are_done(caplog) -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(lambda: 1 / 0)
    deferred.add(lambda: done.append(1))
    with caplog.at_level(logging.ERROR):
        deferred.flush()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_call_added_by_a_deferred_call_is_run_as_well() -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(lambda: deferred.add(lambda: done.append(2)))
    deferred.flush()
    assert done == [2]


def test_run_now_runs_at_once() -> None:
    done = []
    run_now(lambda: done.append(1))
    assert done == [1]


def test_who_waits_anyway_does_a_few() -> None:
    deferred, done = DeferredQueue(), []
    for number in range(PER_REQUEST + 1):
        deferred.add(lambda n=number: done.append(n))
    gevent.get_hub().loop.update_now()
    deferred.run_some()
    assert done == list(range(PER_REQUEST))
    deferred.flush()
    deferred.run_some()
    assert len(done) == PER_REQUEST + 1


def test_whoever_is_late_does_none(monkeypatch) -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(lambda: done.append(1))
    monkeypatch.setattr(module, "BUSY_S", -1.0)
    deferred.run_some()
    assert done == []
    deferred.flush()


def test_the_loop_does_a_few_at_a_time(monkeypatch) -> None:
    deferred, done, seen = DeferredQueue(), [], Event()
    monkeypatch.setattr(module, "MAX_DELAY_S", 0.0)
    for number in range(2 * BATCH):
        deferred.add(lambda n=number: done.append(n))
    deferred.add(seen.set)
    assert seen.wait(2)
    assert done == list(range(2 * BATCH))


def test_only_so_many_wait() -> None:
    deferred, done = DeferredQueue(), []
    for number in range(MAX_WAITING + 1):
        deferred.add(lambda n=number: done.append(n))
    assert done == list(range(BATCH))
    deferred.flush()


def test_one_that_has_the_others_done_leaves_nothing_to_do() -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(deferred.flush)  # as a line of the log does
    deferred.add(lambda: done.append(1))
    deferred.add(lambda: done.append(2))
    deferred.flush()
    assert done == [1, 2]
