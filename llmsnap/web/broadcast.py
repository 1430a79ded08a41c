"""Collects events once for all readers of the feed, and encodes each of them once.

While there are readers, one greenlet publishes a batch at most ten times a second: a model that
prints ten thousand lines, or serves a thousand requests, wakes each of fifty open tabs ten times,
not ten thousand times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, proxy

import gevent
from gevent.event import Event

from llmsnap.logs import LogReader, LogStream
from llmsnap.service import Service
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry import (
    ActivityRecord,
    ActivityRecorded,
    ConfigReload,
    EventSubscription,
    MemoryChanged,
    ModelPreloaded,
    ProcessStateChanged,
    ProfileChanged,
    RequestStarted,
    SwapFinished,
    SwapStarted,
    is_metric,
    metric_object,
    named_metric_object,
)
from llmsnap.telemetry import Event as TelemetryEvent
from llmsnap.web import frames
from llmsnap.web.frames import (
    BYTES_EVERY_S,
    FeedFrame,
    InFlight,
    LogPiece,
    dump,
    envelope,
    named,
    split_utf8,
    wrapped,
)

PACE_S = 0.1
IN_FLIGHT_EVERY_S = 0.5
LOG_BYTES = 256 * 1024
"""Bytes of each log that may wait to be published."""
WOKEN_AT_ONCE = 5
BREATH_S = 0.001
ROUND_BYTES = 32 * 1024
"""Bytes of each log in one batch; encoding more would delay other streams."""
SOURCES = ("proxy", "upstream")
RECORDS_KEPT = 512

T = TypeVar("T")

_broadcasts: WeakKeyDictionary[Service, Broadcast] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Note:
    """A named frame that supersedes older frames with the same *subject*."""

    frame: FeedFrame
    subject: tuple[str, str]


@dataclass(slots=True)
class Batch:
    """Everything since the previous batch. *recorded*: there are new records or swaps."""

    models: FeedFrame | None = None
    profile: FeedFrame | None = None
    notes: list[Note] = field(default_factory=list)
    logs: list[LogPiece] = field(default_factory=list)
    requests: list[FeedFrame] = field(default_factory=list)
    in_flight: FeedFrame | None = None
    recorded: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the batch holds no event."""
        parts = (self.models, self.profile, self.notes, self.logs, self.requests, self.in_flight)
        return not (self.recorded or any(parts))


class FeedReader(Protocol):
    """A consumer of batches."""

    @property
    def takes_envelopes(self) -> bool:
        """Whether it wants envelopes, the frames of llama-swap."""

    def offer(self, batch: Batch) -> None:
        """Queue *batch*. Never switches greenlets."""

    def wake(self) -> None:
        """Start to send what is queued. Never switches greenlets."""


