from collections.abc import Callable

import pytest
from gevent.event import Event

from llmsnap.errors import ChildExited, LoadAborted, ProcessError, Unreachable
from llmsnap.models.transition import Goal, Interrupt, Transition
from llmsnap.tasks import TaskGroup


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


def test_a_call_returns_what_it_returns_and_raises_what_it_raises(interrupt: Interrupt) -> None:
    def fail() -> None:
        raise Unreachable("no server there")

    assert interrupt.call("x", lambda: 7) == 7
    assert interrupt.call("x", lambda: None) is None
    with pytest.raises(Unreachable):
        interrupt.call("x", fail)
    with pytest.raises(RuntimeError, match="bug"):
        interrupt.call("x", lambda: {}["bug"])


@pytest.mark.parametrize("event", ["exited", "aborted"])
@pytest.mark.parametrize(
    "wait", [lambda each: each.call("x", Event().wait), lambda each: each.pause(60)]
)
def test_a_call_or_a_pause_is_left_when_something_happens(
    interrupt: Interrupt, tasks: TaskGroup, event: str, wait, request: pytest.FixtureRequest
) -> None:
    interrupt.pause(0.001)
    tasks.spawn("trigger", request.getfixturevalue(event).set)
    with pytest.raises(ChildExited, match="gone"):
        wait(interrupt)
    with pytest.raises(ChildExited):
        interrupt.call("x", lambda: 7)
