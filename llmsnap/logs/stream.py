"""A log that many may watch and nobody can hold up."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event

from llmsnap.logs.ring import RingBuffer
from llmsnap.logs.subscription import DEFAULT_LIMIT_BYTES, Subscription

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
        # A tuple that is replaced, never changed: write() may walk it while a reader leaves.
        self._readers: tuple[Subscription, ...] = ()

    def __repr__(self) -> str:
        return f"<LogStream {self.name}, at {self.position}, {len(self._readers)} readers>"

    @property
    def position(self) -> int:
        """How many bytes were ever written; the position of the next one."""
        return self._ring.end

    def write(self, data: bytes) -> None:
        """Append *data* and offer it to every reader. Never waits, never switches."""
        if not data:
            return
        self._ring.append(data)
        for reader in self._readers:
            reader.offer(data)
        for sink in self._sinks:
            sink(data)

    def snapshot(self, limit: int | None = None) -> bytes:
        """Return the history held, oldest first; its last *limit* bytes if given."""
        return self._ring.snapshot(limit)

    def subscribe(
        self,
        *,
        after: int | None = None,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        filled: Event | None = None,
    ) -> tuple[bytes, Subscription]:
        """Return the history and what comes after it, with no byte lost or doubled in between.

        The history is what is still held beyond position *after*; all of it when None. It ends at
        the subscription's *position*. *filled*: see Subscription.
        """
        reader = Subscription(self.position, limit_bytes, self._forget, filled)
        self._readers = (*self._readers, reader)
        history = self._ring.snapshot() if after is None else self._ring.since(after)
        return history, reader

    def clear(self) -> None:
        """Forget the history; readers and positions stay."""
        self._ring.clear()

    def resize(self, capacity: int) -> None:
        """Keep a history of *capacity* bytes from now on."""
        self._ring.resize(capacity)

    def close(self) -> None:
        """End every reader; the history stays readable. Never switches."""
        for reader in self._readers:
            reader.close()

    def _forget(self, reader: Subscription) -> None:
        self._readers = tuple(r for r in self._readers if r is not reader)
