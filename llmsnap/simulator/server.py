"""The command and its server: loads, binds, accepts connections, and logs each step."""

from __future__ import annotations

import os
import signal
import socket as stdlib_socket
import sys
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Group, Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from llmsnap.simulator.app import App
from llmsnap.simulator.devices import DeviceFull
from llmsnap.simulator.exchange import Json
from llmsnap.simulator.options import SimOptions, build_parser, parse
from llmsnap.simulator.state import (
    SimState,
    flood,
    leave_later,
    out_of_memory,
    read_through,
    start_grandchild,
)

BACKLOG = 1024


class _Handler(WSGIHandler):
    """Gives the application the socket and the raw request, which WSGI hides."""

    def get_environ(self) -> Json:
        environ = super().get_environ()
        environ["sim.socket"] = self.socket
        environ["sim.target"] = self.path
        environ["sim.headers"] = list(self.headers.items())
        return environ


class SimServer:
    """A simulated inference server on one port."""

    def __init__(
        self,
        options: SimOptions,
        write_line: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        self.state = SimState(options, write_line, leave)
        self._tasks = Group()
        self._wsgi: WSGIServer | None = None
        self.port = options.port

    def open(self) -> None:
        """Load, then listen; with ``--load-mode 503`` listen before loading. Blocks.

        Raises: OSError if the address cannot be bound.
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
        try:
            self.state.hold_memory()
        except DeviceFull as full:
            for line in out_of_memory(full):
                self.state.write_line(line)
            self.state.leave(1)
            return
        if options.read_model:
            read_through(options.model)
        gevent.sleep(options.load_time)
        if not options.never_healthy:
            self.state.loaded.set()
            self.state.write_line(f"{options.model} is loaded")

    def _listen(self) -> None:
        options = self.state.options
        listener = _bind(options.host, options.port)
        self.port = listener.getsockname()[1]
        # SERVER_NAME is set, because pywsgi would otherwise query the resolver.
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
    # Accepted sockets inherit it; without it each keep-alive response waits for a delayed ACK.
    listener.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> int:
    """Run the simulator until a signal ends it; return the exit code. Blocks."""
    options = parse(argv)
    server = SimServer(options, write_line, os._exit)
    _obey_signals(options, server.state)
    if options.exit_at_start is not None:
        write_line(f"error: {options.model} cannot be loaded (--exit-at-start)")
        return options.exit_at_start
    if options.fork_grandchild or options.grandchild_new_session:
        pid = start_grandchild(new_session=options.grandchild_new_session)
        write_line(f"grandchild {pid} started")
    return _serve(options, server)


def _serve(options: SimOptions, server: SimServer) -> int:
    try:
        server.open()
    except OSError as exc:
        write_line(f"error: cannot listen on {options.host}:{options.port}: {exc.strerror}")
        return 1
    Event().wait()
    return 0


def _obey_signals(options: SimOptions, state: SimState) -> None:
    """Exit with 0 on SIGTERM and SIGINT, even while loading or blocked on a full stdout."""
    # Python's own handlers, not gevent's: those need the loop, which a full pipe blocks.
    # The pipe wakes the loop, should the signal arrive just before it goes to sleep.
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    gevent.get_hub().loop.io(wakeup_read, 1).start(os.read, wakeup_read, 64)
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))

    def stop(*_: object) -> None:
        state.leave_memory()
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.ignore_sigterm else stop)


def write_line(line: str) -> None:
    """Write *line* to stdout, flushed; ignore a closed pipe, so that the server keeps running."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return
