"""Waits of a Move that its child's exit or an abort ends at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.event import Event

from llmsnap.errors import LlmsnapError
from llmsnap.tasks import TaskGroup

T = TypeVar("T")


class Interrupt:
    """What may end a wait early: *exited* (the child died) or *aborted* (somebody gave up).

    *explain* builds the error that the interrupted wait raises.
    """

    def __init__(
        self, exited: Event, aborted: Event, explain: Callable[[], LlmsnapError], tasks: TaskGroup
    ) -> None:
        self._events = (exited, aborted)
        self._explain = explain
        self._tasks = tasks

    def check(self) -> None:
        """Raise the error if the child has died or the move was aborted. Never switches."""
        if any(event.is_set() for event in self._events):
            raise self._explain()

    def pause(self, limit_s: float) -> None:
        """Wait *limit_s*. Raises: the error, as soon as there is one."""
        gevent.wait(self._events, timeout=limit_s, count=1)
        self.check()

    def call(self, name: str, run: Callable[[], T]) -> T:
        """Return ``run()``, which blocks, unless interrupted. Raises: its error, or ours."""
        self.check()
        outcome: list[T] = []
        failure: list[LlmsnapError] = []

        def settle() -> None:
            try:
                outcome.append(run())
            except LlmsnapError as error:
                failure.append(error)

        task = self._tasks.spawn(name, settle)
        try:
            gevent.wait((task, *self._events), count=1)
            if outcome:
                return outcome[0]
            self.check()
            raise failure[0] if failure else RuntimeError(f"{name} failed: {task.exception!r}")
        finally:
            task.kill()
