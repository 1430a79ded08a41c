"""Loads that no request asked for: by hand, and preloads.

A load by hand counts as a waiter that does not leave; a preload as one that gives way to any
client. Neither makes a model leave that has requests in flight or waiting.
"""

from __future__ import annotations

from collections import deque

from llmsnap.models import State
from llmsnap.routing import outlook
from llmsnap.routing.desk import Desk, TimerKey
from llmsnap.routing.effects import Answer, Outcome, PreloadEnded
from llmsnap.routing.ledger import Entry
from llmsnap.routing.messages import Load, Preload


class Sponsors:
    """Keeps the loads by hand and the list of preloads, of which one is under way at a time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._list: deque[str] = deque()
        self._current: Entry | None = None

    def load(self, event: Load) -> None:
        """Wait for the model to become ready, whatever failed before."""
        desk = self._desk
        entry = desk.entries.get(event.model_id)
        if desk.shutting_down:
            desk.out.append(Answer(event.command, Outcome.SHUTDOWN))
        elif entry is None or entry.removed:
            desk.out.append(Answer(event.command, Outcome.UNKNOWN))
        elif _is_ready(entry):
            desk.out.append(Answer(event.command, Outcome.OK))
        else:
            entry.backoff.clear()
            entry.loads[event.command] = desk.now
            self._sponsor(entry, ("load", event.command))

    def expire_load(self, command: int) -> None:
        """Answer a load that waited until its deadline."""
        for entry in self._desk.wanting.values():
            if command in entry.loads:
                self._desk.end_load(entry, command, Outcome.QUEUE_TIMEOUT)
                return

    def preload(self, event: Preload) -> None:
        """Take *event* as the list of preloads from now on."""
        self.cancel(Outcome.SUPERSEDED, keep=event.model_ids)
        current = self._current.model_id if self._current is not None else None
        self._list.extend(name for name in event.model_ids if name != current)

    def cancel(self, outcome: Outcome, keep: tuple[str, ...] = ()) -> None:
        """End all preloads with *outcome*, save one under way whose model is among *keep*.

        A load that began goes on as any load that nobody waits for.
        """
        desk = self._desk
        current = self._current
        if current is not None and current.model_id not in keep:
            desk.end_preload(current, outcome)
            self._current = None
        desk.out.extend(PreloadEnded(name, outcome) for name in self._list)
        self._list.clear()
        desk.dirty = True

    def expire_preload(self, model_id: str) -> None:
        """End a preload that found no room until its deadline."""
        entry = self._desk.entries.get(model_id)
        if entry is not None:
            self._desk.end_preload(entry, Outcome.QUEUE_TIMEOUT)

    def go_on(self) -> None:
        """Begin the next preload when the one before is over."""
        if self._current is not None and self._current.preload_since is None:
            self._current = None
        while self._list and self._current is None:
            self._begin(self._list.popleft())

    def _begin(self, model_id: str) -> None:
        desk = self._desk
        entry = desk.entries.get(model_id)
        if entry is None or entry.removed:
            desk.out.append(PreloadEnded(model_id, Outcome.UNKNOWN))
        elif _is_ready(entry):
            desk.out.append(PreloadEnded(model_id, Outcome.OK))
        elif entry.swap is None and outlook.backoff_s(desk, entry) > 0:
            desk.out.append(PreloadEnded(model_id, Outcome.FAILED, entry.backoff.error))
        else:
            entry.preload_since = desk.now
            self._current = entry
            self._sponsor(entry, ("preload", model_id))

    def _sponsor(self, entry: Entry, deadline: TimerKey) -> None:
        desk = self._desk
        desk.wanting[entry.model_id] = entry
        desk.dirty = True
        if desk.options.queue_timeout_s > 0:
            desk.timers.set(deadline, desk.now + desk.options.queue_timeout_s)


def _is_ready(entry: Entry) -> bool:
    return entry.state is State.READY and entry.closing is None
