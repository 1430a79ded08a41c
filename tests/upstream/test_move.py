import pytest
from gevent.event import Event

from llmsnap.errors import LoadAborted, ProcessError, StartFailed
from llmsnap.tasks import TaskGroup
from llmsnap.upstream.move import Goal, Move


@pytest.fixture
def tasks() -> TaskGroup:
    return TaskGroup("test")


def test_a_move_that_ends_well_raises_nothing(tasks: TaskGroup) -> None:
    move = Move(Goal.READY, "m")
    assert repr(move) == "<Move m to ready, under way>"
    move.open(lambda _: None, tasks)
    move.wait_outcome()
    assert move.is_over


def test_its_error_reaches_everybody_who_waits(tasks: TaskGroup) -> None:
    def fail(_: Move) -> None:
        raise StartFailed("no")

    move = Move(Goal.READY, "m")
    move.open(fail, tasks)
    move.wait_end()
    for _ in range(2):
        with pytest.raises(StartFailed):
            move.wait_outcome()


def test_a_bug_becomes_an_error_that_names_the_model(tasks: TaskGroup, caplog) -> None:
    def bug(_: Move) -> None:
        raise KeyError("oops")

    move = Move(Goal.STOPPED, "m")
    move.open(bug, tasks)
    with pytest.raises(ProcessError, match="m: internal error"):
        move.wait_outcome()
    assert "move to stopped failed" in caplog.text


def test_an_abort_is_noticed_and_explained(tasks: TaskGroup) -> None:
    def wait(move: Move) -> None:
        move.aborted.wait()
        raise move.explain_abort()

    move = Move(Goal.READY, "m")
    move.open(wait, tasks)
    move.abort("unloaded")
    move.abort("too late")
    with pytest.raises(LoadAborted, match="m: unloaded"):
        move.wait_outcome()


def test_a_move_killed_before_it_ran_is_settled_too(tasks: TaskGroup) -> None:
    move = Move(Goal.READY, "m")
    move.open(lambda _: Event().wait() and None, tasks)
    tasks.kill()
    with pytest.raises(LoadAborted, match="killed"):
        move.wait_outcome()
