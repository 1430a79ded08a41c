"""One reader's bounded queue: the writer never waits, a slow reader loses its oldest bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gevent.event import Event

DEFAULT_LIMIT_BYTES = 256 * 1024
GET_BYTES = 64 * 1024
ENTRY_COST = 64  # what a queued chunk costs besides its bytes, so that empty lines count too


class Chunk(NamedTuple):
    """Bytes of a log up to position *end*; after a loss, a line of ours and how much was lost."""

    data: bytes
    end: int
    dropped: int = 0


class Subscription:
    """The log as one reader sees it from *position* on.

    At most *limit_bytes* wait for the reader. When it is too slow the oldest go, and its next
    ``get()`` returns a line that says how many bytes are missing. *filled* is set when something
    came; a reader of several subscriptions gives them one, and clears it before it polls them.
    """

    def __init__(
        self,
        position: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        on_close: Callable[[Subscription], None] | None = None,
        filled: Event | None = None,
    ) -> None:
        self.position = position
        self.limit_bytes = limit_bytes
        self.closed = False
        self.dropped_bytes = 0
        self._on_close = on_close
        self._chunks: deque[bytes] = deque()
        self._cost = 0
        self._lost = 0
        self._filled = filled or Event()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Subscription {state}, at {self.position}, {len(self._chunks)} chunks waiting>"

    def offer(self, data: bytes) -> None:
        """Queue *data* for the reader, dropping the oldest beyond the limit. Never switches."""
        if self.closed:
            return
        if len(data) > self.limit_bytes:
            self._lose(len(data) - self.limit_bytes)
            data = data[-self.limit_bytes :]
        self._chunks.append(data)
        self._cost += len(data) + ENTRY_COST
        while self._cost > self.limit_bytes and len(self._chunks) > 1:
            self._drop_oldest()
        self._filled.set()

    def get(self, timeout_s: float | None = None, max_bytes: int = GET_BYTES) -> Chunk | None:
        """Wait for output and return all that has come, up to *max_bytes*.

        None means that nothing came in *timeout_s*, or that the stream is closed and drained
        (then *closed* is true).
        """
        if not self._chunks and not self.closed:
            self._filled.wait(timeout_s)
        chunk = self.poll(max_bytes)
        if not self._chunks and not self.closed:
            self._filled.clear()
        return chunk

    def poll(self, max_bytes: int = GET_BYTES) -> Chunk | None:
        """Return what has come, as ``get()`` does, without waiting. Never switches."""
        if self._lost:
            return self._tell_loss()
        if not self._chunks:
            return None
        parts, size = [], 0
        while self._chunks and size < max_bytes:
            parts.append(self._chunks.popleft())
            size += len(parts[-1])
        self._cost -= size + ENTRY_COST * len(parts)
        if size > max_bytes:
            size -= self._put_back(parts, size - max_bytes)
        self.position += size
        return Chunk(b"".join(parts), self.position)

    def close(self) -> None:
        """Take no more; the reader still gets what is queued."""
        if self.closed:
            return
        self.closed = True
        self._filled.set()
        if self._on_close is not None:
            self._on_close(self)

    def _drop_oldest(self) -> None:
        oldest = self._chunks.popleft()
        self._cost -= len(oldest) + ENTRY_COST
        self._lose(len(oldest))

    def _put_back(self, parts: list[bytes], count: int) -> int:
        """Leave the last *count* bytes of *parts* for the next time; return *count*."""
        rest = parts[-1][-count:]
        parts[-1] = parts[-1][:-count]
        self._chunks.appendleft(rest)
        self._cost += count + ENTRY_COST
        return count

    def _lose(self, count: int) -> None:
        self._lost += count
        self.dropped_bytes += count

    def _tell_loss(self) -> Chunk:
        lost, self._lost = self._lost, 0
        self.position += lost
        line = b"\n[llmsnap: %d bytes of log dropped, this reader is too slow]\n" % lost
        return Chunk(line, self.position, lost)
