import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from llmsnap.telemetry.workers import Offload, WorkerStuck, WorkerThread


@pytest.fixture
def hanging():
    """A call that hangs its thread until the lock is released."""
    lock = get_original("_thread", "allocate_lock")()
    lock.acquire()
    yield lock
    if lock.locked():
        lock.release()


@pytest.fixture
def worker():
    worker = WorkerThread("test")
    yield worker
    worker.close()  # waits for no call that hangs


def test_a_call_runs_in_one_thread_of_its_own_and_raises_what_it_raises(worker, capsys):
    thread = get_original("_thread", "get_ident")
    first, second = (worker.run(thread, timeout_s=5) for _ in range(2))
    assert first == second != thread()
    with pytest.raises(ValueError, match="invalid literal"):
        worker.run(int, "x", timeout_s=5)
    assert capsys.readouterr().err == ""


def test_a_call_that_hangs_costs_its_caller_the_time_out_and_others_nothing(worker, hanging):
    first = gevent.spawn(worker.run, hanging.acquire, timeout_s=0.02)
    second = gevent.spawn(worker.run, int, timeout_s=5)
    gevent.joinall([first, second])
    assert "no answer within" in str(first.exception)
    for error in (first.exception, second.exception):
        assert isinstance(error, WorkerStuck)
    with pytest.raises(WorkerStuck, match="earlier call"):
        worker.run(int, timeout_s=5)
    hanging.release()
    while worker.stuck:
        gevent.idle()
    assert worker.run(int, timeout_s=5) == 0


@pytest.fixture
def offload():
    made = Offload()
    yield made
    made.close()


def done_of(offload) -> Event:
    """Set when all that was given so far is done."""
    done = Event()
    offload(lambda: None, lambda _: done.set())
    return done


def test_offloaded_work_is_done_in_order_and_what_fails_is_dropped(offload, capsys):
    results = []
    for number in range(5):
        offload(lambda n=number: n * n, results.append)
    offload(lambda: 1 / 0, lambda result: pytest.fail("no result expected"))
    done = done_of(offload)
    assert results == []
    done.wait()
    assert results == [0, 1, 4, 9, 16]
    assert capsys.readouterr().err == ""


def test_offloaded_work_that_nobody_wants_any_more_is_not_done():
    offload, results, done = Offload(after_s=0.01), [], Event()
    wanted = {1: True, 2: False}
    for number in wanted:
        offload(lambda n=number: n, results.append, lambda n=number: wanted[n])
    offload(lambda: None, lambda _: done.set())
    wanted[1], wanted[2] = False, True
    done.wait()
    assert results == [2]
    offload(lambda: 3, lambda n: (results.append(n), done.set()))  # it begins anew
    done.clear()
    done.wait()
    assert results == [2, 3]
    waits = Offload(after_s=60)
    waits(lambda: None, pytest.fail)
    for each in (offload, waits):
        each.close()


def test_too_much_offloaded_work_is_not_done(hanging):
    offload, done = Offload(limit=2), []
    offload(hanging.acquire, done.append)
    for number in range(5):
        offload(lambda n=number: n, done.append)
    hanging.release()
    while len(done) < 3:
        gevent.idle()
    assert done == [True, 0, 1]
    offload.close()
