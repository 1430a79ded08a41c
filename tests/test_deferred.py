import logging

from gevent.event import Event

from llmsnap import deferred as module
from llmsnap.deferred import BATCH, MAX_WAITING, PER_REQUEST, DeferredQueue

LIMIT_S = 10


def test_when_nobody_has_time_the_loop_does_them_in_their_order() -> None:
    deferred, done, seen = DeferredQueue(), [], Event()
    for turn in range(1, 3):  # the timer is made anew each time
        for number in range(2 * BATCH):
            deferred.add(lambda n=number: done.append(n))
        assert len(done) < turn * 2 * BATCH
        seen.clear()
        deferred.add(seen.set)
        assert seen.wait(LIMIT_S)
        assert done == list(range(2 * BATCH)) * turn


def test_one_that_fails_is_logged_and_the_others_are_done(caplog) -> None:
    deferred, done = DeferredQueue(), []
    deferred.add(lambda: 1 / 0)
    deferred.add(lambda: deferred.add(lambda: done.append(1)))  # is run as well
    with caplog.at_level(logging.ERROR):
        deferred.flush()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


def test_who_waits_anyway_does_a_few_and_whoever_is_late_does_none(monkeypatch) -> None:
    deferred, done = DeferredQueue(), []
    for number in range(PER_REQUEST + 1):
        deferred.add(lambda n=number: done.append(n))
    monkeypatch.setattr(module, "BUSY_S", 60.0)
    deferred.run_some()
    assert done == list(range(PER_REQUEST))
    monkeypatch.setattr(module, "BUSY_S", -1.0)
    deferred.run_some()
    assert len(done) == PER_REQUEST
    deferred.flush()
    assert len(done) == PER_REQUEST + 1


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
