"""llmsnap under gunicorn, which manages the worker process; HttpServer serves the connections.

Of several workers one serves: the one that holds the lock of the state folder. It shuts down in
llmsnap's order, not in gunicorn's. gunicorn need not be installed: a worker process is recognized
by the handler that it has set for SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import gevent
from gevent import socket, ssl

from llmsnap.errors import ConfigError, StateInUse
from llmsnap.server.bind import set_client_options
from llmsnap.server.deadlines import ConnectionLimits
from llmsnap.server.listener import HttpServer
from llmsnap.service import Service
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ONLY_GUNICORN = ("accesslog", "statsd_host", "proxy_protocol")
"""Settings that gunicorn can apply only to requests which it reads itself."""
OFF = (None, False, "off")
LOCK_POLL_S = 0.25
"""Seconds between a worker's attempts to get the lock; each notifies gunicorn that it is alive."""
REMIND_S = 60.0
LISTENERS_S = 3.0
"""Seconds for gunicorn to close the listeners; it checks every second."""
SETTLE_S = 0.75
"""Seconds after that for requests of the connections that were accepted last."""
FINISH_S = 1.0
"""How long remaining connections may finish sending after the drain."""
BOOT_ERROR = 3
"""The exit code at which gunicorn gives up instead of starting the next worker."""
REPEAT_S = 1.0
"""A Ctrl-C reaches the worker twice, from the terminal and from gunicorn, and counts once."""


class GunicornPool(Protocol):
    """gunicorn's pool; only its size is used, as the number of connections."""

    size: int


class GunicornWorker(Protocol):
    """The part of ``gunicorn.workers.ggevent.GeventWorker`` that llmsnap uses."""

    alive: bool
    cfg: Any
    log: Any
    server_class: Callable[..., HttpServer] | None
    sockets: list[Any]

    def notify(self) -> None:
        """Notify the master that the worker is alive; end the process if the master has ended."""


class GunicornServer(HttpServer):
    """An HttpServer that a worker of gunicorn's creates, closes and stops (GeventWorker.run)."""

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        spawn: GunicornPool,
        idle_s: float,
        ssl_context: ssl.SSLContext | None = None,
        **_: Any,
    ) -> None:
        if listener.family != socket.AF_UNIX:
            set_client_options(listener)
        wrap = None
        if ssl_context is not None:
            wrap = partial(ssl_context.wrap_socket, server_side=True, do_handshake_on_connect=False)
        limits = ConnectionLimits(connections=spawn.size, idle_s=idle_s)
        super().__init__(listener, application, wrap=wrap, limits=limits)
        self._path = ""  # of a unix socket: the next worker has it, too

    def close(self) -> None:
        """Stop accepting, and end idle connections. Never switches."""
        if self._is_draining:
            super().close()
        else:
            self.drain()


def take_connections(worker: GunicornWorker) -> None:
    """Make *worker*, which does not serve yet, create a GunicornServer instead of gunicorn's own.

    Not with a setting that gunicorn can apply only to requests which it reads itself.
    """
    wanted = [name for name in ONLY_GUNICORN if getattr(worker.cfg, name, None) not in OFF]
    if wanted:
        worker.log.info("gunicorn reads the requests itself, for %s", ", ".join(wanted))
        return
    worker.server_class = partial(GunicornServer, idle_s=float(worker.cfg.keepalive))


# --- the worker process ------------------------------------------------------------------------


def current_worker() -> GunicornWorker | None:
    """Return the worker of this process; None in gunicorn's master and in any other process."""
    base = sys.modules.get("gunicorn.workers.base")
    owner: GunicornWorker | None = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if base is not None and isinstance(owner, base.Worker) else None


def acquire_lock(state: StateDir, worker: GunicornWorker) -> None:
    """Acquire the lock of *state*, however long another worker holds it. Blocks.

    Exits the process when gunicorn stops the worker meanwhile. A worker that gave up would be
    replaced again and again, or stop gunicorn.
    """
    remind_at = time.monotonic()
    while worker.alive:
        try:
            state.lock()
        except StateInUse as error:
            if time.monotonic() >= remind_at:
                remind_at += REMIND_S
                worker.log.warning(
                    "worker %d waits for pid %s, which has the models of this configuration "
                    "(lock in %s): run exactly one worker; extra workers stay idle",
                    os.getpid(),
                    error.holder,
                    state.path,
                )
        else:
            return
        worker.notify()
        gevent.sleep(LOCK_POLL_S)
    sys.exit(0)


def fail_boot(worker: GunicornWorker, error: ConfigError) -> NoReturn:
    """Log the problems of the configuration; exit so that gunicorn starts no more workers."""
    for problem in error.problems:
        worker.log.error("%s: %s", problem.place(error.source), problem)
    sys.exit(BOOT_ERROR)


class GracefulShutdown:
    """Ends a worker at SIGTERM, SIGINT and SIGQUIT, after *close* has stopped the models.

    gunicorn alone would wait for endless answers and idle connections until its graceful timeout,
    and would kill the worker before the models are stopped.
    """

    def __init__(
        self,
        worker: GunicornWorker,
        service: Service,
        close: Callable[[], None],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._worker = worker
        self._service = service
        self._close = close
        self._leave = leave
        self._began: float | None = None
        self._tasks = TaskGroup("worker")

    def __repr__(self) -> str:
        return f"<GracefulShutdown {'begun' if self._began else 'not begun'}>"

    def install(self) -> None:
        """Put a handler in front of gunicorn's, for each of the three signals."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            handle = signal.getsignal(number)
            if callable(handle):
                signal.signal(number, self._before(handle))

    def _before(
        self, handle: Callable[[int, FrameType | None], Any]
    ) -> Callable[[int, FrameType | None], None]:
        loop = gevent.get_hub().loop

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._began is None:
                self._began = time.monotonic()
                loop.run_callback_threadsafe(self._begin, number)
                handle(number, frame)
            elif number != signal.SIGTERM and time.monotonic() - self._began > REPEAT_S:
                self._service.kill()
                self._leave(1)

        return on_signal

    def _begin(self, number: int) -> None:
        self._service.end_feeds()
        self._tasks.spawn("end", self._end, number == signal.SIGTERM)

    def _end(self, listeners_close: bool) -> None:
        """Stop the models, then exit, whichever connections are still open."""
        if listeners_close:
            self._wait_until_closed()
            gevent.sleep(SETTLE_S)
        self._close()
        gevent.sleep(FINISH_S)
        gevent.get_hub().loop.run_callback(sys.exit, 0)  # ends the main greenlet, as gunicorn does

    def _wait_until_closed(self) -> None:
        """Wait until gunicorn has closed the listeners: new connections go to the next worker."""
        limit = time.monotonic() + LISTENERS_S
        while any(listener.fileno() >= 0 for listener in self._worker.sockets):
            if time.monotonic() > limit:
                return
            gevent.sleep(0.05)
