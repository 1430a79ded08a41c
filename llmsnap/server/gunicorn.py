"""Our server in a worker of gunicorn's, which is a master of processes to us, and no more.

gunicorn need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from gevent import socket, ssl

from llmsnap.server.bind import set_for_clients
from llmsnap.server.connections import Limits
from llmsnap.server.listener import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ONLY_GUNICORN = ("accesslog", "statsd_host", "proxy_protocol")
OFF = (None, False, "off")


class Seats(Protocol):
    """gunicorn's pool, which tells how many connections there may be, and is not used."""

    size: int


class Worker(Protocol):
    """What we use of ``gunicorn.workers.ggevent.GeventWorker``."""

    cfg: Any
    log: Any
    server_class: Callable[..., Server] | None


class GuestServer(Server):
    """A server as gunicorn's worker makes, closes and stops one (``GeventWorker.run``)."""

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        spawn: Seats,
        idle_s: float,
        ssl_context: ssl.SSLContext | None = None,
        **_: Any,
    ) -> None:
        if listener.family != socket.AF_UNIX:
            set_for_clients(listener)
        wrap = None
        if ssl_context is not None:
            wrap = partial(ssl_context.wrap_socket, server_side=True, do_handshake_on_connect=False)
        limits = Limits(connections=spawn.size, idle_s=idle_s)
        super().__init__(listener, application, wrap=wrap, limits=limits)
        self._path = ""  # of a unix socket: the next worker has it, too

    def close(self) -> None:
        """Accept no more, and end connections that are idle. Never switches."""
        if self._is_draining:
            super().close()
        else:
            self.drain()


def take_connections(worker: Worker) -> None:
    """Have *worker*, which does not serve yet, make our server instead of gunicorn's own.

    Not if gunicorn was asked for something that it can only do with requests it reads itself.
    """
    wanted = [name for name in ONLY_GUNICORN if getattr(worker.cfg, name, None) not in OFF]
    if wanted:
        worker.log.info("gunicorn reads the requests itself, for %s", ", ".join(wanted))
        return
    worker.server_class = partial(GuestServer, idle_s=float(worker.cfg.keepalive))
