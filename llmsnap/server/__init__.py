"""llmsnap's own HTTP server: a listener on gevent's WSGIServer, with strict parsing and deadlines.

Read ``main`` first (``serve``: from bind to the last signal), then ``listener`` (accepts
connections up to a limit), ``connection`` (one connection: its requests and responses), ``http1``
(parses heads and bodies) and ``deadlines`` (the timeouts of clients). ``bind`` makes the listening
sockets, ``tls`` loads the certificate, ``gunicorn`` serves in a worker of gunicorn's.
"""

from llmsnap.server.bind import open_listener
from llmsnap.server.connection import ConnectionHandler
from llmsnap.server.gunicorn import (
    GracefulShutdown,
    GunicornWorker,
    acquire_lock,
    current_worker,
    fail_boot,
    take_connections,
)
from llmsnap.server.listener import HttpServer
from llmsnap.server.main import serve

__all__ = [
    "ConnectionHandler",
    "GracefulShutdown",
    "GunicornWorker",
    "HttpServer",
    "acquire_lock",
    "current_worker",
    "fail_boot",
    "open_listener",
    "serve",
    "take_connections",
]
