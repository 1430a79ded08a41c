"""The documents that list models."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from llmsnap.config.settings import Config, ModelConfig
from llmsnap.service import Service
from llmsnap.upstream.states import State

OWNER = "llmsnap"
LOADED = frozenset({State.READY, State.SLEEP_PENDING})


def models(config: Config, state_of: Callable[[str], State]) -> list[dict[str, Any]]:
    """Return the records of ``/v1/models``, sorted by id; a local model hides a peer's."""
    now = int(time.time())
    records: dict[str, dict[str, Any]] = {}
    for peer in config.peers.values():
        for model in peer.models:
            records.setdefault(
                model,
                _record(model, now, f"{peer.id}: {model}", "", {"peerID": peer.id}),
            )
    for model_config in config.models.values():
        if not model_config.unlisted:
            _add_local(records, model_config, config, now, state_of(model_config.id))
    return [records[name] for name in sorted(records)]


def _add_local(
    records: dict[str, dict[str, Any]], model: ModelConfig, config: Config, now: int, state: State
) -> None:
    names = [model.id]
    if config.include_aliases_in_list:
        names += [alias.strip() for alias in model.aliases if alias.strip()]
    for name in names:
        record = _record(name, now, model.name, model.description, dict(model.metadata))
        record["status"] = {"value": "loaded" if state in LOADED else "unloaded"}
        records[name] = record


def _record(
    model_id: str, now: int, name: str, description: str, meta: dict[str, Any]
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": model_id,
        "object": "model",
        "created": now,
        "owned_by": OWNER,
    }
    if name.strip():
        record["name"] = name.strip()
    if description.strip():
        record["description"] = description.strip()
    if meta:
        record["meta"] = {"llamaswap": meta}
    return record


def running(service: Service) -> list[dict[str, Any]]:
    """Return the entries of ``/running``: every model that is not stopped, sorted by id."""
    entries = []
    for model_id, model in sorted(service.runtime.config.models.items()):
        state = service.state(model_id)
        if state not in {State.STOPPED, State.SHUTDOWN}:
            entries.append(
                {
                    "model": model_id,
                    "state": str(state),
                    "cmd": model.cmd,
                    "proxy": model.proxy,
                    "ttl": int(model.ttl_s),
                    "name": model.name,
                    "description": model.description,
                }
            )
    return entries
