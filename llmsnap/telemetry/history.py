"""Which state each model was in, when, over the last hours: the bars of the timeline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from llmsnap.bus import EventBus, Subscription
from llmsnap.events import ProcessStateChanged
from llmsnap.models import State

KEPT_S = 3 * 3600.0
MAX_BARS = 2000
"""Per model: a crash loop must not fill the memory."""


class StateHistory:
    """Listens to the bus. Its methods never switch greenlets."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._changes: dict[str, deque[tuple[float, str]]] = {}

    def __repr__(self) -> str:
        return f"<StateHistory of {len(self._changes)} models>"

    def know(self, model_ids: Iterable[str]) -> None:
        """Keep the history of these models; that of one not known before begins with stopped."""
        wanted = frozenset(model_ids)
        for gone in self._changes.keys() - wanted:
            del self._changes[gone]
        for model_id in wanted - self._changes.keys():
            self._changes[model_id] = deque([(self._wall(), str(State.STOPPED))], maxlen=MAX_BARS)

    def follow(self, bus: EventBus) -> Subscription:
        """Note what *bus* tells, until the returned subscription is closed."""
        return bus.subscribe(ProcessStateChanged, self.note)

    def note(self, event: ProcessStateChanged) -> None:
        """Add a change of state of a model that is known."""
        changes = self._changes.get(event.model_id)
        if changes is None:
            return  # removed from the configuration, and on its way out
        changes.append((event.at, event.new))
        # The last one before the window still reaches into it.
        while len(changes) > 1 and changes[1][0] < self._wall() - KEPT_S:
            changes.popleft()

    def bars(self, model_id: str) -> list[dict[str, Any]]:
        """Return the states in order, each with its ends in Unix ms; the last has none."""
        changes = list(self._changes.get(model_id, ()))
        ends: list[float | None] = [at for at, _ in changes[1:]]
        return [
            {"state": state, "from_ms": int(at * 1000), "to_ms": end and int(end * 1000)}
            for (at, state), end in zip(changes, [*ends, None], strict=False)
        ]
