"""The listener: takes connections in, up to a number, and lets go of them at the end."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gevent import socket, ssl
from gevent.pywsgi import WSGIServer

from llmsnap.limits import open_files, places
from llmsnap.proxy import new_watch
from llmsnap.server.bind import remove
from llmsnap.server.connections import Connections, Limits
from llmsnap.server.handler import Handler
from llmsnap.server.seats import Seats
from llmsnap.server.turnstile import Turnstile

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S = 0.5
ACCEPTED_AT_ONCE = 8
FEW_PLACES = 500
SHORTAGE_OVER_S = 60.0
"""A shortage after as long a time without one is a new one, and logged again."""

Wrap = Callable[[socket.socket], ssl.SSLSocket]


class Server(WSGIServer):
    """pywsgi's server with our handler, a limit of connections, and an end in two steps.

    *wrap* begins TLS on a socket, *environ* is added to that of every request. There are no more
    places than descriptors allow; running out of these all the same is logged once, and survived.
    """

    handler_class: Any = Handler  # not one of pywsgi's
    environ: dict[str, Any]
    _timer: Any
    _start_accepting_if_started: Callable[[], None]

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        wrap: Wrap | None = None,
        limits: Limits | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        limits = limits or Limits()
        self.connections = Connections(limits)
        self.wrap = wrap
        self.watch = new_watch()
        self.turnstile = Turnstile()
        self.places = _places(limits)
        self._seats = Seats(self.places, self.connections)
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
            listener, application, spawn=self._seats, log=None, error_log=log, environ=facts
        )

    @property  # a plain number in gevent, which reads it before each pass
    def max_accept(self) -> int:  # type: ignore[override]
        """How many connections are accepted in one pass of the event loop.

        Several, or each of a hundred that come at once would wait for as many passes in which those
        before it are served; not all, or the first would wait for the last. One when seats are
        few: nobody is asked to make room before somebody waits for it.
        """
        return ACCEPTED_AT_ONCE if self._seats.free_count() > ACCEPTED_AT_ONCE else 1

    @property
    def ends_connections(self) -> bool:
        """Whether no connection may outlive its answer: at the end, and while others wait."""
        return self._is_draining or self._seats.all_taken

    def do_read(self) -> Any:
        """Accept one connection; None when there is none to be had now. Never switches."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno in SHORTAGE:
                self._pause(error)
            elif error.errno != errno.ECONNABORTED:
                raise
            return None

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment; the backlog would else wake us again and again."""
        now = time.monotonic()
        if now - self._last_shortage >= SHORTAGE_OVER_S:
            log.error("cannot accept connections for now: %s", error.strerror)
        self._last_shortage = now
        self.connections.make_room()
        self.stop_accepting()
        self._timer = self.loop.timer(PAUSE_S)
        self._timer.start(self._start_accepting_if_started)

    def drain(self) -> None:
        """Accept no more, end connections that are idle, let the others answer. No switch."""
        if self._is_draining:
            return  # by now the path may be that of a successor
        self._is_draining = True
        self.close()
        if self._path:
            remove(self._path)
        self.connections.end_waiting()

    def finish(self, limit_s: float) -> None:
        """Give the connections that are left *limit_s*, then end them. Blocks."""
        self.drain()
        self.stop(timeout=limit_s)
        self._seats.close()
        self.watch.close()
        self.turnstile.close()


def _places(limits: Limits) -> int:
    """Return how many connections are served at a time."""
    files = open_files()
    found = places(files, limits.connections, limits.files_share)
    if found < min(limits.connections, FEW_PLACES * limits.files_share):
        log.warning(
            "%d connections at a time: open files are limited to %d; raise that limit "
            "(ulimit -n, LimitNOFILE)",
            found,
            files,
        )
    return found
