import itertools

import pytest

from llmsnap.errors import InvalidTransition
from llmsnap.models.states import State, StateMachine, Trigger, next_state, table

LEGAL = {
    "stopped": {"start": "starting", "retire": "shutdown"},
    "starting": {"healthy": "ready", "stop": "stopping", "exited": "stopped"},
    "ready": {"sleep": "sleepPending", "stop": "stopping", "exited": "stopped"},
    "sleepPending": {"slept": "asleep", "stop": "stopping", "exited": "stopped"},
    "asleep": {"wake": "waking", "stop": "stopping", "exited": "stopped"},
    "waking": {"healthy": "ready", "stop": "stopping", "exited": "stopped"},
    "stopping": {"exited": "stopped"},
    "shutdown": {},
}


def test_every_pair_moves_as_the_table_says_or_is_refused() -> None:
    for state, trigger in itertools.product(State, Trigger):
        expected = LEGAL[state].get(trigger)
        if expected is None:
            with pytest.raises(InvalidTransition, match=state):
                next_state(state, trigger)
        else:
            assert next_state(state, trigger) == expected


def test_the_documented_table_has_a_row_for_each_state() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(State)


def test_only_a_legal_trigger_moves_the_state_and_is_told() -> None:
    told: list[tuple[State, State, Trigger]] = []
    machine = StateMachine(lambda *change: told.append(change))
    with pytest.raises(InvalidTransition):
        machine.fire(Trigger.SLEEP)
    assert (machine.state, told) == (State.STOPPED, [])
    assert machine.fire(Trigger.START) is State.STARTING
    assert told == [(State.STOPPED, State.STARTING, Trigger.START)]
