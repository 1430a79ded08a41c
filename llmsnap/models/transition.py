"""A transition of a process to a goal: its greenlet, its outcome, and the interruption of waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult, Event

from llmsnap.errors import LlmsnapError, LoadAborted, ProcessError
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

T = TypeVar("T")


class Goal(StrEnum):
    """The state that a caller requests of a process."""

    READY = "ready"
    ASLEEP = "asleep"
    STOPPED = "stopped"


class Transition:
    """Takes a process to *goal*; every exit path settles its outcome."""

    def __init__(self, goal: Goal, model_id: str) -> None:
        self.goal = goal
        self.model_id = model_id
        self.aborted = Event()
        self._why = ""
        self._outcome: AsyncResult[None] = AsyncResult()

    def __repr__(self) -> str:
        state = "over" if self.is_over else "running"
        return f"<Transition {self.model_id} to {self.goal}, {state}>"

    @property
    def is_over(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome.ready()

    def open(self, run: Callable[[Transition], None], tasks: TaskGroup) -> None:
        """Start ``run(self)`` as a task of *tasks*."""
        tasks.spawn(f"to {self.goal}", self._run, run).link(self._settle)

    def abort(self, why: str) -> None:
        """Request its abort. Never switches; ``wait_end`` waits until it has ended."""
        if not self.aborted.is_set():
            self._why = why
            self.aborted.set()

    def explain_abort(self) -> LoadAborted:
        """Return the error of an aborted transition."""
        return LoadAborted(f"{self.model_id}: {self._why or 'aborted'}")

    def wait_outcome(self) -> None:
        """Wait for the end. Raises: the error it ended with. Bounded by its steps' timeouts."""
        self._outcome.get()

    def wait_end(self) -> None:
        """Wait for the end, successful or not."""
        self._outcome.wait()

    def _run(self, run: Callable[[Transition], None]) -> None:
        try:
            run(self)
        except LlmsnapError as error:
            self._outcome.set_exception(error)
        except Exception as error:
            log.exception("<%s> transition to %s failed", self.model_id, self.goal)
            self._outcome.set_exception(
                ProcessError(f"{self.model_id}: internal error", detail=f": {error}")
            )
        else:
            self._outcome.set(None)

    def _settle(self, _: gevent.Greenlet[..., Any]) -> None:
        """Settle the outcome of a greenlet that was killed, perhaps before it ran."""
        if not self._outcome.ready():
            self._outcome.set_exception(LoadAborted(f"{self.model_id}: killed on the way"))


class Interrupt:
    """Ends waits early: on *exited* (the server ended) or *aborted* (a stop).

    *explain* builds the error that the interrupted wait raises.
    """

    def __init__(
        self, exited: Event, aborted: Event, explain: Callable[[], LlmsnapError], tasks: TaskGroup
    ) -> None:
        self._events = (exited, aborted)
        self._explain = explain
        self._tasks = tasks

    def check(self) -> None:
        """Raise the error if the server has ended or the transition was aborted. Never switches."""
        if any(event.is_set() for event in self._events):
            raise self._explain()

    def pause(self, limit_s: float) -> None:
        """Wait *limit_s*. Raises: the error, as soon as there is one."""
        gevent.wait(self._events, timeout=limit_s, count=1)
        self.check()

    def call(self, name: str, run: Callable[[], T]) -> T:
        """Return ``run()``, which blocks, unless interrupted. Raises: its error, or *explain*'s."""
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
