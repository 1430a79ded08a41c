"""What one connection receives: heads, and the bytes of bodies, in the order they come.

Bytes that came along with a head are kept for whoever is next: the body, the next head of a client
that pipelines, or a tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import socket

from llmsnap.errors import BodyTimeout
from llmsnap.server import head
from llmsnap.server.connections import Deadline

RECV_BYTES = 65536


class Reader:
    """Reads one connection, a piece at a time.

    *bodies* bounds the wait for each piece of a body.
    """

    __slots__ = ("_at", "_bodies", "_data", "_is_late", "_sock", "is_reading", "wait")

    def __init__(self, sock: Any, bodies: Deadline | None = None) -> None:
        self._sock = sock
        self._bodies = bodies
        self._is_late = False
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
        """Return 1 to *limit* bytes, b"" at the end. Blocks. Raises: OSError, BodyTimeout."""
        at, data = self._at, self._data
        if at == len(data):
            return self._more(min(limit, RECV_BYTES))
        end = min(at + limit, len(data))
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        return data[at:end]

    def line(self, limit: int) -> bytes:
        """Return the next line without its CRLF, of *limit* bytes at most. Blocks.

        Raises: ValueError when it is longer, EOFError, OSError, BodyTimeout.
        """
        while (end := self._data.find(b"\r\n", self._at)) < 0 and self.waiting <= limit + 1:
            more = self._more(RECV_BYTES)
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

    def hang_up(self) -> None:
        """Have the wait for a body end with BodyTimeout; see connections.Connection."""
        self._is_late = True
        shut(self._sock)

    def _more(self, size: int) -> bytes:
        """Return what comes next of a body."""
        self.is_reading = True
        if self._bodies is not None:
            self._bodies.start(self)
        try:
            data: bytes = self._sock.recv(size)
        except OSError:
            if not self._is_late:
                raise
            data = b""
        finally:
            self.is_reading = False
            if self._bodies is not None:
                self._bodies.stop(self)
        if self._is_late and not data:
            raise BodyTimeout("the body of the request did not go on in time")
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


def shut(sock: Any) -> None:
    """Have whatever reads *sock* find its end. Never switches."""
    with suppress(OSError):  # the client was faster
        # Not the method of an SSLSocket, which would throw its session away.
        socket.socket.shutdown(sock, socket.SHUT_RD)
