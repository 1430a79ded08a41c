"""Documents of the event feed, and the frames that carry them.

An *envelope* is llama-swap's frame: a ``message`` whose ``data`` is JSON encoded within JSON.
*Named* frames carry one change each, in plain JSON. All readers share the frames, so a log line is
encoded once and not once for each open tab.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from llmsnap.config import ModelConfig
from llmsnap.http import is_inference, sse_event, sse_message
from llmsnap.routing import ModelView
from llmsnap.service import Service
from llmsnap.telemetry import (
    ConfigReload,
    ModelPreloaded,
    ProcessStateChanged,
    ResponseObserver,
    SwapStarted,
    in_flight_object,
    milliseconds,
    redact_headers,
    rfc3339,
)
from llmsnap.web.capabilities import capability_members

ENVELOPE = "message"


class FeedFrame:
    """One event. *data* is JSON; *event* is ``message`` for an envelope; *id* allows resuming."""

    __slots__ = ("_sse", "data", "event", "id")

    def __init__(self, event: str, data: str, frame_id: str = "") -> None:
        self.event = event
        self.data = data
        self.id = frame_id
        self._sse = b""

    def __repr__(self) -> str:
        return f"<FeedFrame {self.event} {self.id}, {len(self.data)} characters>"

    def sse(self) -> bytes:
        """Return the frame as a server-sent event; envelopes match llama-swap byte for byte."""
        if not self._sse and self.event == ENVELOPE:
            self._sse = sse_message(self.data)
        elif not self._sse:
            self._sse = sse_event(self.data, self.event, self.id)
        return self._sse

    def text(self) -> str:
        """Return the frame as a WebSocket message: the envelope, or event, id and data as JSON."""
        if self.event == ENVELOPE:
            return self.data
        shown = f',"id":{dump(self.id)}' if self.id else ""
        return f'{{"event":{dump(self.event)}{shown},"data":{self.data}}}'


class LogPiece:
    """Some bytes of a log, and their frames. *dropped*: the number of bytes lost before them."""

    __slots__ = ("_envelope", "_named", "data", "dropped", "source")

    def __init__(self, source: str, data: bytes, dropped: int = 0) -> None:
        self.source = source
        self.data = data
        self.dropped = dropped
        self._envelope: FeedFrame | None = None
        self._named: FeedFrame | None = None

    def __repr__(self) -> str:
        return f"<LogPiece {self.source}, {len(self.data)} bytes>"

    def envelope(self) -> FeedFrame:
        """Return the piece as text, with invalid UTF-8 replaced."""
        if self._envelope is None:
            text = self.data.decode("utf-8", "replace")
            self._envelope = envelope("logData", {"data": text, "source": self.source})
        return self._envelope

    def named(self) -> FeedFrame:
        """Return the piece in base64, since its bytes may be arbitrary."""
        if self._named is None:
            document = {"data": base64.b64encode(self.data).decode(), "source": self.source}
            self._named = named(
                "logData", {**document, "dropped": self.dropped} if self.dropped else document
            )
        return self._named


def lost(source: str, dropped: int) -> LogPiece:
    """Return the frames that notify a slow reader of lost log data."""
    line = b"\n[llmsnap: %d bytes of log dropped, this reader is too slow]\n" % dropped
    return LogPiece(source, line, dropped)


def envelope(kind: str, document: Any) -> FeedFrame:
    """Return the envelope of a *document*."""
    return wrapped(kind, dump(document))


def wrapped(kind: str, document: str) -> FeedFrame:
    """Return the envelope of a document that is already encoded as JSON."""
    return FeedFrame(ENVELOPE, dump({"type": kind, "data": document}))


def named(event: str, document: Any, frame_id: str = "") -> FeedFrame:
    """Return a named frame: *event* with its document as plain JSON."""
    return FeedFrame(event, dump(document), frame_id)


def dump(document: Any) -> str:
    """Return compact JSON."""
    return msgspec.json.encode(document).decode()


def split_utf8(data: bytes) -> tuple[bytes, bytes]:
    """Split *data* before an incomplete UTF-8 character at its end; return both parts."""
    for size in range(1, min(4, len(data)) + 1):
        byte = data[-size]
        if byte & 0xC0 == 0x80:  # a continuation byte
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return (data, b"") if needed <= size else (data[:-size], data[-size:])
    return data, b""


# --- documents of named frames ------------------------------------------------------------------


REQUESTS_SHOWN = 50
"""Requests listed in a frame, which is sent often; ``/api/inflight`` lists all."""


def model_list(service: Service) -> list[dict[str, Any]]:
    """Return the public model list: local models by id, then those of peers as ``peer/model``."""
    config = service.runtime.config
    local = [_listed(service, model) for _, model in sorted(config.models.items())]
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


def _listed(service: Service, model: ModelConfig) -> dict[str, Any]:
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
    context = service.context_of(model)
    members = capability_members(
        service.facts.capabilities(model), context.tokens if context is not None else None
    )
    told = ("capabilities", "context_length")
    return shown | {name: members[name] for name in told if name in members}


def state_change(event: ProcessStateChanged) -> dict[str, Any]:
    """Return the document of one state change of a model."""
    return {
        "processName": event.model_id,
        "newState": event.new,
        "oldState": event.old,
        "swapId": event.swap_id,
        "reason": event.reason,
    }


def reload_state(event: ConfigReload) -> dict[str, Any]:
    """Return the document of a reload's progress."""
    return {"phase": event.phase, "source": event.source, "errors": list(event.problems)}


