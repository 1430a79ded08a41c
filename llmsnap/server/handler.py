"""One connection: its requests one after another, until one side has enough."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from gevent import socket
from gevent.ssl import SSLError, SSLSocket

from llmsnap.errors import BadHead, LlmsnapError
from llmsnap.http.errors import answer, status_line
from llmsnap.proxy import ClientWatch
from llmsnap.server.attention import Attention
from llmsnap.server.body import Body, SocketBody
from llmsnap.server.connections import Connections
from llmsnap.server.head import Head, parse
from llmsnap.server.reader import Reader, shut
from llmsnap.server.response import Response
from llmsnap.server.turnstile import Turnstile

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

SOCKET = "llmsnap.socket"
WATCH = "llmsnap.watch"
"""In environ: the ``ClientWatch`` of this connection, where there is one."""
TAKE_OVER = "llmsnap.take_over"
"""In environ: a function that leaves the connection to the application; see ``take_over``."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https, not http.\n"
DISCARD_BYTES = 256 * 1024
"""What is read of a body that nobody wanted, so that the connection can go on."""
LINGER_S = 5.0
"""How long a client that got its last answer may send nothing, until the connection is closed."""
MAPPED = "::ffff:"
GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT})


class Host(Protocol):
    """The server, as far as its connections need it."""

    application: WSGIApplication
    environ: dict[str, Any]
    connections: Connections
    watch: ClientWatch
    """Watches clients whose connections cannot do that themselves."""
    turnstile: Turnstile
    """Lets streams that have something to pass on go before requests that begin."""
    wrap: Callable[[socket.socket], SSLSocket] | None
    """Begins TLS on a socket; None: plain HTTP."""

    @property
    def ends_connections(self) -> bool:
        """Whether no connection may outlive its answer."""


