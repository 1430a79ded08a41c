import pytest
from gevent.event import Event

from llmsnap.errors import LoadAborted, Unreachable
from llmsnap.tasks import TaskGroup
from llmsnap.upstream.interrupt import Interrupt


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


def test_a_call_returns_what_it_returns(bench: Bench) -> None:
    assert bench.interrupt.call("x", lambda: 7) == 7
    assert bench.interrupt.call("x", lambda: None) is None


def test_a_call_raises_what_it_raises(bench: Bench) -> None:
    def fail() -> None:
        raise Unreachable("nobody there")

    with pytest.raises(Unreachable):
        bench.interrupt.call("x", fail)


def test_a_bug_in_a_call_is_not_swallowed(bench: Bench, capsys) -> None:
    def fail() -> None:
        raise KeyError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        bench.interrupt.call("x", fail)


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
