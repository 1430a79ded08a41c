"""Our own server: gevent's pywsgi on one listener, from bind to the last signal."""

from __future__ import annotations

import errno
import logging
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from llmsnap.errors import LlmsnapError
from llmsnap.options import Options
from llmsnap.service import Service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

BACKLOG = 1024
MAX_CONNECTIONS = 10_000
JOIN_BYTES = 65536
"""Head and first piece of an answer go out in one send up to this size."""
CLOSE_S = 1.0
"""How long open connections get to finish what they send, after the drain."""
SOCKET = "llmsnap.socket"


class Handler(WSGIHandler):
    """pywsgi's handler, which also tells the application its client's socket."""

    # What pywsgi has, and its stubs do not tell as it is.
    status: Any
    response_headers: Any
    _sendall: Callable[[bytes | bytearray], None]
    _write: Callable[[bytes], None]
    _send_error_response_if_possible: Callable[[int], None]

    def get_environ(self) -> dict[str, Any]:
        """Return the WSGI environ, with the socket and the raw target of the request."""
        environ: dict[str, Any] = super().get_environ()
        environ[SOCKET] = self.socket
        environ["RAW_URI"] = self.path
        return environ

    def log_request(self) -> None:
        """Write nothing: the gateway writes the access log."""

    def log_error(self, msg: str, *args: object) -> None:
        """Write what pywsgi finds wrong with a request to our log."""
        log.info(msg, *args)

    def _write_with_headers(self, data: bytes) -> None:
        """Send the head and the first piece together: one packet, one system call."""
        self.headers_sent = True
        self.finalize_headers()
        head = bytearray(b"HTTP/1.1 " + self.status + b"\r\n")
        for name, value in self.response_headers:
            head += name + b": " + value + b"\r\n"
        head += b"\r\n"
        if len(data) > JOIN_BYTES:  # copying would cost more than a second call
            self._sendall(head)
            self._write(data)
            return
        if data and self.response_use_chunked:
            head += b"%x\r\n%b\r\n" % (len(data), data)
        else:
            head += data
        self._sendall(head)

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Close quietly where we meant to; else log the bug, and say 500 if still possible."""
        if isinstance(v, LlmsnapError):
            self.close_connection = True
            return
        log.error("request failed", exc_info=(t, v, tb))
        self.close_connection = True
        self._send_error_response_if_possible(500)


class Server(WSGIServer):
    """The listener. A shortage of descriptors is logged once, and survived."""

    handler_class = Handler

    def __init__(self, listener: socket.socket, application: WSGIApplication, **tls: Any) -> None:
        super().__init__(listener, application, log=None, spawn=Pool(MAX_CONNECTIONS), **tls)
        self._short_of_files = False

    def do_read(self) -> Any:
        """Accept one connection."""
        try:
            accepted = super().do_read()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            if not self._short_of_files:
                self._short_of_files = True
                log.exception("out of file descriptors: new connections wait until others end")
            raise BlockingIOError(errno.EAGAIN, "out of file descriptors") from error
        return accepted

    def drain(self, limit_s: float) -> None:
        """Stop accepting, give open connections *limit_s*, close the rest. Blocks."""
        self.stop(timeout=limit_s)


def bind(listen: str) -> socket.socket:
    """Return a listening socket for ``host:port``, ``:port`` or ``unix:/path``. Raises: OSError."""
    if listen.startswith("unix:"):
        return _bind_unix(listen.removeprefix("unix:"))
    host, port = split_host_port(listen)
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_ipv6) else socket.AF_INET
    try:
        return _bind_tcp(family, host, port)
    except OSError:
        if host or family == socket.AF_INET:
            raise
        return _bind_tcp(socket.AF_INET, host, port)  # a kernel without IPv6


def split_host_port(listen: str) -> tuple[str, int]:
    """Return host and port of a listen address. Raises: ValueError."""
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address to listen on: {listen!r}; use host:port or :port")
    return host.strip("[]"), int(port)


def _bind_tcp(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it. Without, an answer on a kept connection waits for a delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6 and not host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):  # noqa: PTH110 - of an earlier run
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with probe:
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, f"{path} is in use by a running server")
        os.unlink(path)  # noqa: PTH108
    sock.bind(path)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def serve(
    options: Options, service: Service, application: WSGIApplication, say: Callable[[str], None]
) -> int:
    """Bind, serve until a signal, shut down from outside in; return the exit code. Blocks.

    Raises: OSError when the address cannot be bound.
    """
    listen = options.listen or (":8443" if options.tls else ":8080")
    listener = bind(listen)
    tls = {"ssl_context": _tls_context(options)} if options.tls else {}
    server = Server(listener, application, **tls)
    with _signals(service.kill) as asked:
        service.open()
        server.start()
        say(f"llmsnap listening on {_url(options, listener)}")
        asked.wait()
        shut_down(server, service, options.drain_timeout)
    return 0


def shut_down(server: Server, service: Service, drain_timeout_s: float) -> None:
    """Stop accepting, drain, stop all models, close what is left of the connections. Blocks."""
    server.stop_accepting()
    server.close()
    service.close(drain_timeout_s)
    server.drain(CLOSE_S)


@contextmanager
def _signals(kill_models: Callable[[], None]) -> Iterator[Event]:
    """Yield the event a first SIGINT or SIGTERM sets; a second one kills all at once."""
    asked = Event()

    def on_signal(name: str) -> None:
        if asked.is_set():
            log.warning("second %s: killing all models", name)
            kill_models()
            os._exit(1)
        log.info("%s: shutting down", name)
        asked.set()

    handlers = [
        gevent.signal_handler(number, on_signal, signal.Signals(number).name)
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        yield asked
    finally:
        for handler in handlers:
            handler.cancel()


def _tls_context(options: Options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert_file, options.tls_key_file)
    return context


def _url(options: Options, listener: socket.socket) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http{'s' if options.tls else ''}://{host}:{name[1]}"
