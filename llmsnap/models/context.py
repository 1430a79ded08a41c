"""Properties that a ready server reports of its model: context length and voices."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent

from llmsnap.errors import UpstreamError
from llmsnap.models.control import Address, ControlCall, send
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

LIMIT_S = 5.0
CLOSE_S = 0.2
VOICES_PATH = "/v1/audio/voices"


class ContextLengths:
    """The context lengths that servers have reported, in tokens, by model.

    Each server is queried in the background, so that neither its first request nor a model list
    waits for it. A reported value is kept while the server is stopped.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._tasks = TaskGroup("context")

    def __repr__(self) -> str:
        return f"<ContextLengths of {len(self._known)} models>"

    def get(self, model_id: str) -> int | None:
        """Return the context length of a model; None: not known. Never switches."""
        return self._known.get(model_id)

    def ask(self, model_id: str, address: Address) -> None:
        """Query the server at *address*, which has just become ready. Never switches."""
        self._tasks.spawn(model_id, self._learn, model_id, address)

    def forget(self, model_id: str) -> None:
        """Drop the value of a model that was removed from the configuration. Never switches."""
        self._known.pop(model_id, None)

    def close(self) -> None:
        """Wait briefly for queries in flight, then cancel them. Blocks."""
        self._tasks.close(CLOSE_S)

    def _learn(self, model_id: str, address: Address) -> None:
        try:
            length = _ask("/props", _in_props, address) or _ask("/v1/models", _in_models, address)
        except UpstreamError as error:
            log.debug("<%s> did not report its context length: %s", model_id, error)
            return
        if length is not None:
            self._known[model_id] = length


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


def _ask(path: str, find: Callable[[Any], object], address: Address) -> int | None:
    status, body = send(address, ControlCall("GET", path, limit_s=LIMIT_S))
    if status != 200:
        return None
    try:
        found = find(json.loads(body))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # it means something else by this address
    return found if isinstance(found, int) and found > 0 else None


def _in_props(document: Any) -> object:
    """The context length in llama-server's report of one slot."""
    return document["default_generation_settings"]["n_ctx"]


def _in_models(document: Any) -> object:
    """The context length that vLLM, SGLang and newer servers list for their first model."""
    model = document["data"][0]
    return model.get("max_model_len") or model.get("context_length") or model["meta"]["n_ctx"]