def swap_start(event: SwapStarted) -> dict[str, Any]:
    """Return the document of a swap that started; ``swap_object`` is that of a finished one."""
    return {
        "id": event.swap_id,
        "target": event.target,
        "evicted": list(event.evicted),
        "started_ms": int(event.at * 1000),
    }


def preload(event: ModelPreloaded) -> dict[str, Any]:
    """Return the document of a preload's outcome."""
    return {
        "modelName": event.model_id,
        "success": event.success,
        "reason": event.reason,
        "swapId": event.swap_id,
    }


def in_flight(service: Service) -> dict[str, Any]:
    """Return the requests in flight: the counts per model, and the oldest individually."""
    observers, views = service.in_flight(), service.models_now()
    return {
        "models": [
            {"model": model, "in_flight": served, "waiting": waiting}
            for model, served, waiting in _busy(views)
        ],
        "total": len(observers),
        "requests": requests(service, observers[:REQUESTS_SHOWN], views),
    }


def requests(
    service: Service, observers: list[ResponseObserver], views: list[ModelView]
) -> list[dict[str, Any]]:
    """Return a document for each request in flight; *views* are of now.

    *position* is its place in the queue of its model, from 1, *why* what it waits for, *eta_s* how
    long that may take; all None unless it waits.
    """
    now = time.monotonic()
    waits = {view.model_id: view for view in views if view.waiting}
    places = service.queue_places() if waits else {}
    return [
        {
            **in_flight_object(observer, now),
            "swap_id": _swap_id(service, observer),
            **_wait(observer, places, waits.get(observer.context.shown_model)),
        }
        for observer in observers
    ]


def _wait(
    observer: ResponseObserver, places: Mapping[int, int], view: ModelView | None
) -> dict[str, Any]:
    ticket = observer.context.ticket_number
    position = None if ticket is None else places.get(ticket)
    if position is None or view is None:
        return {"position": None, "why": None, "eta_s": None}
    return {"position": position, "why": view.why, "eta_s": view.eta_s}


def in_flight_key(service: Service) -> tuple[Any, ...]:
    """Return a key that changes when ``in_flight`` would; empty with nothing in flight."""
    observers = service.in_flight()
    shown = tuple(
        (observer.serial, observer.phase, _swap_id(service, observer))
        for observer in observers[:REQUESTS_SHOWN]
    )
    busy = tuple(_busy(service.models_now()))
    return (len(observers), shown, busy) if observers or busy else ()


def _swap_id(service: Service, observer: ResponseObserver) -> int | None:
    """Return the id of the swap that a request waited for, or is waiting for."""
    return (
        service.driver.swap_to(observer.context.shown_model)
        if observer.phase == "waiting"
        else observer.context.swap_id
    )


def _busy(views: Iterable[ModelView]) -> list[tuple[str, int, int]]:
    """Return the served and the waiting requests of each model; idle models are left out."""
    return [
        (view.model_id, view.in_flight, view.waiting)
        for view in views
        if view.in_flight or view.waiting
    ]


# --- requests in flight, as llama-swap's envelopes ----------------------------------------------


