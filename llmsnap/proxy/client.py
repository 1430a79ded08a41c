"""The hot path's HTTP/1.1 client: kept-alive connections, bytes passed on as they arrive.

httptools (llhttp) parses the heads and the framing; the sockets are gevent's. See
docs/adr/0005-upstream-client.md for what was measured.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import gevent
import httptools
from gevent import socket
from msgspec import Struct

from llmsnap.build import as_python_has_it
from llmsnap.errors import ClientGone, Unreachable, UpstreamBroke, UpstreamTimeout
from llmsnap.proxy.parser import Headers, ResponseParser
from llmsnap.proxy.pool import Connection, ConnectionPool, connect, key_of
from llmsnap.sockets import send_all
from llmsnap.upstream.control import Address

Body = bytes | Iterable[bytes]

RECV_BYTES = 65536
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110 9.2.2
FRAMING = frozenset({"content-length", "transfer-encoding"})
RESET_PAUSES_S = (0.0, 0.001, 0.005, 0.02)
REFUSED_UNREAD = frozenset({errno.ECONNRESET, errno.EPIPE})


@dataclass(frozen=True, slots=True)
class Limits:
    """Time-outs of one exchange in seconds; 0 = none."""

    connect_s: float = 5.0
    head_s: float = 0.0
    idle_s: float = 0.0


class Outgoing(Struct):
    """One request to an upstream; *target* is the raw path and query, *headers* without framing."""

    method: str
    target: str
    headers: Headers
    body: Body = b""
    length: int | None = None
    """Length of a *body* given in pieces; None then means chunked."""


def nothing() -> None:
    """Do nothing."""


class Exchange:
    """One request and its answer. ``close()`` gives the connection back, or drops it."""

    __slots__ = (
        "_aborted", "_connection", "_early", "_limits", "_meanwhile", "_parser", "_pool",
        "_till_end", "address", "headers", "is_complete", "reason", "status", "was_sent",
    )  # fmt: skip

    def __init__(self, pool: ConnectionPool, address: Address, limits: Limits) -> None:
        self.address = address
        self._pool = pool
        self._limits = limits
        self._connection: Connection | None = None
        self._parser: ResponseParser | None = None
        self._till_end = False
        self._early = b""
        self._aborted = False
        self._meanwhile: Callable[[], None] = nothing
        self.status = 0
        self.reason = ""
        self.headers: Headers = []
        """Of the answer, in order, names as sent."""
        self.is_complete = False
        """Whether the whole answer has been read."""
        self.was_sent = False
        """Whether anything may have reached the upstream."""

    def send(self, request: Outgoing, meanwhile: Callable[[], None] = nothing) -> None:
        """Send *request* and wait for the head of the answer.

        *meanwhile* is called once the request is on its way: what it does delays nobody.

        A kept connection that turns out closed is replaced once, where the server cannot have
        begun: the method is idempotent, or the request was refused unread (see ``_unread``).
        Raises: Unreachable, UpstreamTimeout; ClientGone after ``abort``.
        """
        self._meanwhile = meanwhile
        head = _head(request, self.address)
        key = key_of(self.address)
        connection = self._pool.take(key)
        if connection is not None:
            try:
                self._attempt(connection, head, request)
            except _Stale as stale:
                resendable = isinstance(request.body, bytes)
                if not (resendable and (stale.unread or request.method in SAFE_METHODS)):
                    raise self._broken(stale) from stale
            else:
                return
        connection = Connection(key, connect(self.address, self._limits.connect_s))
        try:
            self._attempt(connection, head, request)
        except _Stale as stale:
            raise self._broken(stale) from stale

    def read(self) -> bytes:
        """Return the next piece of the body as it arrives; b"" at its end.

        Raises: UpstreamBroke when it ends too early, UpstreamTimeout.
        """
        parser = self._parser
        if parser is None:
            raise UpstreamBroke(f"the exchange with {self.address.netloc} is closed")
        chunks = parser.chunks
        while not chunks:
            if parser.complete:
                self.is_complete = True
                return b""
            self._receive(parser, self._connection or self._open)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        if parser.complete:
            self.is_complete = True
        return data

    def _receive(self, parser: ResponseParser, connection: Connection) -> None:
        """Read more of the body, or note its end."""
        try:
            data = connection.receive(RECV_BYTES)
            if data:
                parser.http.feed_data(data)
                return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._note_bad(parser, error)
            return
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{self.address.netloc} sent nothing for {self._limits.idle_s:g} s"
            ) from error
        except OSError as error:
            raise UpstreamBroke(f"{self.address.netloc} broke off: {error}") from error
        if not self._till_end or self._aborted:
            raise UpstreamBroke(f"{self.address.netloc} ended its answer too early")
        parser.complete = True

    def upgraded(self) -> tuple[socket.socket, bytes]:
        """Return the socket, still the exchange's own, and what came behind the head of a 101."""
        sock = self._open.sock
        sock.settimeout(None)
        return sock, self._early

    def abort(self) -> None:
        """Break off: whoever waits for the upstream is woken with an error. Never switches."""
        self._aborted = True
        if self._connection is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is gone already

    def close(self) -> None:
        """Give the connection back if the answer is complete, else close it. Idempotent."""
        connection, self._connection = self._connection, None
        parser, self._parser = self._parser, None
        if connection is None or parser is None:
            return
        self.is_complete = parser.complete and not parser.chunks
        reusable = parser.complete and not self._till_end and not self._aborted
        if reusable and parser.keep_alive:
            self._pool.give_back(connection)
        else:
            connection.close()

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise UpstreamBroke(f"the exchange with {self.address.netloc} is closed")
        return self._connection

    def _attempt(self, connection: Connection, head: bytes, request: Outgoing) -> None:
        """Send over *connection* and read the head. Raises: _Stale before any byte."""
        parser = connection.parser
        parser.begin()
        self._connection = connection
        try:
            self._check_aborted()
            self.was_sent = True
            connection.set_timeout(self._limits.head_s)
            _send(connection.sock, head, request)
            meanwhile, self._meanwhile = self._meanwhile, nothing
            meanwhile()
            self._read_head(parser, request.method)
        except BaseException:
            self._connection = None
            connection.close()
            raise
        connection.set_timeout(self._limits.idle_s)
        self._parser = parser
        self.status = parser.http.get_status_code()
        self.reason, self.headers = parser.reason, parser.headers
        self.is_complete = parser.complete and not parser.chunks

    def _read_head(self, parser: ResponseParser, method: str) -> None:
        connection = self._open
        began = False
        while not parser.in_body:
            try:
                data = connection.receive(RECV_BYTES)
            except TimeoutError as error:
                raise UpstreamTimeout(
                    f"{self.address.netloc} did not answer within {self._limits.head_s:g} s"
                ) from error
            except OSError as error:
                self._check_aborted()
                raise _Stale(error, unread=not began and _unread(error)) from error
            if not data:
                self._check_aborted()
                ended = OSError(errno.ECONNRESET, "it closed the connection without an answer")
                raise _Stale(ended, unread=not began and _was_reset(connection.sock))
            began = True
            self._feed(parser, data)
        self._till_end = self._till_end or _has_no_length(parser, method)
        if method == "HEAD":
            parser.complete, self._till_end = True, True

    def _feed(self, parser: ResponseParser, data: bytes) -> None:
        try:
            parser.http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            parser.in_body, self._till_end = True, True
            self._early = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._note_bad(parser, error)

    def _note_bad(self, parser: ResponseParser, error: Exception) -> None:
        """Never use this connection again. Raises: UpstreamBroke unless the answer was whole."""
        if not parser.complete:
            raise UpstreamBroke(
                f"{self.address.netloc} does not speak HTTP/1.1: {error}"
            ) from error
        self._till_end = True

    def _check_aborted(self) -> None:
        if self._aborted:
            raise ClientGone("the client left")

    def _broken(self, stale: _Stale) -> Unreachable:
        cause = stale.cause.strerror or str(stale.cause)
        return Unreachable(f"no answer from {self.address.netloc}: {cause}")


