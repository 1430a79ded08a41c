"""The event feed of one reader: its position, its queue, and the gaps it is notified of.

A reader that is too slow never misses the newest model list. It loses the oldest log data first,
and a frame states how much. Records and swaps are not queued: the feed fetches those that follow
the last one sent, so a reader misses none that is still in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag, auto

import gevent
from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from gevent.event import Event

from llmsnap.errors import BadRequest
from llmsnap.http import sse_comment
from llmsnap.proxy import ClientMonitor
from llmsnap.service import Service
from llmsnap.telemetry import ActivityRecord, Telemetry, swap_object
from llmsnap.web.broadcast import Batch, Note, broadcast_of
from llmsnap.web.current import current_context, current_service
from llmsnap.web.frames import FeedFrame, LogPiece, lost, named
from llmsnap.web.gateway import FLUSH

MAX_NOTES = 1000
"""Changes queued for a slow reader before only the newest of each model is kept."""
MAX_RECORDS = 200
"""Records sent at once; encoding more would delay other readers."""
LOG_BYTES = 256 * 1024
PIECE_COST = 64


class Form(Flag):
    """The kinds of frames that a reader may choose."""

    MESSAGE = auto()
    NAMED = auto()
    BOTH = MESSAGE | NAMED


@dataclass(slots=True)
class Position:
    """The last record and number of swaps that a reader has seen, and of which run."""

    run: str
    record_id: int = -1
    swaps: int = 0

    def __str__(self) -> str:
        return f"{self.run}-{self.record_id + 1}-{self.swaps}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Return the position in the id of a frame; None if *text* is not one."""
        run, *numbers = text.split("-")
        if run and len(numbers) == 2 and all(n.isascii() and n.isdecimal() for n in numbers):
            return cls(run, int(numbers[0]) - 1, int(numbers[1]))
        return None


class EventFeed:
    """One reader's view of the service, from ``open`` to ``close``.

    *resume* is the id of the last frame the reader saw before it lost its connection. A reader of
    named frames gets none with log data without *logs*, and without *records* the newest record's
    id only.
    """

    def __init__(
        self,
        service: Service,
        form: Form = Form.MESSAGE,
        resume: str = "",
        *,
        logs: bool = True,
        records: bool = True,
    ) -> None:
        self.takes_envelopes = Form.MESSAGE in form
        self.is_open = self.is_over = False
        self._service = service
        self._activity = service.telemetry.activity
        self._broadcast = broadcast_of(service)
        self._form = form
        self._takes_logs, self._takes_records = logs, records
        self._resume = Position.parse(resume)
        self._at = Position(service.telemetry.run)
        self._listed = -1  # the last record in the reader's initial list
        self._wake = Event()
        self._first: list[FeedFrame] = []
        self._models: FeedFrame | None = None
        self._profile: FeedFrame | None = None
        self._requests: list[FeedFrame] = []
        self._in_flight: FeedFrame | None = None
        self._notes: list[Note] = []
        self._most_notes = MAX_NOTES
        self._logs: deque[LogPiece] = deque()
        self._log_bytes = 0
        self._lost: dict[str, int] = {}
        self._more = False

    def __repr__(self) -> str:
        return f"<EventFeed {self._form.name} at {self._at}{' over' if self.is_over else ''}>"

    def open(self) -> None:
        """Subscribe and take the snapshot without a greenlet switch, so that no event is missed."""
        self.is_open = True
        self._service.feeds.add(self)
        self._broadcast.join(self)
        if self.takes_envelopes:
            self._first = self._broadcast.history()
        if Form.NAMED in self._form:
            self._in_flight = self._broadcast.in_flight()
        telemetry = self._service.telemetry
        self._listed = telemetry.activity.next_id - 1
        self._at = _start(telemetry, self._resume)

    def close(self) -> None:
        """Unsubscribe. Never switches; may be called twice."""
        self.end()
        self._service.feeds.discard(self)
        self._broadcast.leave(self)

    def end(self) -> None:
        """End the feed, because its client left or the server stops. Never switches."""
        self.is_over = True
        self._wake.set()

    def offer(self, batch: Batch) -> None:
        """See broadcast.FeedReader."""
        if self.takes_envelopes:
            self._models = batch.models or self._models
            self._profile = batch.profile or self._profile
            self._add_requests(batch.requests)
        if Form.NAMED in self._form:
            self._in_flight = batch.in_flight or self._in_flight
            self._add_notes(batch.notes)
        if self._takes_logs:
            self._add_logs(batch.logs)

    def wake(self) -> None:
        """See broadcast.FeedReader."""
        self._wake.set()

    def wait(self, limit_s: float) -> list[FeedFrame]:
        """Wait up to *limit_s* for frames; empty on timeout or when the feed has ended. Blocks."""
        if self._more:
            gevent.sleep(0)  # a long history must not delay other greenlets
        deadline = time.monotonic() + limit_s
        while not self.is_over:
            self._wake.clear()
            frames = list(self._take())
            if frames:
                return frames
            if not self._wake.wait(max(0.0, deadline - time.monotonic())):
                break
        return []

    # --- the queue -----------------------------------------------------------------------------

    def _add_notes(self, notes: list[Note]) -> None:
        self._notes += notes
        if len(self._notes) > self._most_notes:
            self._notes = _newest(self._notes)
            self._most_notes = max(MAX_NOTES, 2 * len(self._notes))

    def _add_requests(self, changes: list[FeedFrame]) -> None:
        """Queue *changes*, or replace too many of them by one snapshot."""
        self._requests += changes
        if len(self._requests) > MAX_NOTES:
            self._requests = [self._broadcast.requests()]

    def _add_logs(self, pieces: list[LogPiece]) -> None:
        self._logs.extend(pieces)
        self._log_bytes += sum(len(piece.data) + PIECE_COST for piece in pieces)
        while self._log_bytes > LOG_BYTES:
            oldest = self._logs.popleft()
            self._log_bytes -= len(oldest.data) + PIECE_COST
            known = self._lost.get(oldest.source, 0)
            self._lost[oldest.source] = known + (oldest.dropped or len(oldest.data))

    # --- frames --------------------------------------------------------------------------------

    def _take(self) -> Iterator[FeedFrame]:
        first, self._first = self._first, []
        yield from first
        models, self._models = self._models, None
        if models is not None:
            yield models
        profile, self._profile = self._profile, None
        if profile is not None:
            yield profile
        requests, self._requests = self._requests, []
        yield from requests
        notes, self._notes = self._notes, []
        for note in notes:
            yield note.frame
        if Form.NAMED in self._form:
            yield from self._swaps()
        yield from self._records()
        yield from self._log_frames()
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            yield in_flight

    def _swaps(self) -> Iterator[FeedFrame]:
        telemetry = self._service.telemetry
        swaps = telemetry.swaps_after(self._at.swaps)
        self._at.swaps = telemetry.swaps_ended - len(swaps)
        for swap in swaps:
            self._at.swaps += 1
            yield named("swap", swap_object(swap), str(self._at))

    def _records(self) -> list[FeedFrame]:
        """Return the frames of new records; readers at the same position share them."""
        at, activity = self._at, self._activity
        newest = activity.next_id - 1
        if newest <= at.record_id:
            return []
        if not self._takes_records:
            at.record_id = newest
            return [named("activity", {"id": newest}, str(at))]
        listed = max(self._listed, at.record_id)
        frames, at.record_id, self._more = self._broadcast.shared(
            self._form, (str(at), listed, newest), self._make_records
        )
        return frames

    def _make_records(self) -> tuple[list[FeedFrame], int, bool]:
        """Return frames, the id of their last record, and whether more records follow."""
        records = self._activity.after(self._at.record_id)
        frames: list[FeedFrame] = []
        for record in records[:MAX_RECORDS]:
            self._at.record_id = record.id
            frames += self._record(record)
        return frames, self._at.record_id, len(records) > MAX_RECORDS

    def _record(self, record: ActivityRecord) -> Iterator[FeedFrame]:
        told, frame = self._broadcast.record(record, str(self._at))
        if self.takes_envelopes and record.id > self._listed:
            yield from told
        if Form.NAMED in self._form:
            yield frame

    def _log_frames(self) -> Iterator[FeedFrame]:
        pieces = [lost(source, count) for source, count in self._lost.items()] + [*self._logs]
        self._lost, self._log_bytes = {}, 0
        self._logs.clear()
        for piece in pieces:
            if self.takes_envelopes:
                yield piece.envelope()
            if Form.NAMED in self._form:
                yield piece.named()


