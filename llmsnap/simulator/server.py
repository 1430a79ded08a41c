"""The listening server: loads, binds, accepts, and tells when it does."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.pool import Group, Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from llmsnap.simulator.app import App
from llmsnap.simulator.exchange import Json
from llmsnap.simulator.faults import flood, leave_later
from llmsnap.simulator.options import Options
from llmsnap.simulator.state import State

BACKLOG = 1024


class _Handler(WSGIHandler):
    """Shows the application what WSGI hides: the socket, and the request as it was sent."""

    def get_environ(self) -> Json:
        environ = super().get_environ()
        environ["sim.socket"] = self.socket
        environ["sim.target"] = self.path
        environ["sim.headers"] = list(self.headers.items())
        return environ


class Server:
    """A simulated inference server on one port."""

    def __init__(
        self,
        options: Options,
        write_line: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        self.state = State(options, write_line, leave)
        self._tasks = Group()
        self._wsgi: WSGIServer | None = None
        self.port = options.port

    def open(self) -> None:
        """Load, and listen: after loading, or before it with ``--load-mode 503``. Blocks.

        Raises: OSError when the address cannot be listened on.
        """
        if self.state.options.exit_after:
            self._tasks.spawn(leave_later, self.state)
        if self.state.options.flood:
            self._tasks.spawn(flood, self.state)
        if self.state.options.load_mode == "closed":
            self._load()
            self._listen()
        else:
            self._listen()
            self._tasks.spawn(self._load)

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._wsgi is not None:
            self._wsgi.stop(timeout=0)
        self._tasks.kill()

    def _load(self) -> None:
        options = self.state.options
        self.state.write_line(f"loading {options.model}")
        self.state.hold_memory()
        gevent.sleep(options.load_time)
        if not options.never_healthy:
            self.state.loaded.set()
            self.state.write_line(f"{options.model} is loaded")

    def _listen(self) -> None:
        options = self.state.options
        listener = _bind(options.host, options.port)
        self.port = listener.getsockname()[1]
        # SERVER_NAME, or pywsgi asks the resolver for one.
        environ = {"SERVER_NAME": options.host}
        self._wsgi = WSGIServer(
            listener,
            App(self.state),
            spawn=Pool(),
            log=None,
            handler_class=_Handler,
            environ=environ,
        )
        self._wsgi.start()
        self.state.write_line(f"listening on http://{options.host}:{self.port}")


def _bind(host: str, port: int) -> socket.socket:
    family = stdlib_socket.AF_INET6 if ":" in host else stdlib_socket.AF_INET
    listener = socket.socket(family, stdlib_socket.SOCK_STREAM)
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it; without it each keep-alive answer waits for a delayed ACK.
    listener.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
