"""A byte log of bounded size that many readers may follow without blocking the writer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gevent.event import Event


class RingBuffer:
    """Keeps the last *capacity* bytes; the cost of an append depends only on its own length.

    Memory is allocated at the first append and freed by ``clear()``. *end* counts every byte ever
    appended, so the position of a byte stays the same for the life of the buffer.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = max(1, capacity)
        self.end = 0
        self._buffer = bytearray()
        self._next = 0
        self._size = 0

    def __repr__(self) -> str:
        return f"<RingBuffer {self._size} of {self.capacity} bytes, at {self.end}>"

    def __len__(self) -> int:
        return self._size

    @property
    def start(self) -> int:
        """The position of the oldest byte still held."""
        return self.end - self._size

    def append(self, data: bytes) -> None:
        """Add *data*, overwriting the oldest bytes."""
        length, capacity = len(data), self.capacity
        self.end += length
        if length >= capacity:
            self._buffer = bytearray(memoryview(data)[length - capacity :])
            self._next, self._size = 0, capacity
            return
        if not self._buffer:
            self._buffer = bytearray(capacity)
        head = self._next
        room = capacity - head
        if length < room:
            self._buffer[head : head + length] = data
            self._next = head + length
        else:
            self._buffer[head:] = data[:room]
            self._buffer[: length - room] = data[room:]
            self._next = length - room
        self._size = min(capacity, self._size + length)

    def snapshot(self, limit: int | None = None) -> bytes:
        """Return a copy of the content, oldest first; only the last *limit* bytes if given."""
        size = self._size if limit is None else min(limit, self._size)
        first = self._next - size
        if first >= 0:
            return bytes(memoryview(self._buffer)[first : self._next])
        return bytes(self._buffer[first:]) + bytes(self._buffer[: self._next])

    def since(self, position: int) -> bytes:
        """Return the content from *position* on: all of it if too old, nothing if in the future."""
        return self.snapshot(max(0, self.end - position))

    def clear(self) -> None:
        """Drop the content and free the memory; positions continue."""
        self._buffer = bytearray()
        self._next = self._size = 0

    def resize(self, capacity: int) -> None:
        """Change the capacity to *capacity* bytes, keeping as much of the content as fits."""
        capacity = max(1, capacity)
        if capacity == self.capacity:
            return
        held, end = self.snapshot(), self.end
        self.clear()
        self.capacity = capacity
        if held:
            self.append(held)
        self.end = end


DEFAULT_LIMIT_BYTES = 256 * 1024
GET_BYTES = 64 * 1024
ENTRY_COST = 64  # overhead of a queued chunk, so that empty lines count too


class Chunk(NamedTuple):
    """Bytes of a log up to position *end*; after a loss, a notice and the lost byte count."""

    data: bytes
    end: int
    dropped: int = 0


class LogReader:
    """One reader's view of the log from *position* on.

    At most *limit_bytes* are queued. If the reader is too slow the oldest are dropped, and the next
    ``get()`` returns a line that states how many bytes are missing. *filled* is set when data
    arrives; several readers may share one event, which is to be cleared before polling them.
    """

    def __init__(
        self,
        position: int = 0,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        on_close: Callable[[LogReader], None] | None = None,
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
        """Wait for output and return all that has arrived, up to *max_bytes*. Blocks.

        None means that nothing arrived in *timeout_s* seconds, or that the stream is closed and
        drained (then *closed* is true).
        """
        if not self._chunks and not self.closed:
            self._filled.wait(timeout_s)
        chunk = self.poll(max_bytes)
        if not self._chunks and not self.closed:
            self._filled.clear()
        return chunk

    def poll(self, max_bytes: int = GET_BYTES) -> Chunk | None:
        """Return output like ``get()``, without waiting. Never switches."""
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
        """Stop receiving; queued output can still be read."""
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
        """Requeue the last *count* bytes of *parts* for the next call; return *count*."""
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


DEFAULT_CAPACITY = 100 * 1024

Sink = Callable[[bytes], None]


class LogStream:
    """A byte log: its last bytes, its readers, and the *sinks* that get every write as well.

    Sinks must neither raise nor switch greenlets.
    """

    def __init__(
        self, name: str, capacity: int = DEFAULT_CAPACITY, sinks: tuple[Sink, ...] = ()
    ) -> None:
        self.name = name
        self._ring = RingBuffer(capacity)
        self._sinks = sinks
        # Copy-on-write: write() may iterate over it while a reader leaves.
        self._readers: tuple[LogReader, ...] = ()

    def __repr__(self) -> str:
        return f"<LogStream {self.name}, at {self.position}, {len(self._readers)} readers>"

    @property
    def position(self) -> int:
        """The number of bytes ever written: the position of the next one."""
        return self._ring.end

    def write(self, data: bytes) -> None:
        """Append *data* and offer it to every reader. Never blocks or switches."""
        if not data:
            return
        self._ring.append(data)
        for reader in self._readers:
            reader.offer(data)
        for sink in self._sinks:
            sink(data)

    def snapshot(self, limit: int | None = None) -> bytes:
        """Return the history, oldest first; only its last *limit* bytes if given."""
        return self._ring.snapshot(limit)

    def subscribe(
        self,
        *,
        after: int | None = None,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        filled: Event | None = None,
    ) -> tuple[bytes, LogReader]:
        """Return the history and a reader of later output, with no byte lost or repeated.

        The history starts at position *after*, or is complete if None, and ends at the reader's
        *position*. *filled*: see LogReader.
        """
        reader = LogReader(self.position, limit_bytes, self._forget, filled)
        self._readers = (*self._readers, reader)
        history = self._ring.snapshot() if after is None else self._ring.since(after)
        return history, reader

    def clear(self) -> None:
        """Clear the history; readers and positions stay."""
        self._ring.clear()

    def resize(self, capacity: int) -> None:
        """Change the size of the history to *capacity* bytes."""
        self._ring.resize(capacity)

    def close(self) -> None:
        """End every reader; the history stays readable. Never switches."""
        for reader in self._readers:
            reader.close()

    def _forget(self, reader: LogReader) -> None:
        self._readers = tuple(r for r in self._readers if r is not reader)
