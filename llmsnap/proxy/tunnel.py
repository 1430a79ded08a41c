"""WebSockets: once an upstream has accepted the upgrade, bytes pass both ways, unparsed.

The upgrade itself is an ordinary request with two more headers, and its refusal an ordinary
response. No other protocol is accepted: an h2c tunnel, for instance, would carry further requests
past every check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import socket
from gevent.ssl import SSLSocket

from llmsnap.http import Headers, response_headers
from llmsnap.proxy.request import Request, Response
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

PIECE_BYTES = 65536
HALF_OPEN_S = 5.0
"""Seconds for which one side may continue after the other has ended: servers answer the last
message."""
KEEPALIVE_S = 60
PROTOCOL = "websocket"


class Upgraded(Protocol):
    """An exchange with an upstream that answered 101."""

    @property
    def status(self) -> int:
        """Status code of the response: 101."""

    @property
    def reason(self) -> str:
        """Reason phrase of the response."""

    @property
    def headers(self) -> Headers:
        """Headers of the response."""

    def upgraded(self) -> tuple[Any, bytes]:
        """Return the socket, which the exchange still owns, and the bytes after the head."""

    def close(self) -> None:
        """Close the socket."""


def is_wanted(request: Request) -> bool:
    """Whether *request* requests a WebSocket, over a connection that can become one."""
    return (
        request.method == "GET"
        and request.environ.get("HTTP_UPGRADE", "").lower() == PROTOCOL
        and "upgrade" in request.environ.get("HTTP_CONNECTION", "").lower()
        and request.length == 0
        and request.protocol == "HTTP/1.1"
        and request.socket is not None
    )


def answer(request: Request, exchange: Upgraded, on_end: Callable[[], None]) -> Response:
    """Return the response whose body is the tunnel between *request*'s client and *exchange*."""
    headers = response_headers(exchange.headers)
    headers += [("Connection", "Upgrade"), ("Upgrade", PROTOCOL)]
    return Response(exchange.status, exchange.reason, headers, Tunnel(request, exchange, on_end))


class Tunnel:
    """Carries bytes between a client and an upstream until either ends.

    It buffers one chunk per direction, and reads the next when that has been sent. *on_end* is
    called once, at the end; it releases the lease.
    """

    def __init__(self, request: Request, exchange: Upgraded, on_end: Callable[[], None]) -> None:
        self.sent = 0
        """Bytes to the client, after the head."""
        self.received = 0
        """Bytes from the client."""
        self._client = request.socket
        self._exchange = exchange
        self._upstream, self._early = exchange.upgraded()
        self._on_end = on_end
        self._tasks = TaskGroup(f"tunnel {request.id}")
        self._monitor = request.monitor
        self._body_share = request.body_share
        self._ahead: list[bytes] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<{self._tasks.owner}, {self.received} bytes up, {self.sent} down>"

    def run(self, headers: Headers, ahead: bytes) -> None:
        """Send the head with *headers*, then carry bytes; the client's first are *ahead*. Blocks.

        Both sockets are shut down afterwards.
        """
        self._run(self._head(headers), [ahead] if ahead else [])

    def resume(self, ahead: list[bytes]) -> None:
        """As ``run``, with the head sent already; *ahead* is emptied as it is sent. Blocks."""
        self._run(b"", ahead)

    def _run(self, head: bytes, ahead: list[bytes]) -> None:
        self._ahead = ahead
        self._monitor.close()  # a client that ends its side may still listen
        try:
            for sock in (self._client, self._upstream):
                notice_lost_peer(sock)
            if head:
                self._client.sendall(head)
            self._carry(ahead)
        except OSError as error:
            log.debug("%r: %s", self, error)
        finally:
            self.cut()
            self._tasks.close()
            self.close()

    def cut(self) -> None:
        """End the tunnel at once; callable from any greenlet. Never switches."""
        for sock in (self._client, self._upstream):
            shut_down(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Release everything; the first call wins. Never switches."""
        if not self._closed:
            self._closed = True
            self._exchange.close()
            self._on_end()

    def _head(self, headers: Headers) -> bytes:
        lines = [f"HTTP/1.1 {self._exchange.status} {self._exchange.reason}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _carry(self, ahead: list[bytes]) -> None:
        """Carry both ways; after one has ended, the other gets HALF_OPEN_S."""
        early = [self._early] if self._early else []
        ways = [
            self._tasks.spawn(
                "up", self._pump, self._client, self._upstream, ahead, self._count_up
            ),
            self._tasks.spawn(
                "down", self._pump, self._upstream, self._client, early, self._count_down
            ),
        ]
        gevent.wait(ways, count=1)
        gevent.joinall(ways, timeout=HALF_OPEN_S)

    def _pump(
        self, source: Any, sink: Any, first: list[bytes], count: Callable[[int], None]
    ) -> None:
        """Carry one way, the chunks in *first* ahead, until *source* ends; then end *sink*'s side.

        A failure ends both ways.
        """
        try:
            while piece := first.pop(0) if first else source.recv(PIECE_BYTES):
                sink.sendall(piece)
                count(len(piece))
        except OSError:
            self.cut()
            return
        if isinstance(sink, SSLSocket):
            self.cut()  # TLS cannot close one direction only
        else:
            shut_down(sink, socket.SHUT_WR)

    def _count_up(self, size: int) -> None:
        self.received += size
        if not self._ahead:
            self._body_share.close()  # the first message, which it counted, has been sent

    def _count_down(self, size: int) -> None:
        self.sent += size


def notice_lost_peer(sock: Any) -> None:
    """Enable TCP keepalive, which detects a lost peer of an idle connection."""
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):  # macOS has another name for it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)


def shut_down(sock: Any, how: int) -> None:
    """Shut *sock* down; harmless where it has ended already. Never switches."""
    try:
        # Not the method of an SSLSocket, which discards the session under a concurrent read.
        socket.socket.shutdown(sock, how)
    except OSError:
        return  # it has ended already
