from collections.abc import Callable

import pytest
from gevent.event import Event

from llmsnap.errors import LoadAborted, ProcessError, Unreachable
from llmsnap.models.transition import Goal, Interrupt, Transition
from llmsnap.tasks import TaskGroup


@pytest.fixture
def tasks() -> TaskGroup:
    return TaskGroup("test")


def opened(tasks: TaskGroup, run: Callable[[Transition], object]) -> Transition:
    transition = Transition(Goal.READY, "m")
    transition.open(run, tasks)
    return transition


def test_a_bug_becomes_an_error_that_names_the_model(tasks: TaskGroup, caplog) -> None:
    with pytest.raises(ProcessError, match="m: internal error"):
        opened(tasks, lambda _: {}["oops"]).wait_outcome()
    assert "transition to ready failed" in caplog.text


def test_an_abort_is_noticed_and_explained(tasks: TaskGroup) -> None:
    def wait(transition: Transition) -> None:
        transition.aborted.wait()
        raise transition.explain_abort()

    transition = opened(tasks, wait)
    transition.abort("unloaded")
    transition.abort("too late")
    with pytest.raises(LoadAborted, match="m: unloaded"):
        transition.wait_outcome()


def test_a_move_killed_before_it_ran_is_settled_too(tasks: TaskGroup) -> None:
    transition = opened(tasks, lambda _: Event().wait())
    tasks.kill()
    with pytest.raises(LoadAborted, match="killed"):
        transition.wait_outcome()


class Bench:
    def __init__(self) -> None:
        self.exited, self.aborted = Event(), Event()
        self.tasks = TaskGroup("test")
        self.interrupt = Interrupt(
            self.exited, self.aborted, lambda: LoadAborted("told"), self.tasks
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call_returns_what_it_returns_and_raises_what_it_raises(bench: Bench, capsys) -> None:
    def fail() -> None:
        raise Unreachable("no server there")

    assert bench.interrupt.call("x", lambda: 7) == 7
    assert bench.interrupt.call("x", lambda: None) is None
    with pytest.raises(Unreachable):
        bench.interrupt.call("x", fail)
    with pytest.raises(RuntimeError, match="bug"):
        bench.interrupt.call("x", lambda: {}["bug"])


@pytest.mark.parametrize("event", ["exited", "aborted"])
def test_a_call_that_hangs_is_left_when_something_happens(bench: Bench, event: str) -> None:
    bench.tasks.spawn("trigger", getattr(bench, event).set)
    with pytest.raises(LoadAborted, match="told"):
        bench.interrupt.call("x", Event().wait)
    with pytest.raises(LoadAborted):
        bench.interrupt.call("x", lambda: 7)


def test_a_pause_ends_with_its_time_or_with_an_error(bench: Bench) -> None:
    bench.interrupt.pause(0.001)
    bench.tasks.spawn("trigger", bench.exited.set)
    with pytest.raises(LoadAborted):
        bench.interrupt.pause(60)
