"""The documents of the event feed: every model's state, what changed, what is in flight."""

from __future__ import annotations

import time
from typing import Any

from llmsnap.config import ModelConfig
from llmsnap.service import Service
from llmsnap.telemetry import (
    ConfigReload,
    ModelPreloaded,
    ProcessStateChanged,
    ResponseObserver,
    SwapStarted,
    in_flight_object,
)

REQUESTS_SHOWN = 50
"""In a frame of the feed, which comes often; ``/api/inflight`` shows all."""


def models(service: Service) -> list[dict[str, Any]]:
    """Return the published model list: our own by id, then those of peers as ``peer/model``."""
    config = service.runtime.config
    local = [_model(service, model) for _, model in sorted(config.models.items())]
    remote = [
        {
            "id": f"{peer.id}/{name}",
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
    return local + sorted(remote, key=lambda one: str(one["id"]))


def _model(service: Service, model: ModelConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "state": str(service.state(model.id)),
        "unlisted": model.unlisted,
        "sleepMode": "enable" if model.can_sleep else "disable",
        "peerID": "",
    }
    if model.aliases:
        shown["aliases"] = list(model.aliases)
    if (length := service.contexts.get(model.id)) is not None:
        shown["context_length"] = length
    return shown


def state_change(event: ProcessStateChanged) -> dict[str, Any]:
    """Return one change of a model's state."""
    return {
        "processName": event.model_id,
        "newState": event.new,
        "oldState": event.old,
        "swapId": event.swap_id,
    }


def reload(event: ConfigReload) -> dict[str, Any]:
    """Return where a reload of the configuration stands."""
    return {"phase": event.phase, "source": event.source, "errors": list(event.problems)}


def swap_start(event: SwapStarted) -> dict[str, Any]:
    """Return a swap that began; ``swap_object`` is what it becomes."""
    return {
        "id": event.swap_id,
        "target": event.target,
        "evicted": list(event.evicted),
        "started_ms": int(event.at * 1000),
    }


def preload(event: ModelPreloaded) -> dict[str, Any]:
    """Return how a preload ended."""
    return {
        "modelName": event.model_id,
        "success": event.success,
        "reason": event.reason,
        "swapId": event.swap_id,
    }


def in_flight(service: Service) -> dict[str, Any]:
    """Return the requests in flight: how many of each model, and the oldest one by one."""
    observers = service.telemetry.recorder.in_flight()
    return {
        "models": [
            {"model": model, "in_flight": served, "waiting": waiting}
            for model, served, waiting in _busy(service)
        ],
        "total": len(observers),
        "requests": requests(service, observers[:REQUESTS_SHOWN]),
    }


def requests(service: Service, observers: list[ResponseObserver]) -> list[dict[str, Any]]:
    """Return requests in flight one by one."""
    now = time.monotonic()
    return [
        {**in_flight_object(observer, now), "swap_id": _swap_id(service, observer)}
        for observer in observers
    ]


def in_flight_key(service: Service) -> tuple[Any, ...]:
    """Return what differs when ``in_flight`` tells something new; empty when nothing is."""
    observers = service.telemetry.recorder.in_flight()
    shown = tuple(
        (observer.serial, observer.phase, _swap_id(service, observer))
        for observer in observers[:REQUESTS_SHOWN]
    )
    busy = tuple(_busy(service))
    return (len(observers), shown, busy) if observers or busy else ()


def _swap_id(service: Service, observer: ResponseObserver) -> int | None:
    """Return the swap a request waited for, or waits for now."""
    return (
        service.driver.swap_to(observer.context.shown_model)
        if observer.phase == "waiting"
        else observer.context.swap_id
    )


def _busy(service: Service) -> list[tuple[str, int, int]]:
    """How many requests each model serves, and how many wait for it; idle ones are left out."""
    return [
        (view.model_id, view.in_flight, view.waiting)
        for view in service.driver.scheduler.snapshot(time.monotonic())
        if view.in_flight or view.waiting
    ]
