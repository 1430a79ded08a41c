"""What one connection receives: heads, and the bytes of bodies, in the order they come.

Bytes that came along with a head are kept for whoever is next: the body, the next head of a client
that pipelines, or a tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from llmsnap.server import head

RECV_BYTES = 65536


class Receiver(Protocol):
    """A socket, as far as it is read."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, b"" at the end. Raises: OSError."""


class Reader:
    """Reads one connection, a piece at a time."""

    __slots__ = ("_at", "_data", "_sock", "is_reading", "wait")

    def __init__(self, sock: Receiver) -> None:
        self._sock = sock
        self.is_reading = False
        """Whether somebody waits for a piece of a body."""
        self.wait: Callable[[], None] | None = None
        """Waits for a head that cannot be there yet, for less than trying to read it costs."""
        self._data = b""
        self._at = 0

    def __repr__(self) -> str:
        return f"<Reader, {self.waiting} bytes ahead>"

    @property
    def waiting(self) -> int:
        """How many bytes have been received and not yet been taken."""
        return len(self._data) - self._at

    def head(self, on_begun: Callable[[], None]) -> bytes:
        """Return the next head with its empty line; b"" when the client ends before its first byte.

        *on_begun* is called when only a part of it has come. Blocks. Raises: BadHead, OSError;
        EOFError when the client ends in the middle.
        """
        data = self.ahead()
        if not data:
            if self.wait is not None:
                self.wait()
            data = self._sock.recv(RECV_BYTES)
        end = data.find(head.END)
        if end > 0 and data[0] != 13:
            end += 4
            if end < len(data):
                self._data, self._at = data, end
                return data[:end]
            return data
        return self._rest_of_head(data, on_begun) if data else b""

    def some(self, limit: int) -> bytes:
        """Return 1 to *limit* bytes, b"" at the end. Blocks. Raises: OSError."""
        at, data = self._at, self._data
        if at == len(data):
            self.is_reading = True
            try:
                return self._sock.recv(min(limit, RECV_BYTES))
            finally:
                self.is_reading = False
        end = min(at + limit, len(data))
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        return data[at:end]

    def line(self, limit: int) -> bytes:
        """Return the next line without its CRLF, of *limit* bytes at most. Blocks.

        Raises: ValueError when it is longer, EOFError, OSError.
        """
        while (end := self._data.find(b"\r\n", self._at)) < 0 and self.waiting <= limit + 1:
            more = self._sock.recv(RECV_BYTES)
            if not more:
                raise EOFError
            self._data = self._data[self._at :] + more
            self._at = 0
        if end < 0 or end - self._at > limit:
            raise ValueError("line too long")
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def ahead(self) -> bytes:
        """Take all bytes that have been received. Never switches."""
        data = self._data[self._at :]
        self._data, self._at = b"", 0
        return data

    def _rest_of_head(self, data: bytes, on_begun: Callable[[], None]) -> bytes:
        """Read on until a head is complete. One empty line before it is no error (RFC 9112 2.2)."""
        received = bytearray(data)
        begun, checked, may_be_empty = False, 0, True
        while True:
            if may_be_empty and len(received) > 1:
                may_be_empty = False
                if received.startswith(b"\r\n"):
                    del received[:2]
            end = received.find(head.END, checked)
            if end >= 0:
                self._data, self._at = bytes(received[end + 4 :]), 0
                return bytes(received[: end + 4])
            if not begun and received.strip(b"\r\n"):
                begun = True
                on_begun()
            head.check_begun(received, checked)
            checked = max(0, len(received) - 3)
            more = self._sock.recv(RECV_BYTES)
            if not more:
                if begun:
                    raise EOFError
                return b""
            received += more
