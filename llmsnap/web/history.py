"""Which state each model was in, when, over the last hours: the bars of the timeline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from llmsnap.events import ProcessStateChanged
from llmsnap.service import Service

KEPT_S = 3 * 3600.0
MAX_BARS = 2000
"""Per model: a crash loop must not fill the memory."""

_histories: WeakKeyDictionary[Service, StateHistory] = WeakKeyDictionary()


class StateHistory:
    """Listens to the bus. Its methods never switch greenlets."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._changes: dict[str, deque[tuple[float, str]]] = {}

    def __repr__(self) -> str:
        return f"<StateHistory of {len(self._changes)} models>"

    def note(self, event: ProcessStateChanged) -> None:
        """Add a change of state."""
        self.add(event.model_id, event.new, event.at)

    def add(self, model_id: str, state: str, at: float) -> None:
        """Add that *model_id* is in *state* since *at* (Unix time)."""
        changes = self._changes.setdefault(model_id, deque(maxlen=MAX_BARS))
        changes.append((at, state))
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


def history_of(service: Service) -> StateHistory:
    """Return the history of *service*, which begins with the first call."""
    history = _histories.get(service)
    if history is None:
        history = _histories[service] = StateHistory()
        now = time.time()
        for view in service.driver.scheduler.snapshot(time.monotonic()):
            history.add(view.model_id, str(view.state), now - view.state_for_s)
        service.bus.subscribe(ProcessStateChanged, history.note)
    return history
