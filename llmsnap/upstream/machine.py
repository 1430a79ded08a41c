"""The current state of one process, and who is told when it changes."""

from __future__ import annotations

from collections.abc import Callable

from llmsnap.upstream.states import State, Trigger, next_state

OnChange = Callable[[State, State, Trigger], None]


class StateMachine:
    """Holds a state and moves it by triggers; tells *on_change* (old, new, trigger) in order."""

    def __init__(self, on_change: OnChange) -> None:
        self.state = State.STOPPED
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<StateMachine {self.state}>"

    def fire(self, trigger: Trigger) -> State:
        """Move by *trigger* and return the new state. Never switches greenlets.

        Raises: InvalidTransition, and then nothing has changed.
        """
        old, self.state = self.state, next_state(self.state, trigger)
        self._on_change(old, self.state, trigger)
        return self.state
