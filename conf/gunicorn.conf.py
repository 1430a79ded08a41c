"""gunicorn's settings for llmsnap: ``gunicorn -c conf/gunicorn.conf.py llmsnap.wsgi:app``.

The configuration file is named by ``LLMSNAP_CONFIG``; every option of the ``llmsnap`` command has
such a twin.
"""

import os
import sys
from typing import Any

# One worker: the models belong to one process. Set here, WEB_CONCURRENCY cannot raise it.
worker_class = "gevent"
workers = 1
worker_connections = 10_000
preload_app = False  # the service must open in the worker, after it was forked
max_requests = 0  # a worker that is replaced would take its models with it
timeout = 0  # a load or a stream may take an hour; that is not a hanging worker


def _drain_s() -> float:
    try:
        return float(os.environ.get("LLMSNAP_DRAIN_TIMEOUT", ""))
    except ValueError:
        return 10.0


# First requests get their drain, then models get their time to stop.
graceful_timeout = int(_drain_s()) + 30

keepalive = 75  # longer than the idle time of the usual proxies in front
limit_request_line = 8190
limit_request_field_size = 32_768
control_socket_disable = True  # gunicorn's own remote control; older versions ignore this line


def on_starting(server: Any) -> None:
    """Keep the master's environment, which may hold keys, from the models, as in the worker."""
    from llmsnap.limits import protect_memory  # noqa: PLC0415 - not needed to read this file
    from llmsnap.options import TRUE_WORDS  # noqa: PLC0415

    debug = os.environ.get("LLMSNAP_DEBUG", "").strip().lower() in TRUE_WORDS
    protect_memory(debug=debug)


def post_worker_init(worker: Any) -> None:
    """Open the service before the first connection is accepted; in a second worker, wait."""
    from llmsnap.server import take_connections  # noqa: PLC0415 - only the worker may
    from llmsnap.wsgi import open_service  # noqa: PLC0415 - import them

    open_service()
    # llmsnap's own server reads and answers the requests: four times as many, with limits of time
    # for slow clients. Without this line, or with --access-logfile, gunicorn does.
    take_connections(worker)


def worker_exit(server: Any, worker: Any) -> None:
    """Stop every model: none survives its worker."""
    door = sys.modules.get("llmsnap.wsgi")
    if door is not None:  # else this worker ended before its turn came
        door.close_service()
