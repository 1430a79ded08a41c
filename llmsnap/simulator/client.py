"""The client's end of a connection: waiting that ends when it leaves, and hanging up on it."""

from __future__ import annotations

import socket as stdlib_socket
from contextlib import suppress
from time import monotonic

import gevent
from gevent import socket


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class Client:
    """Who sent the request, seen through its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def wait(self, seconds: float) -> None:
        """Let *seconds* pass. Raises ClientGone as soon as the client hangs up. Blocks."""
        if seconds <= 0:
            gevent.sleep(0)
            return
        until = monotonic() + seconds
        if not self._readable(seconds):
            return
        if self._at_end():
            raise ClientGone
        # A pipelined request is waiting to be read: the socket can tell no more.
        gevent.sleep(max(until - monotonic(), 0))

    def wait_forever(self) -> None:
        """Block until the client hangs up, and then raise ClientGone."""
        while True:
            self.wait(3600)

    def hang_up(self) -> None:
        """Close the connection under the answer, as a crash would."""
        with suppress(OSError):
            self._socket.shutdown(stdlib_socket.SHUT_RDWR)

    def _readable(self, timeout_s: float) -> bool:
        try:
            socket.wait_read(self._socket.fileno(), timeout=timeout_s)
        except TimeoutError:
            return False
        return True

    def _at_end(self) -> bool:
        try:
            return self._socket.recv(1, stdlib_socket.MSG_PEEK) == b""
        except OSError:
            return True
