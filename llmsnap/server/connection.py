"""One client connection: reads requests, runs the application, writes its responses.

``ConnectionReader`` reads bytes from the socket, ``DisconnectWatcher`` detects that the client has
disconnected, ``ResponseWriter`` frames the application's response, and ``ConnectionHandler`` serves
one request after the other with them, until one side ends the connection.
"""

from __future__ import annotations

import errno
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from gevent import get_hub, socket
from gevent.ssl import SSLError, SSLSocket

from llmsnap.errors import BadHead, BodyTimeout, LlmsnapError
from llmsnap.http import HEADER_FIELDS, error_answer, status_line
from llmsnap.proxy import ClientWatch, OnDisconnect, is_closed
from llmsnap.server.deadlines import Deadline, Deadlines, StartThrottle
from llmsnap.server.http1 import (
    END_OF_HEAD,
    RequestBody,
    RequestHead,
    UpgradeBody,
    check_incomplete_head,
    parse_head,
)
from llmsnap.sockets import Readiness, send_all

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

SOCKET = "llmsnap.socket"
WATCH = "llmsnap.watch"
"""In environ: the ``ClientWatch`` of this connection; absent over TLS."""
TAKE_OVER = "llmsnap.take_over"
"""In environ: a function that leaves the connection to the application; see ``take_over``."""

