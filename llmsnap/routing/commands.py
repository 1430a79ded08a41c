"""API calls that wait for the scheduler's answer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from gevent.event import AsyncResult

from llmsnap.routing.effects import Answer
from llmsnap.routing.refusals import error_of_outcome


@dataclass(frozen=True, slots=True)
class _Open:
    model_id: str
    result: AsyncResult[None]


class Commands:
    """The commands that are not answered yet, by the number they went out under."""

    def __init__(self, numbers: count[int]) -> None:
        self._numbers = numbers
        self._open: dict[int, _Open] = {}

    def __repr__(self) -> str:
        return f"<Commands {len(self._open)} open>"

    def begin(self, model_id: str) -> int:
        """Return the number of a new command that concerns *model_id* ("" for all). No switch."""
        number = next(self._numbers)
        self._open[number] = _Open(model_id, AsyncResult())
        return number

    def wait(self, number: int) -> None:
        """Wait until the command is answered. Raises: why it failed.

        Bounded by the limits of what it asked for: a load, a drain, a stop.
        """
        self._open[number].result.get()

    def answer(self, answer: Answer) -> None:
        """Settle a command. Never switches."""
        command = self._open.get(answer.command)
        if command is None:
            return
        error = error_of_outcome(command.model_id, answer.outcome, answer.error)
        if error is None:
            command.result.set(None)
        else:
            command.result.set_exception(error)

    def forget(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        self._open.pop(number, None)
