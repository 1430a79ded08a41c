"""Bodies that do not end by themselves: the event feed, a log that grows.

They take hold of nothing before their first piece is asked for, since the answer to a HEAD request
never is, and let go of everything in ``close``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from gevent.event import Event

from llmsnap.http import sse_comment, sse_event
from llmsnap.logs import Chunk, LogReader, LogStream
from llmsnap.proxy import ClientMonitor
from llmsnap.service import Service
from llmsnap.web.feed import Feed

HEARTBEAT_S = 15.0
HEARTBEAT = sse_comment("heartbeat")
PACE_S = 0.05
"""Between two pieces of a log: fifty readers must not be woken by every line."""
UNFINISHED_S = 0.5
"""How long the beginning of a line waits for its end, before it is shown as it is."""
UNFINISHED_BYTES = 16 * 1024


class FeedBody:
    """A feed as server-sent events."""

    def __init__(self, feed: Feed, monitor: ClientMonitor) -> None:
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


class LogBody:
    """A log as plain text: what is there, unless *skip_history*, then what comes, if *follow*.

    *after*: only what is beyond this position; a reader that was there before lost the connection.
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
        """Have the reader stop. Never switches."""
        self._ended.set()
        if self._reader is not None:
            self._reader.close()

    @property
    def _is_drained(self) -> bool:
        return self._reader is None or self._reader.closed

    def _open(self) -> Chunk:
        """Begin to read, and return what is there already."""
        after = self._after
        if after is not None and after > self._log.position:
            after = None  # a position of an earlier run of the server
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
        """Wait for output and return it as it is sent; nothing when none came in a while."""
        chunk = self._reader.get(HEARTBEAT_S) if self._reader is not None else None
        return b"" if chunk is None else self._encode(chunk)

    def _encode(self, chunk: Chunk) -> bytes:
        return chunk.data

    def _flush(self) -> bytes:
        """Return what waits for its end."""
        return b""


class LogEvents(LogBody):
    """A log as server-sent events: a frame for some lines, its id the position behind them."""

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
        """Return the lines that *chunk* completes; what is left waits for the rest of its line."""
        data = self._unfinished + chunk.data
        cut = data.rfind(b"\n") + 1
        self._unfinished, self._end = data[cut:], chunk.end
        if len(self._unfinished) > UNFINISHED_BYTES:
            return _frame(data[:cut], chunk.end - len(self._unfinished)) + self._flush()
        return _frame(data[:cut], chunk.end - len(self._unfinished))

    def _flush(self) -> bytes:
        data, self._unfinished = self._unfinished, b""
        return _frame(data, self._end)


def _frame(data: bytes, end: int) -> bytes:
    if not data:
        return b""
    text = data.decode("utf-8", "replace").removesuffix("\n")
    return sse_event(text, event_id=str(end))
