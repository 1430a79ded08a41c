import pytest

from llmsnap.errors import InvalidTransition
from llmsnap.upstream.machine import StateMachine
from llmsnap.upstream.states import State, Trigger


def test_a_legal_trigger_moves_the_state_and_is_told() -> None:
    told: list[tuple[State, State, Trigger]] = []
    machine = StateMachine(lambda *change: told.append(change))
    assert machine.fire(Trigger.START) is State.STARTING
    assert told == [(State.STOPPED, State.STARTING, Trigger.START)]
    assert repr(machine) == "<StateMachine starting>"


def test_an_illegal_trigger_changes_and_tells_nothing() -> None:
    told: list[object] = []
    machine = StateMachine(lambda *change: told.append(change))
    with pytest.raises(InvalidTransition):
        machine.fire(Trigger.SLEEP)
    assert machine.state is State.STOPPED
    assert told == []
