"""The body of a forwarded answer: passes each piece on, and settles everything when closed."""

from __future__ import annotations

import errno
import logging
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gevent import socket

from llmsnap.errors import ClientGone, LlmsnapError
from llmsnap.proxy.call import Call

log = logging.getLogger(__name__)

LINGER_NOTHING = struct.pack("ii", 1, 0)  # socket(7): close() then sends RST


class Source(Protocol):
    """Where the pieces come from: an exchange with an upstream."""

    def read(self) -> bytes:
        """Return the next piece, b"" at the end. Raises: LlmsnapError."""


class Tap(Protocol):
    """Sees what passes. Must never switch greenlets."""

    def feed(self, data: bytes) -> None:
        """Take the next piece of the answer's body."""


class Aborted(ConnectionResetError):
    """Ends a connection in the middle of an answer, so that nobody takes it for complete.

    Both pywsgi and gunicorn close the socket quietly on this errno.
    """

    def __init__(self, why: str) -> None:
        super().__init__(errno.ECONNRESET, why)


class ProxyStream:
    """An iterator of pieces with ``close()``; *on_close* gives back what the request held.

    A piece is read, shown to the tap, and passed on: no copy, no lock, no log line.
    """

    def __init__(
        self,
        call: Call,
        source: Source,
        tap: Tap | None,
        on_close: Callable[[], None],
        *,
        on_error: Callable[[LlmsnapError], bytes] | None = None,
    ) -> None:
        self._call = call
        self._source = source
        self._tap = tap
        self._on_close = on_close
        self._on_error = on_error
        self._closed = False
        self._failed: LlmsnapError | None = None

    def __repr__(self) -> str:
        return f"<ProxyStream {self._call.id}{' closed' if self._closed else ''}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._failed is not None:
            raise self._abort(self._failed)
        try:
            data = self._source.read()
        except LlmsnapError as error:
            return self._fail(error)
        if not data:
            raise StopIteration
        call = self._call
        if call.first_byte_at is None:
            call.first_byte_at = time.monotonic()
        if self._tap is not None:
            self._tap.feed(data)
        return data

    def close(self) -> None:
        """Settle everything; the first call counts. Never switches greenlets for long."""
        if not self._closed:
            self._closed = True
            self._on_close()

    def _fail(self, error: LlmsnapError) -> bytes:
        """Note the failure; return what may still be said before the connection is broken."""
        self._failed = error
        if self._call.presence.gone:
            raise self._abort(ClientGone("the client left")) from error
        log.warning("<%s> %s", self._call.served, error, extra={"request_id": self._call.id})
        last_words = self._on_error(error) if self._on_error is not None else b""
        if not last_words:
            raise self._abort(error) from error
        return last_words

    def _abort(self, error: LlmsnapError) -> Aborted:
        self._call.status = error.status
        self._call.error = str(error)
        if self._call.protocol == "HTTP/1.0":
            reset_on_close(self._call.socket)
        return Aborted(str(error))


def reset_on_close(sock: Any) -> None:
    """Have *sock* end with a reset: an end of file would look like a complete answer."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
