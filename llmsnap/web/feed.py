"""What one browser is told: the model list, logs, metrics, swaps, as they change.

Two forms share the stream. The *envelope* is what existing clients read: ``message`` frames whose
``data`` is JSON in JSON. *Named* frames carry one change each, in plain JSON. A reader that is too
slow never misses the newest model list; it loses the oldest log data first, and is told how much.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from gevent.event import Event

from llmsnap import events
from llmsnap.logs.subscription import Chunk, Subscription
from llmsnap.metrics import views
from llmsnap.service import Service
from llmsnap.web import statuses

MAX_FRAMES = 1000
"""Named frames that wait for a slow reader, before the oldest go."""
IN_FLIGHT_EVERY_S = 0.25
LOG_BYTES = 256 * 1024


class Form(Flag):
    """Which frames a reader wants."""

    MESSAGE = auto()
    NAMED = auto()
    BOTH = MESSAGE | NAMED


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing to tell. *event* is ``message`` for an envelope; *id* resumes the stream."""

    event: str
    data: str
    id: str = ""


class Feed:
    """One reader's view of the service, from ``open`` to ``close``."""

    def __init__(self, service: Service, form: Form = Form.BOTH, resume: str = "") -> None:
        self._service = service
        self._form = form
        self._resume = parse_position(resume)
        self._wake = Event()
        self._named: deque[Frame] = deque(maxlen=MAX_FRAMES)
        self._metrics: deque[events.ActivityRecord] = deque(maxlen=MAX_FRAMES)
        self._models_changed = False
        self._in_flight_changed = False
        self._in_flight_at = 0.0
        self._logs: dict[str, Subscription] = {}
        self._bus: list[events.Subscription] = []
        self._first: list[Frame] = []
        self._swap_id = 0
        self.is_over = False

    def __repr__(self) -> str:
        return f"<Feed {self._form}{' over' if self.is_over else ''}>"

    def open(self) -> None:
        """Subscribe and take the snapshot in one step, without a switch, so nothing is missed."""
        service = self._service
        if Form.MESSAGE in self._form:
            for source in ("proxy", "upstream"):
                stream = getattr(service.logs, source)
                history, reader = stream.subscribe(limit_bytes=LOG_BYTES, filled=self._wake)
                self._logs[source] = reader
                self._first.append(_log_envelope(source, history))
            self._first.append(self._model_list())
            records = [r for r in service.observations.activity.snapshot() if views.is_metric(r)]
            self._first.append(_envelope("metrics", list(map(views.metric_object, records))))
        else:
            for source in ("proxy", "upstream"):
                _, self._logs[source] = getattr(service.logs, source).subscribe(
                    limit_bytes=LOG_BYTES, filled=self._wake
                )
        if Form.NAMED in self._form and self._resume is not None:
            self._first += self._missed(*self._resume)
        self._bus = [service.bus.subscribe(kind, handler) for kind, handler in self._handlers()]
        service.feeds.add(self)

    def close(self) -> None:
        """Unsubscribe. Never switches; may be called twice."""
        self.end()
        self._service.feeds.discard(self)
        for subscription in self._bus:
            subscription.close()
        for reader in self._logs.values():
            reader.close()

    def end(self) -> None:
        """Have the reader stop: it left, or the server goes. Never switches."""
        self.is_over = True
        self._wake.set()

    def wait(self, limit_s: float) -> list[Frame]:
        """Wait for something to tell, *limit_s* at most; empty when nothing came."""
        if self._first:
            first, self._first = self._first, []
            return first
        self._wake.wait(self._patience(limit_s))
        self._wake.clear()
        if self.is_over:
            self._wake.set()
            return []
        return list(self._frames())

    def _frames(self) -> Iterator[Frame]:
        if self._models_changed and Form.MESSAGE in self._form:
            self._models_changed = False
            yield self._model_list()
        while self._named:
            yield self._named.popleft()
        while self._metrics:
            yield from self._metric(self._metrics.popleft())
        for source, reader in self._logs.items():
            chunk = reader.poll()
            if chunk is not None:
                self._wake.set()  # there may be more
                yield from self._log(source, chunk)
        if self._in_flight_changed and self._in_flight_is_due():
            self._in_flight_changed = False
            self._in_flight_at = time.monotonic()
            yield self._in_flight()

    # --- what the bus tells: each of these only notes it ---------------------------------------

    def _handlers(self) -> list[tuple[type[events.Event], Callable[[Any], None]]]:
        handlers: list[tuple[type[events.Event], Callable[[Any], None]]] = [
            (events.ProcessStateChanged, self._on_state),
            (events.ConfigReload, self._on_config),
            (events.ActivityRecorded, self._on_activity),
        ]
        if Form.NAMED in self._form:
            handlers += [
                (events.RequestStarted, self._on_request),
                (events.SwapStarted, self._on_swap_started),
                (events.SwapFinished, self._on_swap),
                (events.ModelPreloaded, self._on_preload),
            ]
        return handlers

    def _on_state(self, event: events.ProcessStateChanged) -> None:
        self._models_changed = True
        self._note(
            "modelStatus",
            {"processName": event.model_id, "newState": event.new, "oldState": event.old},
        )

    def _on_config(self, event: events.ConfigReload) -> None:
        self._models_changed = True
        self._note(
            "configReload",
            {"phase": event.phase, "source": event.source, "errors": list(event.problems)},
        )

    def _on_activity(self, event: events.ActivityRecorded) -> None:
        self._metrics.append(event.record)
        self._in_flight_changed = True
        self._wake.set()

    def _on_request(self, event: events.RequestStarted) -> None:
        self._in_flight_changed = True
        self._wake.set()

    def _on_swap_started(self, event: events.SwapStarted) -> None:
        self._note(
            "swapStarted",
            {"id": event.swap_id, "target": event.target, "evicted": list(event.evicted)},
        )

    def _on_swap(self, event: events.SwapFinished) -> None:
        self._swap_id = event.swap_id
        self._note("swap", views.swap_object(event), self._position())

    def _on_preload(self, event: events.ModelPreloaded) -> None:
        self._note(
            "preload",
            {"modelName": event.model_id, "success": event.success, "reason": event.reason},
        )

    def _note(self, name: str, document: Any, position: str = "") -> None:
        if Form.NAMED in self._form:
            self._named.append(Frame(name, _dump(document), position))
        self._wake.set()

    # --- frames --------------------------------------------------------------------------------

    def _model_list(self) -> Frame:
        return _envelope("modelStatus", statuses.models(self._service))

    def _metric(self, record: events.ActivityRecord) -> Iterator[Frame]:
        if Form.MESSAGE in self._form and views.is_metric(record):
            yield _envelope("metrics", [views.metric_object(record)])
        if Form.NAMED in self._form:
            yield self._named_metric(record)

    def _named_metric(self, record: events.ActivityRecord) -> Frame:
        document = views.named_metric_object(record)
        return Frame("metrics", _dump(document), f"{record.id}.{self._swap_id}")

    def _log(self, source: str, chunk: Chunk) -> Iterator[Frame]:
        if Form.MESSAGE in self._form:
            yield _log_envelope(source, chunk.data)
        if Form.NAMED in self._form:
            yield Frame("logData", _dump(statuses.log_data(source, chunk.data)))

    def _in_flight(self) -> Frame:
        return Frame("inFlight", _dump(statuses.in_flight(self._service)))

    def _in_flight_is_due(self) -> bool:
        return time.monotonic() - self._in_flight_at >= IN_FLIGHT_EVERY_S

    def _patience(self, limit_s: float) -> float:
        return min(limit_s, IN_FLIGHT_EVERY_S) if self._in_flight_changed else limit_s

    def _position(self) -> str:
        return f"{self._service.observations.activity.next_id - 1}.{self._swap_id}"

    def _missed(self, record_id: int, swap_id: int) -> list[Frame]:
        """What happened after the position a reader resumes from, as far as it is remembered."""
        self._swap_id = swap_id
        swaps = [swap for swap in self._service.recent_swaps() if swap.swap_id > swap_id]
        frames = []
        for swap in swaps:
            self._swap_id = swap.swap_id
            frames.append(
                Frame("swap", _dump(views.swap_object(swap)), f"{record_id}.{swap.swap_id}")
            )
        return frames + list(
            map(self._named_metric, self._service.observations.activity.after(record_id))
        )


def parse_position(text: str) -> tuple[int, int] | None:
    """Return the ids of the last metric and swap a reader saw; None for what is no position."""
    record_id, _, swap_id = text.partition(".")
    if record_id.lstrip("-").isdigit() and swap_id.isdigit():
        return int(record_id), int(swap_id)
    return None


def _envelope(kind: str, document: Any) -> Frame:
    return Frame("message", _dump({"type": kind, "data": _dump(document)}))


def _log_envelope(source: str, data: bytes) -> Frame:
    text = data.decode("utf-8", "replace")
    return _envelope("logData", {"data": text, "source": source})


def _dump(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
