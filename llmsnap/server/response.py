"""How an answer goes out: its head, its framing, and what is left out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from gevent import socket

from llmsnap.sockets import send_all

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication

LAST_CHUNK = b"0\r\n\r\n"
JOIN_BYTES = 65536
"""Head and first piece of an answer go out in one send up to this size."""

_date = (0, "")


def http_date() -> str:
    """Return the time of day as a Date header has it."""
    global _date  # noqa: PLW0603 - one clock
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


class Response:
    """The answers on one connection: a head that is written once, framing that clients rely on.

    A subclass takes requests in, and says in ``must_close`` whether an answer is the connection's
    last. pywsgi's own handler is not behind it: the compiler of the hot path and Python do not
    agree how the instances of such a class lie in memory (docs/adr/0011).
    """

    application: WSGIApplication
    environ: dict[str, Any]

    def __init__(self, sock: socket.socket) -> None:
        self.socket: Any = sock
        self.command = self.path = ""
        self.request_version = "HTTP/1.1"
        self.close_connection = False
        self.begin()

    def begin(self) -> None:
        """Forget the answer before."""
        self.status = ""
        self.code = 0
        self.result: Any = None
        self.headers_sent = self.response_use_chunked = self._bodiless = False
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
        """Take status and headers. Raises: ValueError for what would break the head apart."""
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
            self._obey_connection(headers)
        return self.write

    def _obey_connection(self, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            if name.lower() == "connection" and value.lower() == "close":
                self.close_connection = True
        self._lines[1:] = [line for line in self._lines[1:] if line[:11].lower() != "connection:"]

    def _write_with_headers(self, data: bytes) -> None:
        """Send the head and the first piece together: one packet, one system call."""
        self.headers_sent = True
        self._frame()
        head = "\r\n".join(self._lines).encode("latin-1") + b"\r\n\r\n"
        if self._bodiless or not data:
            send_all(self.socket, head)
        elif len(data) > JOIN_BYTES:  # copying would cost more than a second call
            send_all(self.socket, head)
            self._write(data)
        elif self.response_use_chunked:
            send_all(self.socket, b"%b%x\r\n%b\r\n" % (head, len(data), data))
        else:
            send_all(self.socket, head + data)

    def _frame(self) -> None:
        """Add the headers that only the server knows (RFC 9112 sections 6.3 and 9.6)."""
        lines, names, code = self._lines, self._names, self.code
        if "date" not in names:
            lines.append(f"Date: {http_date()}")
        self._bodiless = self.command == "HEAD" or code in {204, 304} or code < 200
        if "content-length" not in names and not self._bodiless:
            if isinstance(self.result, (list, tuple)):
                lines.append(f"Content-Length: {sum(map(len, self.result))}")
            elif self.request_version == "HTTP/1.1":
                self.response_use_chunked = True
                lines.append("Transfer-Encoding: chunked")
            else:
                self.close_connection = True  # nothing else tells where the body ends
        if self.must_close():
            self.close_connection = True
            lines.append("Connection: close")
        elif self.request_version == "HTTP/1.0":
            lines.append("Connection: keep-alive")

    def write(self, data: bytes) -> None:
        """Send a piece of the body; the callable of ``start_response``."""
        if not self.headers_sent:
            self._write_with_headers(data)
        elif not self._bodiless:
            self._write(data)

    def run_application(self) -> None:
        """Have the application answer, send that, and close it however it ended. Blocks."""
        try:
            self.result = self.application(self.environ, self.start_response)
            self.process_result()
        finally:
            result, self.result = self.result, None
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def process_result(self) -> None:
        """Send what the application returned. Blocks while the client does not read."""
        for data in self.result or ():
            if data:
                if self.headers_sent and self.response_use_chunked:
                    send_all(self.socket, b"%x\r\n%b\r\n" % (len(data), data))
                else:
                    self.write(data)
        if self.status and not self.headers_sent:
            self.write(b"")
        if self.response_use_chunked:
            send_all(self.socket, LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        if self.response_use_chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        send_all(self.socket, data)
