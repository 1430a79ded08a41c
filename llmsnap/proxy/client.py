"""The HTTP/1.1 client of the hot path: bytes are forwarded as they arrive.

An exchange sends one request over a connection (``pool``) and reads the response, which ``parser``
parses. See docs/adr/0005-upstream-client.md for what was measured.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gevent import socket
from msgspec import Struct

from llmsnap.errors import ClientGone, Unreachable, UpstreamBroke, UpstreamTimeout
from llmsnap.http import Headers
from llmsnap.installation import as_python_has_it
from llmsnap.models import Address
from llmsnap.proxy.parser import MALFORMED, ResponseParser
from llmsnap.proxy.pool import ConnectionPool, UpstreamConnection, connect, key_of
from llmsnap.sockets import send_all

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
        except MALFORMED as error:
            self._note_bad(parser, error)
            return
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{self.address.called} sent nothing for {self._limits.idle_s:g} s"
            ) from error
        except OSError as error:
            # A server that closes without having read the request resets the connection (tcp(7)).
            if not (self._is_cut and self._till_end and error.errno == errno.ECONNRESET):
                why = error.strerror or error
                raise UpstreamBroke(f"{self.address.called} broke off: {why}") from error
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
                    why = error.strerror or error
                    raise UpstreamBroke(
                        f"{self.address.called} broke off in the head of its answer: {why}"
                    ) from error
                raise _Unanswered(self._failure or error) from error
            self._feed(parser, data)
        self._till_end = parser.switched or not (parser.has_length or parser.is_chunked)
        if method == "HEAD":
            parser.complete, self._till_end = True, True

    def _feed(self, parser: ResponseParser, data: bytes) -> None:
        try:
            parser.feed_head(data)
        except MALFORMED as error:
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
