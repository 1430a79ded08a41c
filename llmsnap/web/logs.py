"""Views of the logs: their history, and new output as it arrives.

The bodies acquire nothing before their first iteration, because the body of a HEAD response is
never iterated, and release everything in ``close``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from gevent.event import Event
from msgspec import json

from llmsnap.errors import BadRequest
from llmsnap.http import sse_event
from llmsnap.logs import Chunk, LogReader, LogStream
from llmsnap.proxy import ClientMonitor
from llmsnap.service import Service
from llmsnap.web.current import current_context, current_runtime, current_service, redirect_to
from llmsnap.web.events import HEARTBEAT, HEARTBEAT_S
from llmsnap.web.gateway import FLUSH

bp = Blueprint("logs", __name__)

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}
TEXT = "text/plain"
EVENTS = "text/event-stream"
POSITION = re.compile(r"[0-9]{1,18}")


@bp.get("/logs")
def history() -> ResponseReturnValue:
    """Return the combined log; browsers are redirected to the UI."""
    if "text/html" in request.headers.get("Accept", ""):
        return redirect_to("/ui/")
    text = _log("").snapshot()
    return Response(text, headers={"Content-Type": TEXT})


@bp.get("/logs/stream", strict_slashes=False)
@bp.get("/logs/stream/<path:name>")
def stream(name: str = "") -> ResponseReturnValue:
    """Stream a log as it grows: combined, ``proxy``, ``upstream``, or that of a model.

    ``?no-history`` leaves out existing output, ``?no-follow`` new output. ``?format=sse`` sends
    events, ``?format=json`` events that also say which model wrote what and when; otherwise it is
    text whatever Accept says, as in the Go programs.
    """
    kind = FORMATS.get(request.args.get("format", ""), LogBody)
    as_events = issubclass(kind, LogEvents)
    last_id = request.headers.get("Last-Event-ID", "")
    body = kind(
        current_service(),
        _log(name),
        current_context().request.monitor,
        skip_history="no-history" in request.args,
        after=int(last_id) if as_events and POSITION.fullmatch(last_id) else None,
        follow="no-follow" not in request.args,
    )
    headers = {**HEADERS, "Content-Type": EVENTS if as_events else TEXT}
    if body.follow:
        request.environ[FLUSH] = True
        return Response(body, headers=headers)
    with closing(body):
        return Response(b"".join(body), headers=headers)


def _log(name: str) -> LogStream:
    logs = current_service().logs
    name = name.rstrip("/")
    match name:
        case "":
            return logs.combined
        case "proxy":
            return logs.proxy
        case "upstream":
            return logs.upstream
    # The raw path: Flask's is already decoded, and "%25" must not be decoded twice.
    raw = current_context().request.raw_path.partition("?")[0].removeprefix("/logs/stream/")
    found = current_runtime().names.in_path(raw)
    model_id = current_runtime().names.local_id(found[0]) if found else None
    if model_id is None:
        raise BadRequest(f"invalid logger {name!r}: use proxy, upstream or a model id")
    return logs.model(model_id).stream


# --- streaming bodies ---------------------------------------------------------------------------


PACE_S = 0.05
"""Shortest time between two pieces of a log, so that not every line wakes fifty readers."""
UNFINISHED_S = 0.5
"""Longest time that an incomplete line is held back."""
UNFINISHED_BYTES = 16 * 1024


class LogBody:
    """A log as plain text: its history, unless *skip_history*, then new output, if *follow*.

    *after*: start at this position, where a reader lost its connection.
    """

    def __init__(
        self,
        service: Service,
        log: LogStream,
        monitor: ClientMonitor,
        *,
        skip_history: bool = False,
        after: int | None = None,
        follow: bool = True,
    ) -> None:
        self.follow = follow
        self._service = service
        self._log = log
        self._monitor = monitor
        self._skip_history = skip_history
        self._after = after
        self._reader: LogReader | None = None
        self._ended = Event()
        self._pause_until = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._log!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._reader is None:
            piece = self._encode(self._open())
            if not self.follow:
                piece += self._flush()
                self.end()
            if piece:
                return piece
        while not self._ended.wait(max(0.0, self._pause_until - time.monotonic())):
            piece = self._wait()
            if piece:
                self._pause_until = time.monotonic() + PACE_S
                return piece
            if self._is_drained:
                break
        raise StopIteration

    def close(self) -> None:
        """Unsubscribe; may be called twice."""
        self._service.feeds.discard(self)
        self._monitor.close()
        self.end()

    def end(self) -> None:
        """End the body. Never switches."""
        self._ended.set()
        if self._reader is not None:
            self._reader.close()

    @property
    def _is_drained(self) -> bool:
        return self._reader is None or self._reader.closed

    def _open(self) -> Chunk:
        """Subscribe, and return the history."""
        after = self._after
        if after is not None and after > self._log.position:
            after = None  # a position in an earlier run of the server
        history, self._reader = self._log.subscribe(after=after)
        self._service.feeds.add(self)
        self._monitor.open(self.end)
        end = self._reader.position
        if self._skip_history:
            history = b""
        elif after is not None and (gone := end - after - len(history)):
            history = b"[llmsnap: %d bytes of log are not kept any more]\n%b" % (gone, history)
        return Chunk(history, end)

    def _wait(self) -> bytes:
        """Wait for output and return it encoded; empty on timeout. Blocks."""
        chunk = self._reader.get(HEARTBEAT_S) if self._reader is not None else None
        return b"" if chunk is None else self._encode(chunk)

    def _encode(self, chunk: Chunk) -> bytes:
        return chunk.data

    def _flush(self) -> bytes:
        """Return the incomplete line that is held back."""
        return b""


class LogEvents(LogBody):
    """A log as server-sent events: each frame has some lines; its id is the position after them."""

    _unfinished = b""
    _end = 0

    def _wait(self) -> bytes:
        limit_s = UNFINISHED_S if self._unfinished else HEARTBEAT_S
        chunk = self._reader.get(limit_s) if self._reader is not None else None
        piece = b"" if chunk is None else self._encode(chunk)
        if piece or (chunk is not None and not self._is_drained):
            return piece
        return self._flush() or (b"" if self._is_drained else HEARTBEAT)

    def _encode(self, chunk: Chunk) -> bytes:
        """Return the lines that *chunk* completes; an incomplete line is held back."""
        data = self._unfinished + chunk.data
        cut = data.rfind(b"\n") + 1
        self._unfinished, self._end = data[cut:], chunk.end
        if len(self._unfinished) > UNFINISHED_BYTES:
            return self._frame(data[:cut], chunk.end - len(self._unfinished)) + self._flush()
        return self._frame(data[:cut], chunk.end - len(self._unfinished))

    def _flush(self) -> bytes:
        data, self._unfinished = self._unfinished, b""
        return self._frame(data, self._end)

    def _frame(self, data: bytes, end: int) -> bytes:
        """Return the event of *data*, which ends at position *end* of the log."""
        if not data:
            return b""
        return sse_event(self._content(data, end), event_id=str(end))

    def _content(self, data: bytes, end: int) -> str:
        return data.decode("utf-8", "replace").removesuffix("\n")


class LogDocuments(LogEvents):
    """A log as events with ``text``, unchanged, and ``marks`` of who wrote it when.

    A mark is ``[offset, model, ms]``: offsets count UTF-16 units of the text, ``""`` is llmsnap.
    """

    def _content(self, data: bytes, end: int) -> str:
        start = end - len(data)
        begin, count, shown = 0, 0, []
        for mark in self._service.logs.marks_within(self._log.name, start, end):
            at = max(0, mark.position - start)
            count += len(data[begin:at].decode("utf-8", "replace").encode("utf-16-le")) // 2
            begin = at
            shown.append([count, mark.source, mark.at_s * 1000])
        return json.encode({"text": data.decode("utf-8", "replace"), "marks": shown}).decode()


FORMATS: dict[str, type[LogBody]] = {"sse": LogEvents, "json": LogDocuments}
