"""The voices that servers of speech models list."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import gevent

from llmsnap.errors import UpstreamError
from llmsnap.models.control import Address, ControlCall, send
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

LIMIT_S = 5.0
CLOSE_S = 0.2
VOICES_PATH = "/v1/audio/voices"


class Voices:
    """The voices that servers have listed, by model.

    A server is queried when they are requested, once per run; most models have none. A list is kept
    while the server is stopped.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Any]] = {}
        self._asked: dict[str, Address] = {}
        self._tasks = TaskGroup("voices")

    def learn(self, ready: Mapping[str, Address]) -> None:
        """Query servers of *ready* models that were not queried in this run. Blocks: LIMIT_S."""
        new = {name: at for name, at in ready.items() if self._asked.get(name) is not at}
        self._asked.update(new)
        asking = [self._tasks.spawn(name, self._ask, name, at) for name, at in new.items()]
        gevent.joinall(asking)

    def of(self, model_id: str) -> list[Any] | None:
        """Return the voices of a model; None: it has listed none. Never switches."""
        return self._known.get(model_id)

    def forget(self, model_id: str) -> None:
        """Drop the list of a removed model. Never switches."""
        self._known.pop(model_id, None)
        self._asked.pop(model_id, None)

    def close(self) -> None:
        """Cancel the queries in flight. Blocks."""
        self._tasks.close(CLOSE_S)

    def _ask(self, model_id: str, address: Address) -> None:
        try:
            status, body = send(address, ControlCall("GET", VOICES_PATH, limit_s=LIMIT_S))
            found = json.loads(body) if status == 200 else None
        except (UpstreamError, ValueError, RecursionError) as error:
            log.debug("<%s> lists no voices: %s", model_id, error)
            return
        voices = found.get("voices") if isinstance(found, dict) else found
        if isinstance(voices, list):
            self._known[model_id] = voices
