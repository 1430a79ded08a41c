"""Kept-alive connections to upstreams: lent out, given back, dropped when stale."""

from __future__ import annotations

import errno
import select
import ssl
import time
from collections import deque
from functools import cache
from typing import Any

from gevent import select as gevent_select
from gevent import socket
from gevent.monkey import get_original
from gevent.ssl import SSLSocket

from llmsnap.errors import Unreachable, UpstreamTimeout
from llmsnap.models import LOOPBACK, Address
from llmsnap.proxy.parser import ResponseParser
from llmsnap.sockets import Readiness

Key = tuple[str, int, bool]
IDLE_LIMIT_S = 4.0
"""Idle connections are dropped before servers drop them (uvicorn and cpp-httplib: after 5 s)."""
MAX_IDLE = 256
BUSY_BYTES = 2048
"""After a piece of this size more is likely to be there already: it is not waited for first."""
UNDER_WAY = frozenset({0, errno.EINPROGRESS})
_new_poll = get_original("select", "poll")  # gevent's would switch


class Connection:
    """A socket to an upstream, the parser of its answers, and when it was last used."""

    __slots__ = (
        "_is_calm", "_poll", "_readiness", "_timeout_s", "key", "parser", "sock", "used_at",
        "was_used",
    )  # fmt: skip

    def __init__(self, key: Key, sock: socket.socket) -> None:
        self.key = key
        self.sock = sock
        self.parser = ResponseParser()
        self.was_used = False
        self.used_at = 0.0
        self._poll: Any = None
        self._readiness = None if isinstance(sock, SSLSocket) else Readiness(sock)
        self._timeout_s = -1.0
        self._is_calm = True

    def __repr__(self) -> str:
        return f"<Connection to {self.key[0]}:{self.key[1]}>"

    def set_timeout(self, limit_s: float) -> None:
        """Have each wait for the peer end after *limit_s*; 0: never."""
        if limit_s != self._timeout_s:
            self._timeout_s = limit_s
            self.sock.settimeout(limit_s or None)

    def receive(self, size: int) -> bytes:
        """Return what comes next, *size* bytes at most, b"" at the end. Blocks.

        Raises: OSError, TimeoutError after the limit that was set.
        """
        if self._is_calm and self._readiness is not None:
            if self._timeout_s > 0:
                self._readiness.wait_up_to(self._timeout_s)
            else:
                self._readiness.wait()
        data = self.sock.recv(size)
        self._is_calm = len(data) < BUSY_BYTES
        return data

    def wait_for_input(self, limit_s: float) -> bool:
        """Wait until there is something to read, or an end; return whether it came in *limit_s*."""
        if self._readiness is None:
            secure: Any = self.sock
            if secure.pending():
                return True
            poll = gevent_select.poll()
            poll.register(self.sock.fileno(), select.POLLIN)
            return bool(poll.poll(limit_s * 1000))
        try:
            self._readiness.wait_up_to(limit_s)
        except TimeoutError:
            return False
        return True

    def has_input(self) -> bool:
        """Whether there is something to read, or an end. Never switches."""
        if self._poll is None:
            self._poll = _new_poll()
            self._poll.register(self.sock.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def is_fresh(self, now: float) -> bool:
        """Whether it may be used again: recent, and not closed by the other side. No switch."""
        # Nothing was asked, so whatever can be read is an end.
        return now - self.used_at <= IDLE_LIMIT_S and not self.has_input()

    def try_send(self, data: memoryview) -> int:
        """Send what the system takes of *data* now, and return how much. Never switches.

        Raises: OSError.
        """
        self.sock.settimeout(0.0)
        try:
            return int(self.sock.send(data))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        finally:
            self.sock.settimeout(max(self._timeout_s, 0.0) or None)

    def try_receive(self, size: int) -> bytes | None:
        """Return what has come, b"" at the end, None for nothing. Never switches. Raises: OSError.

        What can be read of a TLS connection may be a message of TLS itself.
        """
        self.sock.settimeout(0.0)
        try:
            return bytes(self.sock.recv(size))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        finally:
            self.sock.settimeout(max(self._timeout_s, 0.0) or None)

    def wait_to_send(self, *, or_input: bool) -> None:
        """Wait until more can be sent, or, with *or_input*, read. Blocks.

        Raises: TimeoutError after the limit that was set.
        """
        poll = gevent_select.poll()  # takes any descriptor; select() refuses those from 1024 on
        poll.register(self.sock.fileno(), select.POLLOUT | (select.POLLIN if or_input else 0))
        if not poll.poll(self._timeout_s * 1000 if self._timeout_s > 0 else None):
            raise TimeoutError

    def close(self) -> None:
        """Close the socket. Once only."""
        if self._readiness is not None:
            self._readiness.close()
        self.sock.close()
        self.parser.release()


class ConnectionPool:
    """Keeps connections to upstreams alive and lends them out."""

    def __init__(self) -> None:
        self._idle: dict[Key, deque[Connection]] = {}

    def __repr__(self) -> str:
        return f"<ConnectionPool {sum(map(len, self._idle.values()))} idle>"

    def take(self, key: Key) -> Connection | None:
        """Return an idle connection that is still good. Never switches."""
        idle = self._idle.get(key)
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.is_fresh(now):
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep *connection* for the next exchange. Never switches."""
        connection.was_used = True
        connection.used_at = time.monotonic()
        idle = self._idle.setdefault(connection.key, deque())
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle.popleft().close()

    def forget(self, address: Address) -> None:
        """Close idle connections to an upstream that has gone. Never switches."""
        for connection in self._idle.pop(key_of(address), ()):
            connection.close()

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


def key_of(address: Address) -> Key:
    """Return what connections to *address* are kept under."""
    return address.ip, address.port, address.scheme == "https"


def connect(address: Address, limit_s: float) -> socket.socket:
    """Return a new connection to *address*. Blocks up to *limit_s* (0 = no limit).

    Raises: Unreachable, UpstreamTimeout.
    """
    hosts = LOOPBACK if address.ip == "localhost" else (address.ip,)
    failure: OSError | None = None
    for host in hosts:
        try:
            sock = _dial(host, address.port, limit_s or None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.scheme == "https":
                return _tls().wrap_socket(sock, server_hostname=address.host)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"cannot connect to {address.called} within {limit_s:g} s"
            ) from error
        except OSError as error:
            failure = error
        else:
            return sock
    reason = failure and (failure.strerror or str(failure))
    raise Unreachable(f"cannot connect to {address.called}: {reason}") from failure


def _dial(host: str, port: int, limit_s: float | None) -> socket.socket:
    """Return a socket that is connected to *host*. Blocks. Raises: OSError, TimeoutError.

    gevent asks a thread what an address means, and waits for a handshake that is over when the
    system returns from it, as it is on this machine: five times as long as this takes.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.inet_pton(family, host)
    except OSError:
        return socket.create_connection((host, port), timeout=limit_s)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        begun = sock.connect_ex((host, port)) in UNDER_WAY
        sock.settimeout(limit_s)
        if not (begun and _is_connected(sock)):
            sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Whether the handshake of *sock* is over, and well. Never switches."""
    poll = _new_poll()
    poll.register(sock.fileno(), select.POLLOUT)
    return bool(poll.poll(0) == [(sock.fileno(), select.POLLOUT)])


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