def _start(telemetry: Telemetry, resume: Position | None) -> Position:
    """Return the position from which a reader resumes; *resume* is None for a new one."""
    last, run = telemetry.activity.next_id - 1, telemetry.run
    if resume is None:
        return Position(run, last, telemetry.swaps_ended)
    if resume.run == run:
        return Position(run, min(resume.record_id, last), min(resume.swaps, telemetry.swaps_ended))
    # From another run of the server; numbering continues only with a store.
    goes_on = telemetry.store is not None and resume.record_id <= last
    return Position(run, resume.record_id if goes_on else -1)


def _newest(notes: list[Note]) -> list[Note]:
    """Return the last note of each subject, in order."""
    newest: dict[tuple[str, str], Note] = {}
    for note in notes:
        newest.pop(note.subject, None)
        newest[note.subject] = note
    return list(newest.values())


# --- as server-sent events ----------------------------------------------------------------------


HEARTBEAT_S = 15.0
HEARTBEAT = sse_comment("heartbeat")


class FeedBody:
    """A feed as server-sent events."""

    def __init__(self, feed: EventFeed, monitor: ClientMonitor) -> None:
        self._feed = feed
        self._monitor = monitor

    def __repr__(self) -> str:
        return f"<FeedBody of {self._feed!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        feed = self._feed
        if not feed.is_open:
            feed.open()
            self._monitor.open(feed.end)
        frames = feed.wait(HEARTBEAT_S)
        if feed.is_over:
            raise StopIteration
        return b"".join([frame.sse() for frame in frames]) or HEARTBEAT

    def close(self) -> None:
        """Unsubscribe."""
        self._monitor.close()
        self._feed.close()


# --- the view -----------------------------------------------------------------------------------


bp = Blueprint("events", __name__)

EVENT_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}
FORMS = {"message": Form.MESSAGE, "named": Form.NAMED, "both": Form.BOTH}


@bp.get("/api/events")
def events() -> ResponseReturnValue:
    """Stream all events as envelopes, or with ``?format=`` as ``named`` frames or ``both``.

    ``?logs=0`` leaves out log data, ``?records=0`` the content of records.
    """
    request.environ[FLUSH] = True
    return Response(FeedBody(new_feed(), current_context().request.monitor), headers=EVENT_HEADERS)


def new_feed() -> EventFeed:
    """Return an unopened feed with the options of the running request. Raises: BadRequest."""
    wanted = request.args.get("format") or "message"
    form = FORMS.get(wanted)
    if form is None:
        raise BadRequest(f"format must be message, named or both, not {wanted[:40]!r}")
    # Browsers cannot set headers on a WebSocket.
    resume = request.headers.get("Last-Event-ID") or request.args.get("lastEventId", "")
    logs, records = (request.args.get(name, "1") != "0" for name in ("logs", "records"))
    return EventFeed(current_service(), form, resume, logs=logs, records=records)
