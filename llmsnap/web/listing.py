"""The documents that list models."""

from __future__ import annotations

import time
from typing import Any

from llmsnap.config import Config, ModelConfig, PeerConfig
from llmsnap.http.auth import Key
from llmsnap.http.secrets import masked
from llmsnap.models import State
from llmsnap.routing.explain import ModelView
from llmsnap.routing.names import LocalRoute, Route
from llmsnap.routing.timing import DurationStats
from llmsnap.service import Service

OWNER = "llmsnap"
LOADED = frozenset({State.READY, State.SLEEP_PENDING})

Record = dict[str, Any]


class Catalog:
    """Makes the records of ``/v1/models`` that *key* may see."""

    def __init__(self, service: Service, config: Config, key: Key) -> None:
        self._service = service
        self._config = config
        self._key = key

    def records(self) -> list[Record]:
        """Return all that is listed, by id; a local model hides a peer's, a first peer others."""
        config, may_use = self._config, self._key.may_use
        records: dict[str, Record] = {}
        for peer in config.peers.values():
            for name in peer.models:
                if may_use(name) and name not in config.models and name not in config.aliases:
                    records.setdefault(name, self._of_peer(name, peer))
        for model in config.models.values():
            for name in self._names(model):
                if may_use(name) or may_use(model.id):
                    records[name] = self._of_model(name, model)
        return [records[name] for name in sorted(records)]

    def record(self, route: Route) -> Record:
        """Return the record of what *route* leads to, listed or not."""
        if isinstance(route, LocalRoute):
            return self._of_model(route.requested, route.model)
        return self._of_peer(route.requested, route.peer)

    def _names(self, model: ModelConfig) -> list[str]:
        if model.unlisted:
            return []
        aliases = model.aliases if self._config.include_aliases_in_list else ()
        return [model.id, *(alias.strip() for alias in aliases)]

    def _of_model(self, name: str, model: ModelConfig) -> Record:
        title, about, meta = model.name.strip(), model.description, dict(model.metadata)
        if title and name != model.id:
            title = f"{title} ({name})"  # pickers show the names alone
        record = _record(name, self._service.began_at, title, about, meta)
        is_loaded = self._service.state(model.id) in LOADED
        record["status"] = {"value": "loaded" if is_loaded else "unloaded"}
        if (length := self._service.contexts.get(model.id)) is not None:
            record["context_length"] = length
        return record

    def _of_peer(self, name: str, peer: PeerConfig) -> Record:
        return _record(name, self._service.began_at, f"{peer.id}: {name}", "", {"peerID": peer.id})


def _record(model_id: str, created: int, name: str, description: str, meta: Record) -> Record:
    record: Record = {
        "id": model_id,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
    }
    if name.strip():
        record["name"] = name.strip()
    if description.strip():
        record["description"] = description.strip()
    if meta:
        record["meta"] = {"llamaswap": meta}
    return record


def running(service: Service, key: Key) -> list[Record]:
    """Return the entries of ``/running`` that *key* may see: all that is not stopped, by id.

    How a model is started is part of the configuration, which only an admin's key may read.
    """
    entries = []
    for view in service.driver.scheduler.snapshot(time.monotonic()):
        state = service.state(view.model_id)
        if state in {State.STOPPED, State.SHUTDOWN} or not key.may_use(view.model_id):
            continue
        settings = service.process(view.model_id).settings
        entry: Record = {
            "model": view.model_id,
            "state": str(state),
            "cmd": masked(settings.cmd) if key.admin else "",
            "proxy": masked(settings.proxy) if key.admin else "",
            "ttl": int(settings.ttl_s),
            "name": settings.name,
            "description": settings.description,
        }
        entries.append(entry | _now(view))
    return entries


def _now(view: ModelView) -> Record:
    """How busy a model is, and how long its moves have taken."""
    return {
        "since": round(time.time() - view.state_for_s, 3),
        "in_flight": view.in_flight,
        "waiting": view.waiting,
        "idle_in_s": None if view.rest_in_s is None else round(view.rest_in_s, 3),
        "durations": {
            "load": _durations(view.start),
            "wake": _durations(view.wake),
            "sleep": _durations(view.sleep),
            "stop": _durations(view.stop),
        },
    }


def _durations(stats: DurationStats) -> Record:
    def rounded(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 3)

    return {
        "count": stats.count,
        "last_s": rounded(stats.last_s),
        "p50_s": rounded(stats.p50_s),
        "p90_s": rounded(stats.p90_s),
    }
