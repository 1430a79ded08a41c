"""The last N bytes of something that never ends."""

from __future__ import annotations


class RingBuffer:
    """Keeps the last *capacity* bytes appended; an append costs its own length, never more.

    Memory is taken at the first append and given back by ``clear()``. *end* counts every byte ever
    appended, so a byte has one position for the life of the buffer, also across ``clear()``.
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
        """Return a copy of what is held, oldest first; only the last *limit* bytes if given."""
        size = self._size if limit is None else min(limit, self._size)
        first = self._next - size
        if first >= 0:
            return bytes(memoryview(self._buffer)[first : self._next])
        return bytes(self._buffer[first:]) + bytes(self._buffer[: self._next])

    def since(self, position: int) -> bytes:
        """Return what is held from *position* on: all when it is too old, nothing when ahead."""
        return self.snapshot(max(0, self.end - position))

    def clear(self) -> None:
        """Forget the bytes and give the memory back; positions go on."""
        self._buffer = bytearray()
        self._next = self._size = 0

    def resize(self, capacity: int) -> None:
        """Hold *capacity* bytes from now on, keeping as many of the held ones as fit."""
        capacity = max(1, capacity)
        if capacity == self.capacity:
            return
        held, end = self.snapshot(), self.end
        self.clear()
        self.capacity = capacity
        if held:
            self.append(held)
        self.end = end