SWITCHING = 101
"""Status of the response that opens a WebSocket."""
BYTES_EVERY_S = 0.25
MOST_BYTES_TOLD = 50
"""Requests whose new byte counts are sent at once, least recently sent first."""

Seen = tuple[str, int, int]


class InFlight:
    """The requests in flight as last sent to readers. Never switches greenlets."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sent: dict[int, Seen] = {}  # least recently sent first
        self._bytes_due = 0.0

    def __repr__(self) -> str:
        return f"<InFlight, {len(self._sent)} sent>"

    @property
    def is_empty(self) -> bool:
        """Whether readers know of no request."""
        return not self._sent

    def forget(self) -> None:
        """Begin anew: there is no reader."""
        self._sent.clear()

    def snapshot(self, now: float) -> FeedFrame:
        """Return all requests, from which the changes go on; *now* is monotonic.

        All changes must have been sent to the other readers before.
        """
        observers = self._observers()
        self._sent = {serial: _seen(observer) for serial, observer in observers.items()}
        requests = [self._entry(observer, now) for observer in observers.values()]
        return envelope("inflight", {"operation": "snapshot", "requests": requests})

    def changes(self, now: float) -> list[FeedFrame]:
        """Return what has changed since the last call, in the order of removes and upserts."""
        observers = self._observers()
        gone = [serial for serial in self._sent if serial not in observers]
        for serial in gone:
            del self._sent[serial]
        return [
            *(envelope("inflight", {"operation": "remove", "id": str(one)}) for one in gone),
            *(self._upsert(observer, now) for observer in self._changed(observers, now)),
        ]

    def _changed(
        self, observers: dict[int, ResponseObserver], now: float
    ) -> list[ResponseObserver]:
        moved = [
            serial
            for serial in self._sent
            if _seen(observers[serial])[:2] != self._sent[serial][:2]
        ]
        new = [serial for serial in observers if serial not in self._sent]
        counted: list[int] = []
        if now >= self._bytes_due:
            self._bytes_due = now + BYTES_EVERY_S
            known = set(moved)
            counted = [
                serial
                for serial, seen in self._sent.items()
                if serial not in known and observers[serial].response_bytes != seen[2]
            ][:MOST_BYTES_TOLD]
        return [observers[serial] for serial in (*moved, *counted, *new)]

    def _upsert(self, observer: ResponseObserver, now: float) -> FeedFrame:
        self._sent.pop(observer.serial, None)
        self._sent[observer.serial] = _seen(observer)
        return envelope("inflight", {"operation": "upsert", "request": self._entry(observer, now)})

    def _observers(self) -> dict[int, ResponseObserver]:
        observers = self._service.in_flight()
        return {one.serial: one for one in observers if self._is_listed(one)}

    def _is_listed(self, observer: ResponseObserver) -> bool:
        """Return whether it is inference, and no WebSocket that its model ignores."""
        config = self._service.runtime.config
        model = config.models.get(observer.context.shown_model)
        ignores = model is not None and model.ignore_websockets
        return is_inference(observer.path) and not (observer.status == SWITCHING and ignores)

    def _entry(self, observer: ResponseObserver, now: float) -> dict[str, Any]:
        """Return one request as llama-swap shows it; *elapsed_ms* needs no clock that agrees."""
        context = observer.context
        request = context.request
        led = {"selector": context.selector_id, "profile": context.profile}
        metadata = {name: value for name, value in led.items() if value}
        return {
            "id": str(observer.serial),
            "timestamp": rfc3339(observer.started_ns),
            "model": context.shown_model,
            "req_path": observer.path,
            "method": request.method,
            "req_headers": self._headers(context.shown_headers),
            "remote_ip": request.client_ip,
            "resp_headers": redact_headers(observer.response_headers),
            "resp_bytes": observer.response_bytes,
            "elapsed_ms": milliseconds(now - observer.started),
            **({"metadata": metadata} if metadata else {}),
        }

    def _headers(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return *headers* redacted; the name of a session header only looks like a secret's."""
        shown = redact_headers(headers)
        config = self._service.runtime.config
        names = {name.lower() for name in config.session_headers}
        sessions = [(name, value) for name, value in headers if name.lower() in names]
        return shown | dict(reversed(sessions))


def _seen(observer: ResponseObserver) -> Seen:
    return observer.context.shown_model, observer.status, observer.response_bytes
