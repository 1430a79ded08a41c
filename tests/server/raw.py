"""A client that sends exactly the given bytes, and reads answers by their framing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import socket

from llmsnap.errors import LlmsnapError
from llmsnap.http import errors


@dataclass
class Answer:
    status: int
    version: str
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = True
    interim: list[int] = field(default_factory=list)


class RawClient:
    def __init__(self, address: Any, sock: socket.socket | None = None) -> None:
        if sock is None:
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(20)
            try:
                sock.connect(address)
            except OSError:
                sock.close()
                raise
        self.sock = sock
        self.buffer = b""
        self.ended = False

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def ask(self, data: bytes | str, method: str = "GET") -> Answer:
        self.send(data)
        return self.answer(method)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        self.ended = not data
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert self.more(), f"ended: {self.buffer!r}"
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self.more(), f"ended: {self.buffer!r}"
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def rest(self) -> bytes:
        """All there is until the server closes."""
        while self.more():
            pass
        found, self.buffer = self.buffer, b""
        return found

    def head(self) -> Answer:
        line, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        headers: dict[str, str] = {}
        for each in lines:
            name, _, value = each.partition(": ")
            assert name.lower() not in headers or name.lower() == "set-cookie", each
            headers[name.lower()] = value
        return Answer(int(status), version, headers)

    def answer(self, method: str = "GET") -> Answer:
        found = self.head()
        interim = []
        while found.status == 100:
            interim.append(found.status)
            found = self.head()
        found.interim = interim
        if method == "HEAD" or found.status in (101, 204, 304):
            return found
        if found.headers.get("transfer-encoding") == "chunked":
            self._read_chunks(found)
        elif "content-length" in found.headers:
            found.body = self.exactly(int(found.headers["content-length"]))
        else:
            found.body = self.rest()
        return found

    def _read_chunks(self, found: Answer) -> None:
        while True:
            while b"\r\n" not in self.buffer:
                if not self.more():
                    found.complete = False
                    return
            size = int(self.until(b"\r\n"), 16)
            data = self.exactly(size + 2)
            assert data.endswith(b"\r\n")
            if not size:
                return
            found.body += data[:-2]


def request(
    path: str = "/", method: str = "GET", *headers: str, body: bytes = b"", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    return request(path, "POST", f"Content-Length: {len(body)}", *headers, body=body)


def until(fact: Callable[[], Any]) -> None:
    """Let the server go on until *fact* is one."""
    while not fact():
        gevent.idle()


def answering(app: Any) -> Any:
    """*app*, whose errors are answered as the gateway does it."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        try:
            return app(environ, start_response)
        except LlmsnapError as error:
            status, headers, body = errors.error_answer(error)
            start_response(errors.status_line(status), headers)
            return [body]

    return answer
