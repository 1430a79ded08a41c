"""The requests in flight as llama-swap's ``inflight`` envelopes: a snapshot, then what changes.

``upsert`` carries a request that is new or has changed, ``remove`` the id of one that has ended.
How many bytes went out is told four times a second at most, of a bounded number of requests each
time, since it changes with each token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmsnap.http import is_inference
from llmsnap.service import Service
from llmsnap.telemetry import ResponseObserver, milliseconds, redact_headers, rfc3339
from llmsnap.web.frames import Frame, envelope

SESSION_HEADERS = ("X-Session-ID", "X-Litellm-Session-Id")
"""What clients name their sessions by: no secret, whatever the names sound like."""
BYTES_EVERY_S = 0.25
MOST_BYTES_TOLD = 50
"""Requests of which new byte counts are told at once; those told longest ago come first."""

_SESSIONS = frozenset(name.lower() for name in SESSION_HEADERS)

Seen = tuple[str, int, int]


class InFlight:
    """What readers have been told of the requests in flight. Never switches greenlets."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._told: dict[int, Seen] = {}  # those told longest ago first
        self._bytes_due = 0.0

    def __repr__(self) -> str:
        return f"<InFlight, {len(self._told)} told>"

    @property
    def is_empty(self) -> bool:
        """Whether readers know of no request."""
        return not self._told

    def forget(self) -> None:
        """Begin anew: there is no reader."""
        self._told.clear()

    def snapshot(self, now: float) -> Frame:
        """Return all requests, from which the changes go on; *now* is monotonic.

        Other readers must have been told of all changes before.
        """
        observers = self._observers()
        self._told = {serial: _seen(observer) for serial, observer in observers.items()}
        requests = [_entry(observer, now) for observer in observers.values()]
        return envelope("inflight", {"operation": "snapshot", "requests": requests})

    def changes(self, now: float) -> list[Frame]:
        """Return what has changed since the last call, in the order of removes and upserts."""
        observers = self._observers()
        gone = [serial for serial in self._told if serial not in observers]
        for serial in gone:
            del self._told[serial]
        return [
            *(envelope("inflight", {"operation": "remove", "id": str(one)}) for one in gone),
            *(self._upsert(observer, now) for observer in self._changed(observers, now)),
        ]

    def _changed(
        self, observers: dict[int, ResponseObserver], now: float
    ) -> list[ResponseObserver]:
        moved = [
            serial
            for serial in self._told
            if _seen(observers[serial])[:2] != self._told[serial][:2]
        ]
        new = [serial for serial in observers if serial not in self._told]
        counted: list[int] = []
        if now >= self._bytes_due:
            self._bytes_due = now + BYTES_EVERY_S
            known = set(moved)
            counted = [
                serial
                for serial, seen in self._told.items()
                if serial not in known and observers[serial].response_bytes != seen[2]
            ][:MOST_BYTES_TOLD]
        return [observers[serial] for serial in (*moved, *counted, *new)]

    def _upsert(self, observer: ResponseObserver, now: float) -> Frame:
        self._told.pop(observer.serial, None)
        self._told[observer.serial] = _seen(observer)
        return envelope("inflight", {"operation": "upsert", "request": _entry(observer, now)})

    def _observers(self) -> dict[int, ResponseObserver]:
        observers = self._service.telemetry.recorder.in_flight()
        return {observer.serial: observer for observer in observers if is_inference(observer.path)}


def _seen(observer: ResponseObserver) -> Seen:
    return observer.context.shown_model, observer.status, observer.response_bytes


def _entry(observer: ResponseObserver, now: float) -> dict[str, Any]:
    """Return one request as llama-swap shows it; *elapsed_ms* needs no clock that agrees."""
    request = observer.context.request
    return {
        "id": str(observer.serial),
        "timestamp": rfc3339(observer.started_ns),
        "model": observer.context.shown_model,
        "req_path": observer.path,
        "method": request.method,
        "req_headers": _request_headers(observer.context.shown_headers),
        "remote_ip": request.client_ip,
        "resp_headers": redact_headers(observer.response_headers),
        "resp_bytes": observer.response_bytes,
        "elapsed_ms": milliseconds(now - observer.started),
    }


def _request_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    shown = redact_headers(headers)
    sessions = [(name, value) for name, value in headers if name.lower() in _SESSIONS]
    return shown | dict(reversed(sessions))
