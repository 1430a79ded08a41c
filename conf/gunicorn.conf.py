"""gunicorn settings for llmsnap: ``gunicorn -c conf/gunicorn.conf.py llmsnap.wsgi:app``.

``LLMSNAP_CONFIG`` names the configuration file; every option of the ``llmsnap`` command has such an
environment variable.
"""

import os
import sys
from typing import Any

# One worker, because the models belong to one process. This line overrides WEB_CONCURRENCY.
worker_class = "gevent"
workers = 1
worker_connections = 10_000
preload_app = False  # the service must open in the worker, after it was forked
max_requests = 0  # replacing a worker stops its models
timeout = 0  # a load or a stream may take an hour without the worker being stuck


def _drain_s() -> float:
    try:
        return float(os.environ.get("LLMSNAP_DRAIN_TIMEOUT", ""))
    except ValueError:
        return 10.0


# Time for requests to finish, then for models to stop.
graceful_timeout = int(_drain_s()) + 30

keepalive = 75  # longer than the idle time of the usual proxies in front
limit_request_line = 8190
limit_request_field_size = 32_768
control_socket_disable = True  # gunicorn's own remote control; older versions ignore this line


def on_starting(server: Any) -> None:
    """Protect the environment of the master, which may contain keys, from the models."""
    from llmsnap.limits import protect_memory  # noqa: PLC0415 - only needed when gunicorn starts
    from llmsnap.options import TRUE_WORDS  # noqa: PLC0415

    debug = os.environ.get("LLMSNAP_DEBUG", "").strip().lower() in TRUE_WORDS
    protect_memory(debug=debug)


def post_worker_init(worker: Any) -> None:
    """Open the service before the first connection is accepted; an extra worker waits here."""
    from llmsnap.server import take_connections  # noqa: PLC0415 - only the worker may
    from llmsnap.wsgi import open_service  # noqa: PLC0415 - import them

    open_service()
    # Use llmsnap's own HTTP server: four times the throughput, and timeouts for slow clients.
    # Without this line, or with --access-logfile, gunicorn's HTTP server is used.
    take_connections(worker)


def worker_exit(server: Any, worker: Any) -> None:
    """Stop every model, so that none survives its worker."""
    door = sys.modules.get("llmsnap.wsgi")
    if door is not None:  # otherwise this worker ended while it was waiting for the lock
        door.close_service()
