"""The states of a model's process and every legal transition between them.

TRANSITIONS is complete: no other code changes a state, and none can force one. This module does not
use processes, greenlets or clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from types import MappingProxyType

from llmsnap.errors import InvalidTransition


class State(StrEnum):
    """The state of a process; the value is its name in the API."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    SLEEP_PENDING = "sleepPending"
    ASLEEP = "asleep"
    WAKING = "waking"
    STOPPING = "stopping"
    SHUTDOWN = "shutdown"


class Trigger(StrEnum):
    """An event that changes the state."""

    START = "start"
    HEALTHY = "healthy"
    SLEEP = "sleep"
    SLEPT = "slept"
    WAKE = "wake"
    STOP = "stop"
    EXITED = "exited"
    RETIRE = "retire"


TRANSITIONS: MappingProxyType[tuple[State, Trigger], State] = MappingProxyType(
    {
        (State.STOPPED, Trigger.START): State.STARTING,
        (State.STOPPED, Trigger.RETIRE): State.SHUTDOWN,
        (State.STARTING, Trigger.HEALTHY): State.READY,
        (State.STARTING, Trigger.STOP): State.STOPPING,
        (State.STARTING, Trigger.EXITED): State.STOPPED,
        (State.READY, Trigger.SLEEP): State.SLEEP_PENDING,
        (State.READY, Trigger.STOP): State.STOPPING,
        (State.READY, Trigger.EXITED): State.STOPPED,
        (State.SLEEP_PENDING, Trigger.SLEPT): State.ASLEEP,
        (State.SLEEP_PENDING, Trigger.STOP): State.STOPPING,
        (State.SLEEP_PENDING, Trigger.EXITED): State.STOPPED,
        (State.ASLEEP, Trigger.WAKE): State.WAKING,
        (State.ASLEEP, Trigger.STOP): State.STOPPING,
        (State.ASLEEP, Trigger.EXITED): State.STOPPED,
        (State.WAKING, Trigger.HEALTHY): State.READY,
        (State.WAKING, Trigger.STOP): State.STOPPING,
        (State.WAKING, Trigger.EXITED): State.STOPPED,
        (State.STOPPING, Trigger.EXITED): State.STOPPED,
    }
)

RESIDENT = frozenset(state for state, trigger in TRANSITIONS if trigger is Trigger.EXITED)
"""States in which a child exists."""

MOVING = frozenset({State.STARTING, State.SLEEP_PENDING, State.WAKING, State.STOPPING})
"""Transitional states, which change without a further request."""

STOPPABLE = frozenset(state for state, trigger in TRANSITIONS if trigger is Trigger.STOP)
"""States in which a stop may begin."""


def next_state(state: State, trigger: Trigger) -> State:
    """Return the state that *trigger* leads to. Raises InvalidTransition."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise InvalidTransition(f"{trigger} is not legal in state {state}") from None


def table() -> str:
    """Return the transitions as a Markdown table, as the documentation shows them."""
    rows = ["| state | legal triggers -> next state |", "|---|---|"]
    for state in State:
        moves = [
            f"{trigger} -> {target}" for (at, trigger), target in TRANSITIONS.items() if at is state
        ]
        rows.append(f"| {state} | {'; '.join(moves) or 'none, for ever'} |")
    return "\n".join(rows)


OnTransition = Callable[[State, State, Trigger], None]


class StateMachine:
    """Holds a state, changes it by triggers, and calls *on_change* (old, new, trigger) in order."""

    def __init__(self, on_change: OnTransition) -> None:
        self.state = State.STOPPED
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<StateMachine {self.state}>"

    def fire(self, trigger: Trigger) -> State:
        """Change the state by *trigger* and return the new state. Never switches greenlets.

        Raises: InvalidTransition; the state is unchanged then.
        """
        old, self.state = self.state, next_state(self.state, trigger)
        self._on_change(old, self.state, trigger)
        return self.state
