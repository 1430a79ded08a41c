"""An inference server in this process: pywsgi on port 0, with gates that a test opens."""

from collections.abc import Callable, Iterable
from typing import Any

from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

Handler = Callable[[dict[str, Any], Any], Iterable[bytes]]


SOCKET = "tests.socket"


class SocketHandler(WSGIHandler):
    """Gives the application its client's socket."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), SOCKET: self.socket}


class FakeUpstream:
    def __init__(self) -> None:
        self.healthy = Event()
        self.statuses: dict[str, int] = {}
        self.gates: dict[str, Event] = {}
        self.calls: list[str] = []
        self.handler: Handler | None = None
        self.server = WSGIServer(
            ("127.0.0.1", 0), self._app, log=None, spawn=Pool(), handler_class=SocketHandler
        )
        self.server.init_socket()
        self.server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def port(self) -> int:
        return self.server.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop(timeout=0)

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.calls.append(f"{environ['REQUEST_METHOD']} {path}")
        if path in self.gates:
            self.gates[path].wait()
        if path == "/health":
            status = 200 if self.healthy.is_set() else 503
        elif path in self.statuses:
            status = self.statuses[path]
        elif self.handler is not None:
            return self.handler(environ, start_response)
        else:
            status = 404
        if status == 204:
            start_response("204 -", [])
            return []
        start_response(f"{status} -", [("Content-Length", "2")])
        return [b"{}"]