RECV_BYTES = 65536
LAST_CHUNK = b"0\r\n\r\n"
JOIN_BYTES = 65536
"""Head and first chunk of a response are sent together up to this size."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https, not http.\n"
DISCARD_BYTES = 256 * 1024
"""Bytes read of a body that the application did not read, to keep the connection."""
LINGER_S = 5.0
"""Seconds of silence after which a client that has its last response is closed."""
MAPPED_IPV4 = "::ffff:"
CLIENT_GONE = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT}
)

_date = (0, "")

# --- input -------------------------------------------------------------------------------------


class ConnectionReader:
    """Reads heads and bodies from one socket, in the order in which they were sent.

    Bytes that arrive together with a head are kept for the next read: of the body, of the next head
    of a client that pipelines, or of a tunnel. *bodies* limits the wait for each piece of a body.
    """

    __slots__ = ("_bodies", "_data", "_is_late", "_position", "_sock", "is_reading", "wait")

    def __init__(self, sock: Any, bodies: Deadline | None = None) -> None:
        self._sock = sock
        self._bodies = bodies
        self._is_late = False
        self.is_reading = False
        """Whether a greenlet waits for a piece of a body."""
        self.wait: Callable[[], None] | None = None
        """Waits until the socket is readable; set where a recv would probably fail at first."""
        self._data = b""
        self._position = 0

    def __repr__(self) -> str:
        return f"<ConnectionReader, {self.buffered} bytes buffered>"

    @property
    def buffered(self) -> int:
        """How many bytes have been received and not been read."""
        return len(self._data) - self._position

    def read_head(self, on_begun: Callable[[], None]) -> bytes:
        """Return the next head with its empty line; b"" when the client ends before its first byte.

        *on_begun* is called when the head does not arrive in one piece. Blocks. Raises: BadHead,
        OSError; EOFError when the client ends in the middle.
        """
        data = self.take_buffered()
        if not data:
            if self.wait is not None:
                self.wait()
            data = self._sock.recv(RECV_BYTES)
        end = data.find(END_OF_HEAD)
        if end > 0 and data[0] != 13:
            end += 4
            if end < len(data):
                self._data, self._position = data, end
                return data[:end]
            return data
        return self._rest_of_head(data, on_begun) if data else b""

    def read_some(self, limit: int) -> bytes:
        """Return 1 to *limit* bytes, b"" at the end. Blocks. Raises: OSError, BodyTimeout."""
        at, data = self._position, self._data
        if at == len(data):
            return self._recv_body(min(limit, RECV_BYTES))
        end = min(at + limit, len(data))
        if end == len(data):
            self._data, self._position = b"", 0
        else:
            self._position = end
        return data[at:end]

    def read_line(self, limit: int) -> bytes:
        """Return the next line without its CRLF, of *limit* bytes at most. Blocks.

        Raises: ValueError when it is longer, EOFError, OSError, BodyTimeout.
        """
        while (end := self._data.find(b"\r\n", self._position)) < 0 and self.buffered <= limit + 1:
            more = self._recv_body(RECV_BYTES)
            if not more:
                raise EOFError
            self._data = self._data[self._position :] + more
            self._position = 0
        if end < 0 or end - self._position > limit:
            raise ValueError("line too long")
        line = self._data[self._position : end]
        self._position = end + 2
        return line

    def take_buffered(self) -> bytes:
        """Return all bytes that have been received and not been read. Never switches."""
        data = self._data[self._position :]
        self._data, self._position = b"", 0
        return data

    def hang_up(self) -> None:
        """End the wait for a piece of a body with BodyTimeout; see deadlines.WaitingConnection."""
        self._is_late = True
        shut_down_reading(self._sock)

    def _recv_body(self, size: int) -> bytes:
        """Receive up to *size* bytes of a body within its deadline."""
        self.is_reading = True
        if self._bodies is not None:
            self._bodies.start(self)
        try:
            data: bytes = self._sock.recv(size)
        except OSError:
            if not self._is_late:
                raise
            data = b""
        finally:
            self.is_reading = False
            if self._bodies is not None:
                self._bodies.stop(self)
        if self._is_late and not data:
            raise BodyTimeout("the body of the request did not go on in time")
        return data

    def _rest_of_head(self, data: bytes, on_begun: Callable[[], None]) -> bytes:
        """Receive until a head is complete. One empty line before it is accepted (RFC 9112 2.2)."""
        received = bytearray(data)
        begun, checked, may_be_empty = False, 0, True
        while True:
            if may_be_empty and len(received) > 1:
                may_be_empty = False
                if received.startswith(b"\r\n"):
                    del received[:2]
            end = received.find(END_OF_HEAD, checked)
            if end >= 0:
                self._data, self._position = bytes(received[end + 4 :]), 0
                return bytes(received[: end + 4])
            if not begun and received.strip(b"\r\n"):
                begun = True
                on_begun()
            check_incomplete_head(received, checked)
            checked = max(0, len(received) - 3)
            more = self._sock.recv(RECV_BYTES)
            if not more:
                if begun:
                    raise EOFError
                return b""
            received += more


def shut_down_reading(sock: Any) -> None:
    """End any recv of *sock* as if the client had closed. Never switches."""
    with suppress(OSError):  # the client has closed before
        # Not the method of an SSLSocket, which would throw its session away.
        socket.socket.shutdown(sock, socket.SHUT_RD)


class DisconnectWatcher(Readiness):
    """The readiness of a client's socket, and its ``ClientWatch``: one watcher serves both.

    While a request is served, a readable socket means that the client has closed, or has sent part
    of its next request. In the second case the *fallback* watches for the end behind it. While
    *reader* waits for a piece of a body, its recv is what notices the end.
    """

    __slots__ = ("_fallback", "_on_disconnect", "_reader")

    def __init__(
        self, sock: socket.socket, reader: ConnectionReader, fallback: ClientWatch
    ) -> None:
        super().__init__(sock)
        self._reader = reader
        self._fallback = fallback
        self._on_disconnect: OnDisconnect | None = None

    def add(self, fd: int, on_disconnect: OnDisconnect) -> None:
        """See ClientWatch."""
        del fd
        self._on_disconnect = on_disconnect
        self.turn_on()

    def remove(self, fd: int) -> None:
        """See ClientWatch."""
        self._on_disconnect = None
        if not self.is_on:
            self._fallback.remove(fd)

    def close(self) -> None:
        """See Readiness."""
        super().close()
        self._reader.wait = None  # it refers to this watcher: a reference cycle

    def on_readable(self) -> None:
        """See Readiness."""
        on_disconnect, fd = self._on_disconnect, self.sock.fileno()
        if on_disconnect is None:
            return
        if self._reader.is_reading:
            get_hub().loop.run_callback(self._watch_again)
        elif is_closed(fd):
            on_disconnect()
        else:
            self._fallback.add(fd, on_disconnect)

    def _watch_again(self) -> None:
        if self._on_disconnect is not None:
            self.turn_on()


# --- output ------------------------------------------------------------------------------------


def http_date() -> str:
    """Return the current time as a Date header has it."""
    global _date  # noqa: PLW0603 - formatted once a second
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


class ResponseWriter:
    """Runs the application and writes its answer: status line, headers, framing, body.

    A subclass reads the requests, and says in ``must_close`` whether an answer is the connection's
    last. It is no subclass of pywsgi's handler: the instances of a compiled class that derives from
    a Python class are laid out in another way than Python expects (docs/adr/0011).
    """

    application: WSGIApplication
    environ: dict[str, Any]

    def __init__(self, sock: socket.socket) -> None:
        self.socket: Any = sock
        self.command = self.path = ""
        self.request_version = "HTTP/1.1"
        self.close_connection = False
        self.reset()

    def reset(self) -> None:
        """Discard the state of the previous answer."""
        self.status = ""
        self.code = 0
        self.result: Any = None
        self.headers_sent = self.is_chunked = self._is_bodiless = False
        self._lines: list[str] = []
        self._names: set[str] = set()

    def must_close(self) -> bool:
        """Return whether the connection ends with this answer."""
        return self.close_connection

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Take status and headers. Raises: ValueError for a line break in one of them."""
        if exc_info is not None and exc_info[1] is not None and self.headers_sent:
            raise exc_info[1]
        lines = [f"HTTP/1.1 {status}"]
        lines += [f"{name}: {value}" for name, value in headers]
        text = "\r\n".join(lines)
        breaks = len(headers)
        if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
            raise ValueError("a header of the answer has a line break in it")
        text.encode("latin-1")
        self.status = status
        self.code = int(status[:3])
        self._lines = lines
        self._names = {name.lower() for name, _ in headers}
        if "connection" in self._names:
            self._apply_connection(headers)
        return self.write

    def _apply_connection(self, headers: list[tuple[str, str]]) -> None:
        """Apply the application's Connection headers; ``_frame`` writes them."""
        for name, value in headers:
            if name.lower() == "connection" and value.lower() == "close":
                self.close_connection = True
        self._lines[1:] = [line for line in self._lines[1:] if line[:11].lower() != "connection:"]

    def _write_with_headers(self, data: bytes) -> None:
        """Send the head and the first piece together: one packet, one system call."""
        self.headers_sent = True
        self._frame()
        head = "\r\n".join(self._lines).encode("latin-1") + b"\r\n\r\n"
        if self._is_bodiless or not data:
            send_all(self.socket, head)
        elif len(data) > JOIN_BYTES:  # copying would cost more than a second call
            send_all(self.socket, head)
            self._write(data)
        elif self.is_chunked:
            send_all(self.socket, b"%b%x\r\n%b\r\n" % (head, len(data), data))
        else:
            send_all(self.socket, head + data)

    def _frame(self) -> None:
        """Add Date, and the headers that frame the answer (RFC 9112 sections 6.3 and 9.6)."""
        lines, names, code = self._lines, self._names, self.code
        if "date" not in names:
            lines.append(f"Date: {http_date()}")
        self._is_bodiless = self.command == "HEAD" or code in {204, 304} or code < 200
        if "content-length" not in names and not self._is_bodiless:
            if isinstance(self.result, (list, tuple)):
                lines.append(f"Content-Length: {sum(map(len, self.result))}")
            elif self.request_version == "HTTP/1.1":
                self.is_chunked = True
                lines.append("Transfer-Encoding: chunked")
            else:
                self.close_connection = True  # only the end of the connection ends the body
        if self.must_close():
            self.close_connection = True
            lines.append("Connection: close")
        elif self.request_version == "HTTP/1.0":
            lines.append("Connection: keep-alive")

    def write(self, data: bytes) -> None:
        """Send a piece of the body; the callable that ``start_response`` returns."""
        if not self.headers_sent:
            self._write_with_headers(data)
        elif not self._is_bodiless:
            self._write(data)

    def run_application(self) -> None:
        """Call the application, send its result, and close that in any case. Blocks."""
        try:
            self.result = self.application(self.environ, self.start_response)
            self.send_result()
        finally:
            result, self.result = self.result, None
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def send_result(self) -> None:
        """Send the application's result. Blocks while the client does not read."""
        for data in self.result or ():
            if data:
                if self.headers_sent and self.is_chunked:
                    send_all(self.socket, b"%x\r\n%b\r\n" % (len(data), data))
                else:
                    self.write(data)
        if self.status and not self.headers_sent:
            self.write(b"")
        if self.is_chunked:
            send_all(self.socket, LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        if self.is_chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        send_all(self.socket, data)


# --- the connection ----------------------------------------------------------------------------


class ServerContext(Protocol):
    """What a connection uses of its server."""

    application: WSGIApplication
    environ: dict[str, Any]
    deadlines: Deadlines
    watch: ClientWatch
    """Watches clients whose own watcher cannot."""
    throttle: StartThrottle
    wrap: Callable[[socket.socket], SSLSocket] | None
    """Wraps a socket in TLS; None: plain HTTP."""

    @property
    def ends_connections(self) -> bool:
        """Whether each connection ends with its next answer."""


class ConnectionHandler(ResponseWriter):
    """Serves one connection: parses its heads, and lets the application answer them."""

    def __init__(self, sock: socket.socket, address: Any, server: Any) -> None:
        super().__init__(sock)
        self._server: ServerContext = server
        self._reader = ConnectionReader(sock, server.deadlines.bodies)
        self._body = RequestBody(self._reader, 0)
        self._head_begun = self._is_late = self._must_linger = self._is_taken_over = False
        self._watcher: DisconnectWatcher | None = None
        self._remote = "unix"
        self._environ = {
            **server.environ,
            "wsgi.input_terminated": True,
            TAKE_OVER: self.take_over,
        }
        if isinstance(address, tuple):
            self._remote = str(address[0]).removeprefix(MAPPED_IPV4)
            self._environ |= {"REMOTE_ADDR": self._remote, "REMOTE_PORT": str(address[1])}

    def __repr__(self) -> str:
        return f"<ConnectionHandler {self._remote}, {self.command} {self.path}>"

    def handle(self) -> None:
        """Serve the connection until it ends. Blocks."""
        deadlines = self._server.deadlines
        deadlines.heads.start(self)
        try:
            if self._tls_handshake():
                self._watch_client()
                while self._serve_request():
                    deadlines.idle.start(self)
                    if self._watcher is not None:  # the next request has probably not arrived yet
                        self._reader.wait = self._watcher.wait
        finally:
            deadlines.heads.stop(self)
            deadlines.idle.stop(self)
            self._close()

    def hang_up(self) -> None:
        """See deadlines.WaitingConnection."""
        self._is_late = True
        shut_down_reading(self.socket)

    def take_over(self) -> bytes:
        """Leave the connection to the application; return the bytes received and not yet read.

        The server sends and reads nothing any more, and closes the socket when the application
        returns.
        """
        self._is_taken_over = self.close_connection = True
        return self._reader.take_buffered()

    # --- one request ---------------------------------------------------------------------------

    def _serve_request(self) -> bool:
        """Serve the next request; return whether another may follow. Blocks."""
        try:
            head = self._next_head()
        except BadHead as error:
            self._refuse(error)
            return False
        if head is None:
            return False
        self._server.deadlines.idle.stop(self)
        self._server.deadlines.heads.stop(self)
        self._begin(head)
        self._server.throttle.wait_turn()
        self._respond()
        return not self.close_connection and self._skip_body()

    def _next_head(self) -> RequestHead | None:
        """Return the next head, None if the client has disconnected. Blocks. Raises: BadHead."""
        self._head_begun = False
        try:
            raw = self._reader.read_head(self._on_head_begun)
        except (EOFError, OSError) as error:
            if self._is_late and self._head_begun:
                raise BadHead("the head of the request took too long", 408) from error
            return None
        return parse_head(raw) if raw else None

    def _on_head_begun(self) -> None:
        self._head_begun = True
        self._server.deadlines.idle.stop(self)
        self._server.deadlines.heads.start(self)

    def _begin(self, head: RequestHead) -> None:
        """Set up body and environ of the request with *head*."""
        self.command, self.path, self.request_version = head.method, head.target, head.version
        self.close_connection = not head.keep_alive
        send_continue = self._send_continue if head.expects_continue else None
        if "HTTP_UPGRADE" in head.fields:
            self._body = UpgradeBody(self._reader, head.length, send_continue, self.socket)
        else:
            self._body = RequestBody(self._reader, head.length, send_continue)
        self.application = self._server.application
        self.environ = {
            **self._environ,
            **head.fields,
            "REQUEST_METHOD": head.method,
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "SERVER_PROTOCOL": head.version,
            "RAW_URI": head.target,
            HEADER_FIELDS: head.fields,
            "wsgi.input": self._body,
            SOCKET: self.socket,
        }

    def _send_continue(self) -> None:
        self.socket.sendall(CONTINUE)

    def _respond(self) -> None:
        """Run the application and send its answer, whatever it raises. Blocks."""
        self.reset()
        try:
            self.run_application()
        except OSError as error:
            self.close_connection = True
            if not (isinstance(error, SSLError) or error.errno in CLIENT_GONE):
                self._handle_error(*sys.exc_info())
        except Exception:  # noqa: BLE001 - logged and answered there
            self._handle_error(*sys.exc_info())
        else:
            self._must_linger = not self._body.is_complete or self._reader.buffered > 0
        finally:
            self.environ.clear()  # Flask and the call refer to it from within: a cycle

    def must_close(self) -> bool:
        """See ResponseWriter; also where an unread body is too large to be skipped."""
        body = self._body
        return (
            self.close_connection
            or self._server.ends_connections
            or body.is_broken
            or not body.fits(DISCARD_BYTES)
            or (body.awaits_continue and not body.is_complete)
        )

    def write(self, data: bytes) -> None:
        """See ResponseWriter; sends nothing on a connection that was taken over."""
        if not self._is_taken_over:
            super().write(data)

    def _skip_body(self) -> bool:
        """Read the rest of the body; return whether the next head follows. Blocks."""
        if self._body.is_complete:
            return True
        self._server.deadlines.heads.start(self)
        try:
            self._body.read()
        except LlmsnapError:
            return False
        self._server.deadlines.heads.stop(self)
        return self._body.is_complete

    # --- errors --------------------------------------------------------------------------------

    def _handle_error(self, kind: Any, error: Any, traceback: Any) -> None:
        """Log an error of the application; answer 500 if no head was sent."""
        self.close_connection = True
        log.error("request failed", exc_info=(kind, error, traceback))
        if not self.headers_sent and not self._is_taken_over:
            self._refuse(LlmsnapError("internal error; the log says more"))

    def _refuse(self, error: LlmsnapError) -> None:
        """Answer with *error* as the last answer of the connection."""
        log.info("%s: %s", self._remote, error)
        status, headers, body = error_answer(error)
        lines = [f"HTTP/1.1 {status_line(status)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        with suppress(OSError):
            self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            self._must_linger = True

    # --- begin and end -------------------------------------------------------------------------

    def _tls_handshake(self) -> bool:
        """Do the handshake where the server has TLS; return whether it succeeded. Blocks."""
        if self._server.wrap is None:
            return True
        try:
            self.socket = self._server.wrap(self.socket)
            self._reader = ConnectionReader(self.socket, self._server.deadlines.bodies)
            self.socket.do_handshake()
        except OSError as error:
            log.debug("%s: TLS handshake failed: %s", self._remote, error)
            if isinstance(error, SSLError) and error.reason == "HTTP_REQUEST":
                with suppress(OSError):
                    socket.socket.send(self.socket, NOT_TLS)
            return False
        self._server.deadlines.heads.start(self)
        return True

    def _watch_client(self) -> None:
        """Create the watcher; not over TLS, whose library may have read ahead."""
        if not isinstance(self.socket, SSLSocket):
            watcher = DisconnectWatcher(self.socket, self._reader, self._server.watch)
            self._watcher = self._environ[WATCH] = watcher

    def _close(self) -> None:
        """Close the socket, after lingering where the client may still be sending. Blocks."""
        sock = self.socket
        self._environ.clear()  # it refers to this handler: a cycle
        if self._watcher is not None:
            self._watcher.close()
        try:
            with suppress(OSError, ValueError):
                if self._is_taken_over:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                elif self._must_linger:
                    self._lingering_close()
                if isinstance(sock, SSLSocket):
                    sock.settimeout(0)
                    sock.unwrap()  # sends close_notify, and does not wait for the client's
        finally:
            sock.close()

    def _lingering_close(self) -> None:
        """Read and discard until the client ends. Blocks.

        Closing before would reset the connection, and the client could lose the answer.
        """
        sock = self.socket
        if not isinstance(sock, SSLSocket):
            sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LINGER_S)
        lingering = self._server.deadlines.lingering
        lingering.start(self)
        try:
            while sock.recv(65536):
                pass
        finally:
            lingering.stop(self)
