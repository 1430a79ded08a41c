"""The listener: accepts connections up to a limit, and serves each in a greenlet of its own."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub, getcurrent, socket, ssl
from gevent.hub import Waiter
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from llmsnap.limits import open_files, places
from llmsnap.proxy import new_watch
from llmsnap.server.bind import remove_socket
from llmsnap.server.connection import ConnectionHandler
from llmsnap.server.deadlines import ConnectionLimits, Deadlines, StartThrottle

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

MAX_IDLE = 64
"""How many greenlets wait for another connection; each keeps some 20 KiB."""
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S = 0.5
FEW_CONNECTIONS = 500
SHORTAGE_OVER_S = 60.0
"""A shortage is logged again if it comes this many seconds after the previous one."""

TlsWrap = Callable[[socket.socket], ssl.SSLSocket]
"""Wraps an accepted socket in TLS, without the handshake."""
Task = Callable[[], object]


class GreenletPool(Pool):
    """One greenlet for each connection, at most *limit*; when full, an idle connection is ended.

    A greenlet that has served its connection waits for another one: a new greenlet has Python map
    memory for its calls, and unmap it at the end.
    """

    def __init__(self, limit: int, deadlines: Deadlines) -> None:
        super().__init__(limit)
        self._limit = limit
        self._deadlines = deadlines
        self._idle: list[tuple[Any, Waiter[Task]]] = []
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the number of connections has reached the limit."""
        return len(self.greenlets) >= self._limit

    def full(self) -> bool:
        """Return whether the pool is full, and if so have a connection end. Never switches.

        gevent calls this before it accepts.
        """
        if self.is_full:
            self._deadlines.make_room()
            return True
        return False

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run *func* in a greenlet, which is returned, in the next iteration of the event loop.

        Never switches unless the pool is full.
        """
        task = partial(func, *args, **kwargs)
        if not self._idle:
            return super().spawn(self._run, [task])
        greenlet, waiter = self._idle.pop()
        self.add(greenlet)
        get_hub().loop.run_callback(waiter.switch, task)
        return greenlet

    def close(self) -> None:
        """End the idle greenlets, and from now on each after its connection. Blocks."""
        self._is_closed = True
        gevent.killall([greenlet for greenlet, _ in self._idle])
        self._idle.clear()

    def _run(self, tasks: list[Task]) -> None:
        greenlet: Any = getcurrent()
        waiter: Waiter[Task] = Waiter()
        task = tasks.pop()  # a greenlet keeps its arguments until it ends, and a socket with them
        while True:
            task()
            del task
            if self._is_closed or len(self._idle) >= MAX_IDLE:
                return
            self.discard(greenlet)
            self._idle.append((greenlet, waiter))
            task = waiter.get()
            waiter.clear()


class HttpServer(WSGIServer):
    """gevent's WSGIServer, which accepts, starts and stops, with a connection handler of its own.

    *wrap* wraps accepted sockets in TLS, *environ* is added to that of each request. The file
    descriptors limit the number of connections further; when they run out all the same, that is
    logged once, and the server continues.
    """

    handler_class: Any = ConnectionHandler  # not one of pywsgi's
    max_accept = 1
    """Connections accepted in one iteration of the event loop. With more, gevent would ask the pool
    at once for another place, which evicts a connection before a further one waits.
    """
    environ: dict[str, Any]
    _timer: Any
    _start_accepting_if_started: Callable[[], None]

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        wrap: TlsWrap | None = None,
        limits: ConnectionLimits | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        limits = limits or ConnectionLimits()
        self.deadlines = Deadlines(limits)
        self.wrap = wrap
        self.watch = new_watch()
        self.throttle = StartThrottle()
        self.max_connections = _max_connections(limits)
        self._greenlets = GreenletPool(self.max_connections, self.deadlines)
        self._is_draining = False
        self._last_shortage = -SHORTAGE_OVER_S
        self._path = ""
        name = listener.getsockname()
        if isinstance(name, str):
            self._path = name
        facts = {
            "wsgi.url_scheme": "https" if wrap else "http",
            "SERVER_NAME": "" if self._path else name[0],  # pywsgi would ask the DNS
            **(environ or {}),
        }
        super().__init__(
            listener, application, spawn=self._greenlets, log=None, error_log=log, environ=facts
        )

    @property
    def ends_connections(self) -> bool:
        """Whether connections end with their answer: while draining, and while the pool is full."""
        return self._is_draining or self._greenlets.is_full

    def do_read(self) -> Any:
        """Accept one connection; None when none is there or it fails. Never switches."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno in SHORTAGE:
                self._pause_accepting(error)
            elif error.errno != errno.ECONNABORTED:
                raise
            return None

    def _pause_accepting(self, error: OSError) -> None:
        """Stop accepting for PAUSE_S: the backlog would make the event loop spin."""
        now = time.monotonic()
        if now - self._last_shortage >= SHORTAGE_OVER_S:
            log.error("cannot accept connections for now: %s", error.strerror)
        self._last_shortage = now
        self.deadlines.make_room()
        self.stop_accepting()
        self._timer = self.loop.timer(PAUSE_S)
        self._timer.start(self._start_accepting_if_started)

    def drain(self) -> None:
        """Stop accepting, end idle connections, let the others answer. Never switches."""
        if self._is_draining:
            return  # by now the path may belong to a successor
        self._is_draining = True
        self.close()
        if self._path:
            remove_socket(self._path)
        self.deadlines.end_idle()

    def finish(self, limit_s: float) -> None:
        """Drain, wait up to *limit_s* for the remaining connections, then end them. Blocks."""
        self.drain()
        self.stop(timeout=limit_s)
        self._greenlets.close()
        self.watch.close()
        self.throttle.close()


def _max_connections(limits: ConnectionLimits) -> int:
    """Return how many connections are served at a time."""
    files = open_files()
    found = places(files, limits.connections, limits.files_share)
    if found < min(limits.connections, FEW_CONNECTIONS * limits.files_share):
        log.warning(
            "%d connections at a time: open files are limited to %d; raise that limit "
            "(ulimit -n, LimitNOFILE)",
            found,
            files,
        )
    return found
