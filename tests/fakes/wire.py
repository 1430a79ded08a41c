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
        self.buffer = bytearray()
        self._requests = requests

    def read_request(self) -> bytes:
        """One request with its Content-Length body; b"" when the client has closed."""
        while (end := self.buffer.find(b"\r\n\r\n") + 4) < 4:
            if not self._more():
                return b""
        for line in self.buffer[:end].lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                end += int(line.partition(b":")[2])
        while len(self.buffer) < end:
            assert self._more()
        self._requests.append(bytes(self.buffer[:end]))
        del self.buffer[:end]
        return self._requests[-1]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait_closed(self) -> None:
        while self._more():
            self.buffer.clear()

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 18)
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
        self.server.init_socket()
        # The same on all systems, so that a test need not send much to fill it.
        self.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)

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