@as_python_has_it
class _Stale(Exception):
    """A connection failed before the first byte of an answer."""

    def __init__(self, cause: OSError, *, unread: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.unread = unread


def _head(request: Outgoing, address: Address) -> bytes:
    """The request line and header block, with the framing of the body."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    length = len(request.body) if isinstance(request.body, bytes) else request.length
    if length is None:
        lines.append("Transfer-Encoding: chunked")
    elif length or request.method not in {"GET", "HEAD"}:
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or "\0" in text:
        raise UpstreamBroke(f"a header for {address.netloc} has a line break in it")
    return (text + "\r\n\r\n").encode("latin-1")


def _send(sock: socket.socket, head: bytes, request: Outgoing) -> None:
    """Send head and body; a failure while sending is a stale connection."""
    try:
        if isinstance(request.body, bytes):
            if len(request.body) <= RECV_BYTES:
                send_all(sock, head + request.body)
            else:
                send_all(sock, head)
                send_all(sock, request.body)
            return
        send_all(sock, head)
        chunked = request.length is None
        for piece in request.body:
            send_all(sock, b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)
        if chunked:
            send_all(sock, b"0\r\n\r\n")
    except TimeoutError:
        raise
    except OSError as error:
        raise _Stale(error, unread=_unread(error)) from error


def _unread(error: OSError) -> bool:
    """Whether the system tells that the server had closed before it read the request.

    A socket closed with unread data, or data for a closed socket, is answered by RST; a server
    that dies after it has read everything sends FIN (RFC 9293 3.10.7.4, tcp(7)).
    """
    return error.errno in REFUSED_UNREAD


def _was_reset(sock: socket.socket) -> bool:
    """Whether a RST followed the FIN: what we sent came too late for the server.

    A server that shuts its socket down before it closes it, as cpp-httplib does, sends the RST a
    moment after the FIN. Blocks for that moment; no event tells of a RST alone.
    """
    for pause_s in RESET_PAUSES_S:
        gevent.sleep(pause_s)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in REFUSED_UNREAD:
            return True
    return False


def _has_no_length(parser: ResponseParser, method: str) -> bool:
    """Whether the body ends with the connection (RFC 9112 6.3)."""
    if method == "HEAD" or parser.http.get_status_code() in {204, 304}:
        return False
    return not any(name.lower() in FRAMING for name, _ in parser.headers)
