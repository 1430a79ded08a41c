"""The requests in flight as llama-swap's ``inflight`` envelopes: a snapshot, then what changes.

``upsert`` carries a request that is new or has changed, ``remove`` the id of one that has ended.
How many bytes went out is told four times a second at most, of a bounded number of requests each
time, since it changes with each token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmsnap.durations import milliseconds
from llmsnap.metrics.redact import redact_headers
from llmsnap.metrics.tap import Tap
from llmsnap.metrics.views import rfc3339
from llmsnap.service import Service
from llmsnap.web.frames import Frame, envelope
from llmsnap.wire.paths import is_inference

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
        """Return all requests, from which the changes go on; *now* is on the clock of the taps.

        Other readers must have been told of all changes before.
        """
        taps = self._taps()
        self._told = {serial: _seen(tap) for serial, tap in taps.items()}
        requests = [_entry(tap, now) for tap in taps.values()]
        return envelope("inflight", {"operation": "snapshot", "requests": requests})

    def changes(self, now: float) -> list[Frame]:
        """Return what has changed since the last call, in the order of removes and upserts."""
        taps = self._taps()
        gone = [serial for serial in self._told if serial not in taps]
        for serial in gone:
            del self._told[serial]
        return [
            *(envelope("inflight", {"operation": "remove", "id": str(one)}) for one in gone),
            *(self._upsert(tap, now) for tap in self._changed(taps, now)),
        ]

    def _changed(self, taps: dict[int, Tap], now: float) -> list[Tap]:
        moved = [
            serial for serial in self._told if _seen(taps[serial])[:2] != self._told[serial][:2]
        ]
        new = [serial for serial in taps if serial not in self._told]
        counted: list[int] = []
        if now >= self._bytes_due:
            self._bytes_due = now + BYTES_EVERY_S
            known = set(moved)
            counted = [
                serial
                for serial, seen in self._told.items()
                if serial not in known and taps[serial].response_bytes != seen[2]
            ][:MOST_BYTES_TOLD]
        return [taps[serial] for serial in (*moved, *counted, *new)]

    def _upsert(self, tap: Tap, now: float) -> Frame:
        self._told.pop(tap.serial, None)
        self._told[tap.serial] = _seen(tap)
        return envelope("inflight", {"operation": "upsert", "request": _entry(tap, now)})

    def _taps(self) -> dict[int, Tap]:
        taps = self._service.observations.recorder.in_flight()
        return {tap.serial: tap for tap in taps if is_inference(tap.facts.path)}


def _seen(tap: Tap) -> Seen:
    return tap.model_id, tap.status, tap.response_bytes


def _entry(tap: Tap, now: float) -> dict[str, Any]:
    """Return one request as llama-swap shows it; *elapsed_ms* needs no clock that agrees."""
    facts = tap.facts
    return {
        "id": str(tap.serial),
        "timestamp": rfc3339(tap.started_ns),
        "model": tap.model_id,
        "req_path": facts.path,
        "method": facts.method,
        "req_headers": _request_headers(facts.headers),
        "remote_ip": facts.client,
        "resp_headers": redact_headers(tap.response_headers),
        "resp_bytes": tap.response_bytes,
        "elapsed_ms": milliseconds(now - tap.started),
    }


def _request_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    shown = redact_headers(headers)
    sessions = [(name, value) for name, value in headers if name.lower() in _SESSIONS]
    return shown | dict(reversed(sessions))
