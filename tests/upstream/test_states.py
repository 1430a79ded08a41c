import itertools

import pytest

from llmsnap.errors import InvalidTransition
from llmsnap.upstream.states import (
    MOVING,
    RESIDENT,
    STOPPABLE,
    TRANSITIONS,
    State,
    Trigger,
    next_state,
    table,
)

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


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(State, Trigger)))
def test_every_pair_moves_as_the_table_says_or_is_refused(state: State, trigger: Trigger) -> None:
    expected = LEGAL[state].get(trigger)
    if expected is None:
        with pytest.raises(InvalidTransition, match=state):
            next_state(state, trigger)
    else:
        assert next_state(state, trigger) == expected


def test_every_state_can_be_reached_and_left_but_shutdown() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.SHUTDOWN}


def test_a_child_exists_from_starting_to_stopping() -> None:
    assert set(State) - {State.STOPPED, State.SHUTDOWN} == RESIDENT
    assert {State.STARTING, State.SLEEP_PENDING, State.WAKING, State.STOPPING} == MOVING
    assert RESIDENT - {State.STOPPING} == STOPPABLE


def test_the_documented_table_has_a_row_for_each_state() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(State)
