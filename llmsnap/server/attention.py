"""Watches one client's connection: for its next head, and for its leaving while it is served."""

from __future__ import annotations

from gevent import get_hub, socket

from llmsnap.proxy import ClientWatch, OnDisconnect, is_closed
from llmsnap.server.reader import Reader
from llmsnap.sockets import Readiness


class Attention(Readiness):
    """The readiness of a client's socket, and its ``ClientWatch``: one watcher serves for both.

    What can be read while a request is served is an end, or the beginning of what follows. After
    that an end behind it is *others*' to watch for. While *reader* waits for more of a body, it is
    the one to find out.
    """

    __slots__ = ("_on_disconnect", "_others", "_reader")

    def __init__(self, sock: socket.socket, reader: Reader, others: ClientWatch) -> None:
        super().__init__(sock)
        self._reader = reader
        self._others = others
        self._on_disconnect: OnDisconnect | None = None

    def add(self, fd: int, on_disconnect: OnDisconnect) -> None:
        """See ClientWatch."""
        del fd
        self._on_disconnect = on_disconnect
        self.turn_on()

    def remove(self, fd: int) -> None:
        """See ClientWatch."""
        self._on_disconnect = None
        if not self.is_on:
            self._others.remove(fd)

    def close(self) -> None:
        """See Readiness."""
        super().close()
        self._reader.wait = None  # which refers to us: a circle

    def unasked(self) -> None:
        """See Readiness."""
        on_disconnect, fd = self._on_disconnect, self.sock.fileno()
        if on_disconnect is None:
            return
        if self._reader.is_reading:
            get_hub().loop.run_callback(self._again)
        elif is_closed(fd):
            on_disconnect()
        else:
            self._others.add(fd, on_disconnect)

    def _again(self) -> None:
        if self._on_disconnect is not None:
            self.turn_on()
