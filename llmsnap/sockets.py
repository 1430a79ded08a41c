"""Sending, waiting for input, and listening sockets: what gevent's own calls do too slowly."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from gevent import get_hub, sleep, socket
from gevent.hub import Waiter
from gevent.monkey import get_original

CLOSING_ROUNDS = 50
READ = 1  # gevent's flag for a watcher that waits for reading


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send all of *data*. Blocks while the peer does not read. Raises: OSError.

    Nearly always one system call takes everything; ``sendall`` asks for the size of the send
    buffer first, and wraps the data three times, which costs as much again.
    """
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


class Readiness:
    """Waits until a plain socket is readable, for callers that know it is not readable yet.

    gevent's ``recv`` tries to read first, which costs a system call and an exception right after a
    request was sent; and it stops its watcher after each wait, which costs a further call at the
    next. This watcher stays on until data arrives while no caller waits. *sock* must not be a TLS
    socket, which may have read ahead; call ``close()`` before the socket's own.
    """

    __slots__ = ("_waiter", "_watcher", "is_on", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_on = False
        self._waiter: Any = Waiter()
        self._watcher: Any = get_hub().loop.io(sock.fileno(), READ)

    def wait(self) -> None:
        """Wait until there are bytes, an end or an error; without a limit of its own."""
        if not self.is_on:
            self.turn_on()
        waiter = self._waiter
        self._watcher.callback = waiter.switch
        try:
            waiter.get()
        finally:
            self._watcher.callback = self._on_readable
            waiter.clear()

    def wait_up_to(self, limit_s: float) -> None:
        """Wait as ``wait`` does. Raises: TimeoutError after *limit_s*."""
        timer: Any = get_hub().loop.timer(limit_s)
        timer.start(self._waiter.throw, TimeoutError)
        try:
            self.wait()
        finally:
            timer.close()

    def turn_on(self) -> None:
        """Start the watcher. Never switches."""
        if not self.is_on:
            self.is_on = True
            self._watcher.start(self._on_readable, None)

    def close(self) -> None:
        """Close the watcher. Never switches."""
        self._watcher.stop()
        self._watcher.close()

    def on_readable(self) -> None:
        """React to bytes, an end or an error for which no greenlet waits. Runs in the hub."""

    def _on_readable(self, _: None) -> None:
        self.is_on = False  # or each iteration of the event loop would call this again
        self._watcher.stop()
        self.on_readable()


def exposed_addresses() -> list[str]:
    """Return the addresses beyond loopback at which this process accepts connections.

    They are found among its open descriptors, so this works in any WSGI server.
    """
    try:
        descriptors = [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    except OSError:
        return []
    return sorted(set(filter(None, map(_exposed_address, descriptors))))


def listening_descriptors() -> list[int]:
    """Return the open descriptors that are listening sockets."""
    try:
        descriptors = [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    except OSError:
        return []
    return [descriptor for descriptor in descriptors if is_listening(descriptor)]


def is_listening(descriptor: int) -> bool:
    """Whether *descriptor* is a listening socket."""
    plain_socket: Any = get_original("socket", "socket")
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with plain_socket(fileno=os.dup(descriptor)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # closed
        return False


def occupy(listeners: Iterable[int]) -> None:
    """Make those of *listeners* that are closed by now pipes that are never readable, for good.

    A greenlet may still poll a socket that was closed under it. Once its number stands for another
    file, libev aborts the program if epoll cannot watch that. gevent closes sockets in its hub,
    after their watchers, and a thread may have the number for a moment: blocks for a few rounds of
    the hub.
    """
    reader, _ = os.pipe()  # the writer stays open, or the reader would be readable
    for number in listeners:
        for _ in range(CLOSING_ROUNDS):
            sleep(0)
            if not is_listening(number) and _takes(number, reader):
                break


def _takes(number: int, reader: int) -> bool:
    """Duplicate *reader* as *number*; return whether that was free. Replaces no open file."""
    taken = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, number)  # the lowest free from there on
    if taken == number:
        return True
    os.close(taken)
    return False


def _exposed_address(descriptor: int) -> str:
    # gevent's class would make the socket non-blocking for all processes that share it.
    plain_socket: Any = get_original("socket", "socket")
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return ""
        with plain_socket(fileno=os.dup(descriptor)) as sock:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return ""
            host, port = sock.getsockname()[:2]
            address = ip_address(host)
    except (OSError, ValueError):  # closed, or a unix socket
        return ""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
