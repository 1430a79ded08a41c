import gevent
import pytest
from gevent.event import Event

from llmsnap.tasks import TaskGroup, count_tasks


def test_a_task_is_named_after_its_owner_and_its_failure_logged(caplog) -> None:
    tasks = TaskGroup("llama")

    def fail() -> None:
        raise RuntimeError("boom")

    task = tasks.spawn("output", fail)
    with pytest.raises(RuntimeError):
        task.get()
    gevent.idle()
    assert "task llama:output failed: RuntimeError('boom')" in caplog.text


def test_close_waits_then_kills_and_says_what() -> None:
    tasks = TaskGroup("x")
    done = Event()
    tasks.spawn("quick", done.set)
    tasks.spawn("slow", Event().wait)
    assert tasks.close(0.02) == ["x:slow"]
    assert done.is_set()
    assert len(tasks) == 0
    assert tasks.close() == []


def test_a_task_may_close_its_own_group() -> None:
    tasks = TaskGroup("x")
    other = tasks.spawn("other", Event().wait)
    closer = tasks.spawn("closer", tasks.kill)
    assert closer.get() == ["x:other"]
    assert other.dead


def test_all_tasks_are_counted_whoever_owns_them() -> None:
    before = count_tasks()
    first, second = TaskGroup("x"), TaskGroup("y")
    ended = first.spawn("ended", int)
    first.spawn("one", Event().wait)
    two = second.spawn("two", Event().wait)
    ended.join()
    gevent.idle()
    assert count_tasks() == before + 2
    del second  # its task is alive without it
    assert count_tasks() == before + 2
    first.kill()
    two.kill()
    gevent.idle()
    assert count_tasks() == before
