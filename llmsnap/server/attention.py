"""Watches one client's connection: for its next head, and for its leaving while it is served."""

from __future__ import annotations

from gevent import socket

from llmsnap.proxy.watch import ClientWatch, OnGone, is_closed
from llmsnap.sockets import Readiness


class Attention(Readiness):
    """The readiness of a client's socket, and its ``ClientWatch``: one watcher serves for both.

    What can be read while a request is served is an end, or the beginning of what follows. After
    that an end behind it is *others*' to watch for.
    """

    __slots__ = ("_on_gone", "_others")

    def __init__(self, sock: socket.socket, others: ClientWatch) -> None:
        super().__init__(sock)
        self._others = others
        self._on_gone: OnGone | None = None

    def add(self, fd: int, on_gone: OnGone) -> None:
        """See ClientWatch."""
        del fd
        self._on_gone = on_gone
        self.turn_on()

    def remove(self, fd: int) -> None:
        """See ClientWatch."""
        self._on_gone = None
        if not self.is_on:
            self._others.remove(fd)

    def unasked(self) -> None:
        """See Readiness."""
        on_gone, fd = self._on_gone, self.sock.fileno()
        if on_gone is None:
            return
        if is_closed(fd):
            on_gone()
        else:
            self._others.add(fd, on_gone)
