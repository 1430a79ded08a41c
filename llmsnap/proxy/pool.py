"""Connections to upstreams: opened, kept alive between exchanges, and lent out.

The sockets are gevent's; a connection waits by a watcher that it keeps (``sockets.Readiness``),
since gevent's own waits create one each time.
"""

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

PoolKey = tuple[str, int, bool]
IDLE_LIMIT_S = 4.0
"""Idle connections are dropped before servers drop them (uvicorn and cpp-httplib: after 5 s)."""
MAX_IDLE = 256
BUSY_BYTES = 2048
"""After a chunk of this size more data has probably arrived already: recv comes before a wait."""
UNDER_WAY = frozenset({0, errno.EINPROGRESS})
_new_poll = get_original("select", "poll")  # gevent's would switch


class UpstreamConnection:
    """A socket to an upstream, the parser of its answers, and when it was last used."""

    __slots__ = (
        "_is_calm", "_poll", "_readiness", "_timeout_s", "key", "parser", "sock", "used_at",
        "was_used",
    )  # fmt: skip

    def __init__(self, key: PoolKey, sock: socket.socket) -> None:
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
        return f"<UpstreamConnection to {self.key[0]}:{self.key[1]}>"

    def set_timeout(self, limit_s: float) -> None:
        """Set the timeout of each wait for the peer to *limit_s* seconds; 0: none."""
        if limit_s != self._timeout_s:
            self._timeout_s = limit_s
            self.sock.settimeout(limit_s or None)

    def receive(self, size: int) -> bytes:
        """Return up to *size* bytes, b"" at the end of the stream. Blocks.

        Raises: OSError, TimeoutError after the timeout of ``set_timeout``.
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
        """Wait up to *limit_s* seconds for data or end of file; return whether either arrived."""
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
        """Whether data or end of file can be read. Never switches."""
        if self._poll is None:
            self._poll = _new_poll()
            self._poll.register(self.sock.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def is_fresh(self, now: float) -> bool:
        """Whether it can be reused: idle for a short time and not closed by the peer. No switch."""
        # No request is outstanding, so readable means closed.
        return now - self.used_at <= IDLE_LIMIT_S and not self.has_input()

    def try_send(self, data: memoryview) -> int:
        """Send what fits into the socket's buffer, and return the number of bytes. Never switches.

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
        """Return the bytes that have arrived, b"" at the end, None without any. Never switches.

        Raises: OSError. A readable TLS connection may hold a TLS message without data: None.
        """
        self.sock.settimeout(0.0)
        try:
            return bytes(self.sock.recv(size))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        finally:
            self.sock.settimeout(max(self._timeout_s, 0.0) or None)

    def wait_to_send(self, *, or_input: bool) -> None:
        """Wait until the socket is writable, or, with *or_input*, readable. Blocks.

        Raises: TimeoutError after the timeout of ``set_timeout``.
        """
        poll = gevent_select.poll()  # select() refuses descriptors from 1024 on
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
        self._idle: dict[PoolKey, deque[UpstreamConnection]] = {}

    def __repr__(self) -> str:
        return f"<ConnectionPool {sum(map(len, self._idle.values()))} idle>"

    def take(self, key: PoolKey) -> UpstreamConnection | None:
        """Return an idle connection that can be reused. Never switches."""
        idle = self._idle.get(key)
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.is_fresh(now):
                return connection
            connection.close()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep *connection* for the next exchange. Never switches."""
        connection.was_used = True
        connection.used_at = time.monotonic()
        idle = self._idle.setdefault(connection.key, deque())
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle.popleft().close()

    def forget(self, address: Address) -> None:
        """Close idle connections to an upstream that has ended. Never switches."""
        for connection in self._idle.pop(key_of(address), ()):
            connection.close()

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


def key_of(address: Address) -> PoolKey:
    """Return the pool key of connections to *address*."""
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

    gevent resolves even a numeric address in a thread, and waits for a handshake that a connect to
    the same machine has completed on return: that takes five times as long.
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
    """Whether the TCP handshake of *sock* has succeeded. Never switches."""
    poll = _new_poll()
    poll.register(sock.fileno(), select.POLLOUT)
    return bool(poll.poll(0) == [(sock.fileno(), select.POLLOUT)])


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
