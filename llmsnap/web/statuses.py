"""The documents of the event feed: every model's state, log output, what is in flight."""

from __future__ import annotations

import base64
import time
from typing import Any

from llmsnap.metrics.tap import Tap
from llmsnap.service import Service


def models(service: Service) -> list[dict[str, Any]]:
    """Return the published model list: our own by id, then those of peers."""
    config = service.runtime.config
    local = [
        {
            "id": model_id,
            "name": model.name,
            "description": model.description,
            "state": str(service.state(model_id)),
            "unlisted": model.unlisted,
            "sleepMode": "enable" if model.can_sleep else "disable",
            "peerID": "",
        }
        for model_id, model in sorted(config.models.items())
    ]
    remote = [
        {
            "id": name,
            "name": "",
            "description": "",
            "state": "",
            "unlisted": False,
            "sleepMode": "",
            "peerID": peer.id,
        }
        for peer in config.peers.values()
        for name in peer.models
    ]
    return local + remote


def log_data(source: str, data: bytes) -> dict[str, str]:
    """Return log output as the named frames carry it: base64, since it may be anything."""
    return {"data": base64.b64encode(data).decode(), "source": source}


def in_flight(service: Service) -> list[dict[str, Any]]:
    """Return how many requests each model serves, and how many wait for it."""
    return [
        {"model": view.model_id, "in_flight": view.in_flight, "waiting": view.waiting}
        for view in service.driver.scheduler.snapshot(time.monotonic())
        if view.in_flight or view.waiting or view.state != "stopped"
    ]


def request(tap: Tap) -> dict[str, Any]:
    """Return one request in flight; its *id* is what cancels it. Durations in milliseconds."""
    facts = tap.facts
    return {
        "id": tap.serial,
        "request_id": facts.request_id,
        "requested": facts.requested,
        "model_id": tap.model_id,
        "peer": facts.peer,
        "method": facts.method,
        "path": facts.path,
        "key_name": facts.key_name,
        "client": facts.client,
        "stream": facts.stream,
        "phase": tap.phase,
        "started_ms": tap.started_ns // 1_000_000,
        "age_ms": round((time.monotonic() - tap.started) * 1000),
        "queue_ms": _ms(tap.queue_s),
        "load_ms": _ms(tap.load_s),
        "response_bytes": tap.response_bytes,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
