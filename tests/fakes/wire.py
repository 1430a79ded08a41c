"""A server that a test scripts byte by byte."""

from collections.abc import Callable

from gevent import socket, ssl
from gevent.pool import Pool
from gevent.server import StreamServer

from llmsnap.models import Address, parse_address

Script = Callable[["Link"], None]


class Link:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, requests: list[bytes]) -> None:
        self.sock = sock
        self.buffer = b""
        self._requests = requests

    def read_request(self) -> bytes:
        """One request with its Content-Length body; b"" when the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return b""
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(rest) < length:
            assert self._more()
            rest = self.buffer.partition(b"\r\n\r\n")[2]
        self.buffer = rest[length:]
        self._requests.append(head + b"\r\n\r\n" + rest[:length])
        return self._requests[-1]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait_closed(self) -> None:
        while self._more():
            pass

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)


class WireServer:
    """Runs one script for each connection, in order; the last one serves all further ones."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: list[Script] = []
        self.connections = 0
        self.requests: list[bytes] = []
        self._tls = tls
        options = {} if tls is None else {"ssl_context": tls}
        self.server = StreamServer(("127.0.0.1", 0), self._serve, spawn=Pool(), **options)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop(timeout=0)

    @property
    def address(self) -> Address:
        url = "https://localhost" if self._tls else "http://127.0.0.1"
        return parse_address(f"{url}:{self.server.server_port}")

    def _serve(self, sock: socket.socket, _: object) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            script(Link(sock, self.requests))
