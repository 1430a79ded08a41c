"""Reports that a client has closed its socket while its request waits for something else.

Linux: one separate epoll instance, for EPOLLRDHUP only, so that a pipelined next request never
wakes it; the hub watches that one descriptor. Elsewhere each socket is watched for reading, and
read with MSG_PEEK. A client that has closed its sending side counts as disconnected, as in nginx.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent.monkey import get_original

OnDisconnect = Callable[[], None]
"""Called in the hub: must not switch greenlets."""

READ = 1  # gevent's flag for a watcher that waits for reading


class ClientWatch(Protocol):
    """Watches client sockets; one per process."""

    def add(self, fd: int, on_disconnect: OnDisconnect) -> None:
        """Call *on_disconnect* once, when the peer of socket *fd* closes. Never switches."""

    def remove(self, fd: int) -> None:
        """Stop watching *fd*; harmless when it is not watched. Never switches."""

    def close(self) -> None:
        """Stop watching all."""


class EpollWatch:
    """Watches through epoll: two system calls per request, none per byte."""

    def __init__(self) -> None:
        self._epoll: Any = None
        self._watcher: Any = None
        self._on_disconnect: dict[int, OnDisconnect] = {}

    def __repr__(self) -> str:
        return f"<EpollWatch {len(self._on_disconnect)} clients>"

    def add(self, fd: int, on_disconnect: OnDisconnect) -> None:
        """See ClientWatch."""
        if self._epoll is None:
            self._open()
        self._on_disconnect[fd] = on_disconnect
        self._epoll.register(fd, select.EPOLLRDHUP)

    def remove(self, fd: int) -> None:
        """See ClientWatch."""
        if self._on_disconnect.pop(fd, None) is None:
            return
        try:
            self._epoll.unregister(fd)
        except OSError:
            return  # closed already, and with that unregistered

    def close(self) -> None:
        """See ClientWatch."""
        if self._epoll is not None:
            self._watcher.stop()
            self._watcher.close()
            self._epoll.close()
            self._epoll = None
            self._on_disconnect.clear()

    def _open(self) -> None:
        self._epoll = get_original("select", "epoll")()
        # ref=False: watching alone does not keep the program alive
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), READ, ref=False)
        self._watcher.start(self._look)

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0):
            on_disconnect = self._on_disconnect.get(fd)
            self.remove(fd)
            if on_disconnect is not None:
                on_disconnect()


class PeekWatch:
    """Watches without epoll. A client that sends more while it waits is no longer watched."""

    def __init__(self) -> None:
        self._watchers: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<PeekWatch {len(self._watchers)} clients>"

    def add(self, fd: int, on_disconnect: OnDisconnect) -> None:
        """See ClientWatch."""
        watcher = gevent.get_hub().loop.io(fd, READ, ref=False)
        self._watchers[fd] = watcher
        watcher.start(self._look, fd, on_disconnect)

    def remove(self, fd: int) -> None:
        """See ClientWatch."""
        watcher = self._watchers.pop(fd, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        """See ClientWatch."""
        for fd in list(self._watchers):
            self.remove(fd)

    def _look(self, fd: int, on_disconnect: OnDisconnect) -> None:
        self.remove(fd)
        if is_closed(fd):
            on_disconnect()


def is_closed(fd: int) -> bool:
    """Whether the peer of *fd*, which is readable, has closed. Never switches."""
    with socket.socket(fileno=socket.dup(fd)) as copy:
        copy.settimeout(0)
        try:
            return not copy.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


def new_watch() -> ClientWatch:
    """Return the best watch this system has."""
    try:
        get_original("select", "epoll")
    except AttributeError:
        return PeekWatch()
    return EpollWatch()


class ClientMonitor:
    """Watches one client from ``open`` to ``close``; with *fd* -1 it does nothing."""

    __slots__ = ("_fd", "_on_disconnect", "_watch", "gone")

    def __init__(self, watch: ClientWatch | None, fd: int = -1) -> None:
        self.gone = False
        self._watch = watch
        self._fd = fd
        self._on_disconnect: OnDisconnect | None = None

    def __repr__(self) -> str:
        return f"<ClientMonitor fd {self._fd}{' gone' if self.gone else ''}>"

    def open(self, on_disconnect: OnDisconnect) -> None:
        """Call *on_disconnect*, in the hub, when the client disconnects. Never switches."""
        if self._watch is not None and self._fd >= 0:
            self._on_disconnect = on_disconnect
            self._watch.add(self._fd, self._note)

    def close(self) -> None:
        """Stop watching. Never switches."""
        if self._on_disconnect is not None and self._watch is not None:
            self._on_disconnect = None
            self._watch.remove(self._fd)

    def _note(self) -> None:
        self.gone = True
        if self._on_disconnect is not None:
            self._on_disconnect()
