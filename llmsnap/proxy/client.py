"""The HTTP/1.1 client of the hot path: keep-alive connections, bytes forwarded as they arrive.

httptools (llhttp) parses the heads and the framing; the sockets are gevent's. See
docs/adr/0005-upstream-client.md for what was measured.
"""

from __future__ import annotations

import errno
import re
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httptools
from gevent import select as gevent_select
from gevent import socket
from gevent.monkey import get_original
from gevent.ssl import SSLSocket
from msgspec import Struct

from llmsnap.errors import ClientGone, Unreachable, UpstreamBroke, UpstreamTimeout
from llmsnap.http import Headers
from llmsnap.installation import as_python_has_it
from llmsnap.models import LOOPBACK, Address
from llmsnap.sockets import Readiness, send_all

MAX_HEAD_BYTES = 1 << 18
"""Limit of a response head, interim responses included. Go's client allows 1 MiB, nginx 4 or 8 KiB.
"""
END_OF_HEAD = re.compile(rb"\n\r?\n")
BLANKS = b" \t"


class ResponseParser:
    """Collects what httptools parses of one response after another; one per connection."""

    __slots__ = (
        "_head", "_is_malformed", "chunks", "complete", "early", "has_length", "headers", "http",
        "in_body", "is_chunked", "keep_alive", "on_body", "reason", "switched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        """Chunks of the body that have been received; the reader clears the list."""
        self.on_body = self.chunks.append
        self.http: Any = self._new_parser()
        self.begin()

    def __repr__(self) -> str:
        state = "complete" if self.complete else "in its body" if self.in_body else "begun"
        return f"<ResponseParser {state}>"

    def _new_parser(self) -> Any:
        """Return a parser that accepts what RFC 9112 sections 6.3 and 7.1.1 allow in a response."""
        http = httptools.HttpResponseParser(self)
        http.set_dangerous_leniencies(
            lenient_chunked_length=True, lenient_spaces_after_chunk_size=True
        )
        return http

    def begin(self) -> None:
        """Reset for the next response; the previous one was read to its end."""
        self.reason = ""
        self.headers: Headers = []
        self.chunks.clear()
        self.in_body = False
        self.complete = False
        self.keep_alive = False
        self.has_length = False
        """Whether the head gives the length of the body, or excludes a body."""
        self.is_chunked = False
        self.switched = False
        """Whether another protocol follows the head; *early* holds its bytes that were read."""
        self.early = b""
        self._head = b""
        self._is_malformed = False

    @property
    def has_begun(self) -> bool:
        """Whether part of a head, or an interim response, was read."""
        return bool(self._head)

    def release(self) -> None:
        """Drop the httptools parser, which refers to this object; nothing is parsed after that."""
        self.http = None

    def feed_head(self, data: bytes) -> None:
        """Parse *data*: the start or continuation of a head, perhaps followed by the body.

        Raises: HttpParserError, ValueError.
        """
        self._head += data
        if not self._is_malformed:
            try:
                self._feed(data)
            except httptools.HttpParserError:
                if self.in_body or not self._head.lstrip(b"\r\n").startswith(b"HTTP/1."):
                    raise
                self._is_malformed = True
        if self._is_malformed and not self.in_body:
            self._repair()
        if self.in_body:
            self._head = b""
        elif len(self._head) > MAX_HEAD_BYTES:
            raise ValueError(f"the head of its answer is longer than {MAX_HEAD_BYTES} bytes")

    def _feed(self, data: bytes) -> None:
        try:
            self.http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.in_body = self.switched = True
            self.early = data[upgrade.args[0] :]

    def _repair(self) -> None:
        """Parse the repaired head as soon as it is complete."""
        self._head = self._head.lstrip(b"\r\n")
        while (end := END_OF_HEAD.search(self._head)) is not None:
            head, rest = self._head[: end.start()], self._head[end.end() :]
            self._head = rest.lstrip(b"\r\n")  # another head follows, if that was an interim one
            self.http = self._new_parser()
            self._feed(mended(head))
            if self.switched:
                self.early = rest
                return
            if self.in_body:
                self._feed(rest)
                return

    # --- callbacks of httptools ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Reset the head fields. Raises: ValueError for a response without a request."""
        if self.complete:
            raise ValueError("more than one answer")
        self.reason = ""
        self.headers = []

    def on_status(self, status: bytes) -> None:
        """Store the reason phrase."""
        self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header; one after the body is a trailer, and is dropped."""
        if not self.in_body:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Evaluate the complete head; heads of interim (1xx) responses are ignored.

        Raises: ValueError for a transfer coding other than chunked.
        """
        status = self.http.get_status_code()
        if status < 200:
            return
        self.in_body = True
        self.has_length = status in {204, 304}
        for name, value in self.headers:
            lower = name.lower()
            if lower == "content-length":
                self.has_length = True
            elif lower == "transfer-encoding":
                if value.strip().lower() != "chunked":
                    raise ValueError(f"Transfer-Encoding {value!r} is not supported")
                self.is_chunked = True
        if self.is_chunked and self.has_length:
            # RFC 9112 section 6.3: the length is ignored, and must not be forwarded.
            self._is_malformed = True
            self.has_length = False
            self.headers = [one for one in self.headers if one[0].lower() != "content-length"]

    def on_message_complete(self) -> None:
        """Mark the response as complete. A connection with a malformed response is not reused."""
        self.complete = self.in_body  # interim responses are messages of their own
        self.keep_alive = self.http.should_keep_alive() and not self._is_malformed


def mended(head: bytes) -> bytes:
    """Return *head*, without the blank line at its end, with known defects repaired.

    RFC 9112: lines may end in LF alone (2.2), blanks before the colon are removed (5.1), folded
    lines are joined (5.2). RFC 9110 8.6: repeated, equal values of Content-Length count as one.
    Raises: ValueError for a malformed or ambiguous head.
    """
    status, *lines = (line.removesuffix(b"\r") for line in head.split(b"\n"))
    fields: list[tuple[bytes, bytes]] = []
    length: bytes | None = None
    for line in _unfolded(lines):
        name, colon, value = line.partition(b":")
        name, value = name.rstrip(BLANKS), value.strip(BLANKS)
        if not colon:
            raise ValueError(f"a line of its head has no colon: {line[:80]!r}")
        if name.lower() == b"content-length":
            lengths = {one.strip(BLANKS) for one in value.split(b",")}
            if length is not None:
                lengths.add(length)
            if len(lengths) > 1:
                raise ValueError(f"Content-Length has two values: {_both(lengths)}")
            if length is not None:
                continue
            length = value = lengths.pop()
        if name:
            fields.append((name, value))
    return b"\r\n".join([status, *(b"%b: %b" % field for field in fields), b"", b""])


def _unfolded(lines: list[bytes]) -> list[bytes]:
    whole: list[bytes] = []
    for line in lines:
        if line[:1] not in {b" ", b"\t"}:
            whole.append(line)
        elif whole:
            whole[-1] = whole[-1].rstrip(BLANKS) + b" " + line.strip(BLANKS)
        else:
            raise ValueError("the first header of its head begins with a blank")
    return whole


def _both(lengths: set[bytes]) -> str:
    return " and ".join(sorted(repr(one.decode("latin-1")) for one in lengths))


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


OutgoingBody = bytes | Callable[[], Iterable[bytes]]
"""A body in memory, or a function that returns an iterator over its chunks from the start."""

RECV_BYTES = 65536
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose requests may be repeated (RFC 9110 section 9.2.2)."""
LEAST_S = 0.001
"""A timeout of 0 means none."""
ANSWER_AFTER_RESET_S = 1.0
"""Seconds to wait for a response on a connection that failed while the request was sent."""


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Timeouts of one exchange in seconds; 0 = none."""

    connect_s: float = 5.0
    head_s: float = 0.0
    idle_s: float = 0.0


class UpstreamRequest(Struct):
    """One request to an upstream; *target* is the raw path and query, *headers* without framing."""

    method: str
    target: str
    headers: Headers
    body: OutgoingBody = b""
    length: int | None = None
    """Length of a *body* that is not in memory; None then means chunked."""
    is_resendable: bool = True
    """Whether it may be sent again on a new connection if a reused one closes unanswered."""


NO_REQUEST = UpstreamRequest("", "", [])


def nothing() -> None:
    """Do nothing."""


class Exchange:
    """One request and its response. ``close()`` returns the connection to the pool, or closes it.

    *keeps_chunked*: reuse the connection after a chunked response, too. Local servers may close
    theirs some time after the last chunk without ``Connection: close`` (cpp-httplib does), and the
    next request would fail; a new connection to them costs some 100 us. Peers keep theirs open, and
    a TLS handshake costs milliseconds.
    """

    __slots__ = (
        "_aborted", "_answers_early", "_connection", "_failure", "_head", "_is_cut", "_is_kept",
        "_keeps_chunked", "_limits", "_meanwhile", "_parser", "_pool", "_request", "_reusable",
        "_till_end", "_waited_s", "address", "headers", "is_complete", "reason", "status",
        "was_sent",
    )  # fmt: skip

    def __init__(
        self,
        pool: ConnectionPool,
        address: Address,
        limits: UpstreamTimeouts,
        *,
        keeps_chunked: bool = False,
    ) -> None:
        self.address = address
        self._pool = pool
        self._limits = limits
        self._keeps_chunked = keeps_chunked
        self._connection: UpstreamConnection | None = None
        self._parser: ResponseParser | None = None
        self._request = NO_REQUEST
        self._head = b""
        self._is_kept = False
        self._waited_s = 0.0
        self._till_end = False
        self._reusable = True
        self._aborted = False
        self._answers_early = False
        self._is_cut = False
        self._failure: OSError | None = None
        self._meanwhile: Callable[[], None] = nothing
        self.status = 0
        """Status code; 0 until the head of the response has been read."""
        self.reason = ""
        self.headers: Headers = []
        """Headers of the response, in order, names as sent."""
        self.is_complete = False
        """Whether the whole response has been read."""
        self.was_sent = False
        """Whether the upstream received part of the request, and may still be processing it."""

    def send(
        self,
        request: UpstreamRequest,
        meanwhile: Callable[[], None] = nothing,
        max_wait_s: float = 0.0,
    ) -> bool:
        """Send *request* and wait for the head of the response; return whether it was read.

        The wait is that of ``wait_head``. *meanwhile* is called once the request has been sent,
        while the upstream works.

        A resendable request reuses an idle connection if there is one; if that closes before the
        first byte of a response, the request is sent again on a new one. Other requests always use
        a new connection.
        Raises: Unreachable, UpstreamTimeout, UpstreamBroke; ClientGone after ``abort``.
        """
        self._meanwhile = meanwhile
        self._request, self._head = request, _head(request, self.address)
        kept = self._pool.take(key_of(self.address)) if request.is_resendable else None
        self._is_kept = kept is not None
        self._attempt(kept or self._connect())
        return self.wait_head(max_wait_s)

    def wait_head(self, max_wait_s: float = 0.0) -> bool:
        """Wait for the head of the response, *max_wait_s* at most (0: up to the timeouts alone).

        Returns whether it was read; if not, the wait can be repeated. Raises: as ``send``.
        """
        while True:
            try:
                return self._await_head(max_wait_s)
            except _Unanswered as end:
                if not self._is_kept:
                    cause = end.cause.strerror or str(end.cause)
                    raise Unreachable(f"no answer from {self.address.called}: {cause}") from end
            self._is_kept = self.was_sent = False
            self._attempt(self._connect())

    def _connect(self) -> UpstreamConnection:
        """Return a new connection. Blocks. Raises: Unreachable, UpstreamTimeout."""
        sock = connect(self.address, self._limits.connect_s)
        return UpstreamConnection(key_of(self.address), sock)

    def read(self) -> bytes:
        """Return the next chunk of the body as it arrives; b"" at its end.

        Raises: UpstreamBroke for a truncated body, UpstreamTimeout.
        """
        parser = self._parser
        if parser is None:
            raise UpstreamBroke(f"the exchange with {self.address.called} is closed")
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

    def has_more(self, max_wait_s: float) -> bool:
        """Return whether ``read`` would return or fail without waiting.

        Blocks up to *max_wait_s*; the idle timeout of the exchange still applies.
        """
        parser, connection = self._parser, self._connection
        if parser is None or connection is None or parser.chunks or parser.complete:
            return True
        if 0 < self._limits.idle_s <= self._waited_s + max_wait_s:
            return True
        self._waited_s += max_wait_s
        return connection.wait_for_input(max_wait_s)

    def _receive(self, parser: ResponseParser, connection: UpstreamConnection) -> None:
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
                f"{self.address.called} sent nothing for {self._limits.idle_s:g} s"
            ) from error
        except OSError as error:
            # A server that closes without having read the request resets the connection (tcp(7)).
            if not (self._is_cut and self._till_end and error.errno == errno.ECONNRESET):
                raise UpstreamBroke(f"{self.address.called} broke off: {error}") from error
        if not self._till_end or self._aborted:
            raise UpstreamBroke(f"{self.address.called} ended its answer too early")
        parser.complete = True

    def upgraded(self) -> tuple[socket.socket, bytes]:
        """Return the socket, still owned by the exchange, and the bytes after the head of a 101."""
        connection = self._open
        connection.sock.settimeout(None)
        return connection.sock, connection.parser.early

    def abort(self) -> None:
        """Abort: a greenlet that waits for the upstream gets an error. Never switches."""
        self._aborted = True
        if self._connection is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is gone already

    def close(self) -> None:
        """Return the connection to the pool if it is reusable, else close it. Idempotent."""
        parser, self._parser = self._parser, None
        if parser is None:
            self._drop()
            return
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self.is_complete = parser.complete and not parser.chunks
        if parser.complete and self._is_reusable(parser):
            self._pool.give_back(connection)
        else:
            connection.close()

    def _is_reusable(self, parser: ResponseParser) -> bool:
        if self._till_end or self._is_cut or self._aborted or not self._reusable:
            return False
        return parser.keep_alive and (parser.has_length or self._keeps_chunked)

    @property
    def _open(self) -> UpstreamConnection:
        if self._connection is None:
            raise UpstreamBroke(f"the exchange with {self.address.called} is closed")
        return self._connection

    def _attempt(self, connection: UpstreamConnection) -> None:
        """Send the request over *connection*, which this exchange owns from now on."""
        request = self._request
        connection.parser.begin()
        self._connection = connection
        self._waited_s = 0.0
        try:
            self._check_aborted()
            self.was_sent = True
            connection.set_timeout(self._limits.head_s)
            self._failure = None
            self._is_cut = self._answers_early = False
            body = request.body
            if isinstance(body, bytes) and len(body) <= RECV_BYTES:
                self._push(connection, self._head + body)
            else:
                self._send_in_pieces(connection, request)
            meanwhile, self._meanwhile = self._meanwhile, nothing
            meanwhile()
        except BaseException:
            self._drop()
            raise

    def _await_head(self, max_wait_s: float) -> bool:
        """Return whether the head arrived within *max_wait_s*, and evaluate it.

        Raises: _Unanswered when the connection closes before any byte of a response.
        """
        connection = self._open
        limit_s = self._limits.head_s if self._failure is None else ANSWER_AFTER_RESET_S
        left_s = max(limit_s - self._waited_s, LEAST_S) if limit_s else 0.0
        may_go_on = max_wait_s > 0 and (not limit_s or left_s > max_wait_s)
        connection.set_timeout(max_wait_s if may_go_on else left_s)
        try:
            self._read_head(connection, self._request.method)
        except TimeoutError as error:
            if may_go_on:
                self._waited_s += max_wait_s
                return False
            self._drop()
            raise self._silence() from error
        except BaseException:
            self._drop()
            raise
        connection.set_timeout(self._limits.idle_s)
        self._request, self._head = NO_REQUEST, b""
        self._waited_s = 0.0
        parser = self._parser = connection.parser
        self.status = parser.http.get_status_code()
        self.reason, self.headers = parser.reason, parser.headers
        self.is_complete = parser.complete and not parser.chunks
        return True

    def _silence(self) -> Exception:
        """Return the error for a head that did not arrive in time."""
        if self._failure is not None:
            return _Unanswered(self._failure)
        return UpstreamTimeout(
            f"{self.address.called} did not answer within {self._limits.head_s:g} s"
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- the request ---------------------------------------------------------------------------

    def _send_in_pieces(self, connection: UpstreamConnection, request: UpstreamRequest) -> None:
        """Send head and body, until the upstream stops reading."""
        if self._push(connection, self._head):
            for piece in _framed(request.body, request.length):
                if not self._push_piece(connection, piece):
                    return

    def _push(self, connection: UpstreamConnection, data: bytes) -> bool:
        """Send *data*; return whether more may follow."""
        try:
            send_all(connection.sock, data)
        except TimeoutError as error:
            raise self._no_progress() from error
        except OSError as error:
            self._fail(error)
        return not self._is_cut

    def _push_piece(self, connection: UpstreamConnection, data: bytes) -> bool:
        """Send *data* unless the upstream answers meanwhile; return whether more may follow.

        An upstream may refuse a large body before it has read it, and then neither read on nor
        close (RFC 9112 section 9.5), so input is polled while there is more to send.
        """
        rest = memoryview(data)
        try:
            while rest and not self._is_cut:
                if not self._answers_early and connection.has_input():
                    self._read_early(connection)
                elif sent := connection.try_send(rest):
                    rest = rest[sent:]
                else:
                    connection.wait_to_send(or_input=not self._answers_early)
        except TimeoutError as error:
            raise self._no_progress() from error
        except OSError as error:
            self._fail(error)
        return not self._is_cut

    def _read_early(self, connection: UpstreamConnection) -> None:
        """Read input that arrives while the request is sent; a final response ends sending."""
        data = connection.try_receive(RECV_BYTES)
        if data is None:
            return
        if not data:
            raise _ended()
        parser = connection.parser
        self._feed(parser, data)
        self._answers_early = parser.in_body
        if parser.in_body:
            self._is_cut = parser.complete or parser.http.get_status_code() >= 300

    def _fail(self, error: OSError) -> None:
        self._is_cut = True
        self._failure = error

    def _no_progress(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"{self.address.called} took nothing of the request for {self._limits.head_s:g} s"
        )

    # --- the head of the response --------------------------------------------------------------

    def _read_head(self, connection: UpstreamConnection, method: str) -> None:
        parser = connection.parser
        while not parser.in_body:
            try:
                data = connection.receive(RECV_BYTES)
                if not data:
                    raise _ended()
            except TimeoutError:
                raise
            except OSError as error:
                self._check_aborted()
                if parser.has_begun:
                    raise UpstreamBroke(
                        f"{self.address.called} broke off in the head of its answer: {error}"
                    ) from error
                raise _Unanswered(self._failure or error) from error
            self._feed(parser, data)
        self._till_end = parser.switched or not (parser.has_length or parser.is_chunked)
        if method == "HEAD":
            parser.complete, self._till_end = True, True

    def _feed(self, parser: ResponseParser, data: bytes) -> None:
        try:
            parser.feed_head(data)
        except (httptools.HttpParserError, ValueError) as error:
            self._note_bad(parser, error)

    def _note_bad(self, parser: ResponseParser, error: Exception) -> None:
        """Exclude the connection from reuse. Raises: UpstreamBroke for an incomplete response."""
        if not parser.complete:
            why = error.__context__ or error  # of a callback here, or httptools' own
            raise UpstreamBroke(f"{self.address.called} does not speak HTTP/1.1: {why}") from error
        self._reusable = False

    def _check_aborted(self) -> None:
        if self._aborted:
            raise ClientGone("the client left")


@as_python_has_it
class _Unanswered(Exception):
    """A connection closed before the first byte of a response."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _ended() -> OSError:
    return OSError(errno.ECONNRESET, "it closed the connection without an answer")


def _head(request: UpstreamRequest, address: Address) -> bytes:
    """Return the request line and header block, with the framing of the body."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    length = len(request.body) if isinstance(request.body, bytes) else request.length
    if length is None:
        lines.append("Transfer-Encoding: chunked")
    elif length or request.method not in {"GET", "HEAD"}:
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or "\0" in text:
        raise UpstreamBroke(f"a header for {address.called} has a line break in it")
    return (text + "\r\n\r\n").encode("latin-1")


def _framed(body: OutgoingBody, length: int | None) -> Iterator[bytes]:
    """Yield *body* as it is sent: unchanged, or with chunked framing where *length* is None."""
    if isinstance(body, bytes):
        yield body
        return
    for piece in body():
        if length is not None:
            yield piece
        elif piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    if length is None:
        yield b"0\r\n\r\n"