class Broadcast:
    """Subscribes to the bus and the logs of *service* while it has readers."""

    def __init__(self, service: Service, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace_s = PACE_S
        self._service: Service = proxy(service)  # the readers hold the strong reference
        self._clock = clock
        self._readers: dict[FeedReader, None] = {}
        self._bus: list[EventSubscription] = []
        self._logs: dict[str, LogReader] = {}
        self._rests: dict[str, bytes] = {}
        self._next = Batch()
        self._models_changed = False
        self._in_flight_due = 0.0
        self._in_flight_seen: Any = ()
        self._requests = InFlight(self._service)
        self._records: dict[int, tuple[list[FeedFrame], FeedFrame]] = {}
        self._shared: dict[Any, tuple[Any, Any]] = {}
        self._history: tuple[Any, FeedFrame] | None = None
        self._wake, self._deserted = Event(), Event()
        self._tasks = TaskGroup("events")
        self._is_running = False

    def __repr__(self) -> str:
        return f"<Broadcast to {len(self._readers)} readers>"

    # --- readers: nothing here switches greenlets ----------------------------------------------

    def join(self, reader: FeedReader) -> None:
        """Send *reader* all events from now on; ``history`` returns the earlier ones."""
        if not self._readers:
            self._open()
        if self.publish():
            for other in self._readers:
                other.wake()
        self._readers[reader] = None
        if not self._is_running:
            self._is_running = True
            self._tasks.spawn("broadcast", self._run)

    def leave(self, reader: FeedReader) -> None:
        """Send *reader* no further events."""
        if self._readers.pop(reader, self) is not self and not self._readers:
            self._close()

    def history(self) -> list[FeedFrame]:
        """Return the first envelopes of a reader that has just joined."""
        logs = [LogPiece(source, self._published(source)).envelope() for source in SOURCES]
        fixed = self._ui_config(), self._profile()
        return [*logs, self._model_list(), *fixed, self.requests(), self._metrics()]

    def requests(self) -> FeedFrame:
        """Return the snapshot of the requests in flight."""
        return self._requests.snapshot(self._now())

    def _now(self) -> float:
        recorder = self._service.telemetry.recorder
        return recorder.now()

    def in_flight(self) -> FeedFrame | None:
        """Return the requests in flight, for a reader that just joined; None without any."""
        if not frames.in_flight_key(self._service):
            return None
        return named("inFlight", frames.in_flight(self._service))

    def publish(self) -> bool:
        """Offer the collected batch to all readers; return whether it held any event."""
        batch, self._next = self._next, Batch()
        if self._models_changed:
            self._models_changed = False
            batch.models = self._model_list()
        batch.logs = self._take_logs()
        if any(reader.takes_envelopes for reader in self._readers):
            batch.requests = self._requests.changes(self._now())
        batch.in_flight = self._take_in_flight()
        if batch.is_empty:
            return False
        for reader in self._readers:
            reader.offer(batch)
        return True

    def record(self, record: ActivityRecord, position: str) -> tuple[list[FeedFrame], FeedFrame]:
        """Return the envelopes of a record and its named frame.

        *position* is where a reader is that has seen it: nearly all are at the same.
        """
        found = self._records.get(record.id)
        if found is None:
            told = []
            if is_metric(record):
                told.append(envelope("metrics", [metric_object(record)]))
            told.append(envelope("activity", {"id": record.id}))
            data = dump(named_metric_object(record))
            found = self._records[record.id] = told, FeedFrame("metrics", data, position)
            if len(self._records) > RECORDS_KEPT:
                del self._records[next(iter(self._records))]
        if found[1].id != position:
            return found[0], FeedFrame("metrics", found[1].data, position)
        return found

    def shared(self, kind: Hashable, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of *make*, cached as the last one of *kind* while *key* is the same."""
        known = self._shared.get(kind)
        if known is None or known[0] != key:
            known = self._shared[kind] = key, make()
        made: T = known[1]
        return made

    # --- the greenlet --------------------------------------------------------------------------

    def _run(self) -> None:
        while self._readers:
            self._wake.wait(self._patience())
            self._wake.clear()
            if self.publish():
                self._wake_readers()
            self._deserted.wait(self.pace_s)
        self._is_running = False

    def _wake_readers(self) -> None:
        """Wake the readers in small groups, and let other streams run in between."""
        readers = list(self._readers)
        for start in range(0, len(readers), WOKEN_AT_ONCE):
            if start:
                gevent.sleep(BREATH_S)
            for reader in readers[start : start + WOKEN_AT_ONCE]:
                reader.wake()

    def _patience(self) -> float | None:
        """Return seconds until in-flight counts, which have no event, must be polled, or None."""
        if self._in_flight_seen or self._service.in_flight():
            left_s = max(0.0, self._in_flight_due - self._clock())
            return left_s if self._requests.is_empty else min(left_s, BYTES_EVERY_S)
        return None

    def _open(self) -> None:
        bus = self._service.bus
        self._deserted.clear()
        self._wake.clear()
        self._bus = [bus.subscribe(kind, handler) for kind, handler in self._handlers()]
        for source in SOURCES:
            stream = self._stream(source)
            _, self._logs[source] = stream.subscribe(limit_bytes=LOG_BYTES, filled=self._wake)
            self._rests[source] = b""

    def _close(self) -> None:
        for subscription in self._bus:
            subscription.close()
        for reader in self._logs.values():
            reader.close()
        self._bus, self._logs = [], {}
        self._next = Batch()
        self._models_changed = False
        self._in_flight_seen = ()
        self._requests.forget()
        self._records.clear()
        self._shared.clear()
        self._history = None
        self._deserted.set()
        self._wake.set()

    # --- event handlers: each only records its event -------------------------------------------

    def _handlers(self) -> list[tuple[type[TelemetryEvent], Callable[[Any], None]]]:
        return [
            (ProcessStateChanged, self._on_state),
            (ConfigReload, self._on_config),
            (ProfileChanged, self._on_profile),
            (MemoryChanged, self._on_memory),
            (SwapStarted, self._on_swap_started),
            (SwapFinished, self._on_record),
            (ActivityRecorded, self._on_record),
            (ModelPreloaded, self._on_preload),
            (RequestStarted, self._on_request),
        ]

    def _on_state(self, event: ProcessStateChanged) -> None:
        self._models_changed = True
        self._note("modelStatus", event.model_id, frames.state_change(event))

    def _on_config(self, event: ConfigReload) -> None:
        self._models_changed = True
        self._note("configReload", "", frames.reload_state(event))

    def _on_profile(self, _: ProfileChanged) -> None:
        self._models_changed = True
        self._next.profile = self._profile()
        self._note("profileChanged", "", self._active_profile())

    def _on_memory(self, _: MemoryChanged) -> None:
        self._note("memoryChanged", "", {})

    def _on_swap_started(self, event: SwapStarted) -> None:
        self._note("swapStarted", event.target, frames.swap_start(event))

    def _on_preload(self, event: ModelPreloaded) -> None:
        self._note("preload", event.model_id, frames.preload(event))

    def _on_record(self, _: TelemetryEvent) -> None:
        self._next.recorded = True
        self._wake.set()

    def _on_request(self, _: RequestStarted) -> None:
        self._wake.set()

    def _note(self, name: str, subject: str, document: Any) -> None:
        self._next.notes.append(Note(named(name, document), (name, subject)))
        self._wake.set()

    # --- collection ----------------------------------------------------------------------------

    def _take_logs(self) -> list[LogPiece]:
        pieces = []
        for source, reader in self._logs.items():
            chunk = reader.poll(ROUND_BYTES)
            if chunk is None:
                continue
            self._wake.set()  # more may be waiting
            data, self._rests[source] = split_utf8(self._rests[source] + chunk.data)
            if data:
                pieces.append(LogPiece(source, data, chunk.dropped))
        return pieces

    def _take_in_flight(self) -> FeedFrame | None:
        """Return the requests in flight if they differ from those published last."""
        now = self._clock()
        if now < self._in_flight_due:
            return None
        self._in_flight_due = now + IN_FLIGHT_EVERY_S
        seen = frames.in_flight_key(self._service)
        if seen == self._in_flight_seen:
            return None
        self._in_flight_seen = seen
        return named("inFlight", frames.in_flight(self._service))

    def _published(self, source: str) -> bytes:
        """Return the history of a log up to the last published byte."""
        stream, reader = self._stream(source), self._logs[source]
        history = stream.snapshot()
        to_come = stream.position - reader.position + len(self._rests[source])
        return history[: max(0, len(history) - to_come)]

    def _model_list(self) -> FeedFrame:
        return envelope("modelStatus", frames.model_list(self._service))

    def _ui_config(self) -> FeedFrame:
        config = self._service.runtime.config
        names = config.session_headers
        return envelope("uiConfig", {"activity": {"session_id": names}})

    def _profile(self) -> FeedFrame:
        return envelope("profileChanged", self._active_profile())

    def _active_profile(self) -> dict[str, str | None]:
        return {"active": self._service.runtime.profile or None}

    def _metrics(self) -> FeedFrame:
        """Return the list of metrics, encoded once even if fifty tabs reconnect together."""
        telemetry = self._service.telemetry
        key = telemetry.activity.next_id, telemetry.captures.used
        if self._history is None or self._history[0] != key:
            records = filter(is_metric, telemetry.activity.snapshot())
            self._history = key, wrapped("metrics", dump(list(map(metric_object, records))))
        return self._history[1]

    def _stream(self, source: str) -> LogStream:
        logs = self._service.logs
        return logs.proxy if source == "proxy" else logs.upstream


def broadcast_of(service: Service) -> Broadcast:
    """Return the broadcast of *service*; there is one per service."""
    found = _broadcasts.get(service)
    if found is None:
        found = _broadcasts[service] = Broadcast(service)
    return found