class Handler(Response):
    """Reads and checks heads, and has the application answer them."""

    def __init__(self, sock: socket.socket, address: Any, server: Any) -> None:
        super().__init__(sock)
        self._host: Host = server
        self._reader = Reader(sock, server.connections.bodies)
        self._body = Body(self._reader, 0)
        self._begun = self._late = self._lingers = self._taken = False
        self._attention: Attention | None = None
        self._remote = "unix"
        self._environ = {
            **server.environ,
            "wsgi.input_terminated": True,
            TAKE_OVER: self.take_over,
        }
        if isinstance(address, tuple):
            self._remote = str(address[0]).removeprefix(MAPPED)
            self._environ |= {"REMOTE_ADDR": self._remote, "REMOTE_PORT": str(address[1])}

    def __repr__(self) -> str:
        return f"<Handler {self._remote}, {self.command} {self.path}>"

    def handle(self) -> None:
        """Serve the connection until it ends. Blocks."""
        connections = self._host.connections
        connections.heads.start(self)
        try:
            if self._shake_hands():
                self._pay_attention()
                while self._serve():
                    connections.idle.start(self)
                    if self._attention is not None:  # the client has only just been answered
                        self._reader.wait = self._attention.wait
        finally:
            connections.heads.stop(self)
            connections.idle.stop(self)
            self._end()

    def hang_up(self) -> None:
        """See connections.Connection."""
        self._late = True
        shut(self.socket)

    def take_over(self) -> bytes:
        """Leave the connection to the application; return what has been received already.

        Nothing is sent or read here any more, and when the application returns the socket closes.
        """
        self._taken = self.close_connection = True
        return self._reader.ahead()

    # --- one request ---------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Serve the next request; return whether there may be another. Blocks."""
        try:
            head = self._next_head()
        except BadHead as error:
            self._refuse(error)
            return False
        if head is None:
            return False
        self._host.connections.idle.stop(self)
        self._host.connections.heads.stop(self)
        self._begin(head)
        self._host.turnstile.pass_through()
        self.handle_one_response()
        return not self.close_connection and self._skip_body()

    def _next_head(self) -> Head | None:
        """Return the next head, None when the client has left. Blocks. Raises: BadHead."""
        self._begun = False
        try:
            raw = self._reader.head(self._on_begun)
        except (EOFError, OSError) as error:
            if self._late and self._begun:
                raise BadHead("the head of the request took too long", 408) from error
            return None
        return parse(raw) if raw else None

    def _on_begun(self) -> None:
        self._begun = True
        self._host.connections.idle.stop(self)
        self._host.connections.heads.start(self)

    def _begin(self, head: Head) -> None:
        """Take *head* as what is answered next."""
        self.command, self.path, self.request_version = head.method, head.target, head.version
        self.close_connection = not head.keep_alive
        invite = self._invite if head.expects_continue else None
        if "HTTP_UPGRADE" in head.fields:
            self._body = SocketBody(self._reader, head.length, invite, self.socket)
        else:
            self._body = Body(self._reader, head.length, invite)
        self.application = self._host.application
        self.environ = {
            **self._environ,
            **head.environ,
            "wsgi.input": self._body,
            SOCKET: self.socket,
        }

    def _invite(self) -> None:
        self.socket.sendall(CONTINUE)

    def handle_one_response(self) -> None:
        """Run the application, and send what it answers. Blocks."""
        self.begin()
        try:
            self.run_application()
        except OSError as error:
            self.close_connection = True
            if not (isinstance(error, SSLError) or error.errno in GONE):
                self.handle_error(*sys.exc_info())
        except Exception:  # noqa: BLE001 - handle_error logs it, and says so to the client
            self.handle_error(*sys.exc_info())
        else:
            self._lingers = not self._body.done or self._reader.waiting > 0
        finally:
            self.environ.clear()  # Flask and the call refer to it from within: a circle

    def must_close(self) -> bool:
        """See Response; also where too much of a body is left that nobody wanted."""
        body = self._body
        return (
            self.close_connection
            or self._host.ends_connections
            or body.broken
            or not body.is_within(DISCARD_BYTES)
            or (body.may_not_come and not body.done)
        )

    def write(self, data: bytes) -> None:
        """See Response; says nothing on a connection that was taken over."""
        if not self._taken:
            super().write(data)

    def _skip_body(self) -> bool:
        """Read what is left of the body; return whether the next head can be found. Blocks."""
        if self._body.done:
            return True
        self._host.connections.heads.start(self)
        try:
            self._body.read()
        except LlmsnapError:
            return False
        self._host.connections.heads.stop(self)
        return self._body.done

    # --- what goes wrong -----------------------------------------------------------------------

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Log a bug, and say 500 where that is still possible."""
        self.close_connection = True
        log.error("request failed", exc_info=(t, v, tb))
        if not self.headers_sent and not self._taken:
            self._refuse(LlmsnapError("internal error; the log says more"))

    def _refuse(self, error: LlmsnapError) -> None:
        """Answer with *error*, and have the connection end."""
        log.info("%s: %s", self._remote, error)
        status, headers, body = answer(error)
        lines = [f"HTTP/1.1 {status_line(status)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        with suppress(OSError):
            self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            self._lingers = True

    # --- beginning and end ---------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        """Begin TLS, where it is spoken; return whether the client can speak it too. Blocks."""
        if self._host.wrap is None:
            return True
        try:
            self.socket = self._host.wrap(self.socket)
            self._reader = Reader(self.socket, self._host.connections.bodies)
            self.socket.do_handshake()
        except OSError as error:
            log.debug("%s: no TLS: %s", self._remote, error)
            if isinstance(error, SSLError) and error.reason == "HTTP_REQUEST":
                with suppress(OSError):
                    socket.socket.send(self.socket, NOT_TLS)
            return False
        self._host.connections.heads.start(self)
        return True

    def _pay_attention(self) -> None:
        """Watch the connection, unless TLS reads ahead of us."""
        if not isinstance(self.socket, SSLSocket):
            watch = Attention(self.socket, self._reader, self._host.watch)
            self._attention = self._environ[WATCH] = watch

    def _end(self) -> None:
        """Close the socket; first hear a client out that may still be sending. Blocks."""
        sock = self.socket
        self._environ.clear()  # it refers to us: a circle
        if self._attention is not None:
            self._attention.close()
        try:
            with suppress(OSError, ValueError):
                if self._taken:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                elif self._lingers:
                    self._hear_out()
                if isinstance(sock, SSLSocket):
                    sock.settimeout(0)
                    sock.unwrap()  # says good-bye, and does not wait for the echo
        finally:
            sock.close()

    def _hear_out(self) -> None:
        """Read and drop what comes: closing now would reset, and our answer be lost with it."""
        sock = self.socket
        if not isinstance(sock, SSLSocket):
            sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LINGER_S)
        lingering = self._host.connections.lingering
        lingering.start(self)
        try:
            while sock.recv(65536):
                pass
        finally:
            lingering.stop(self)
