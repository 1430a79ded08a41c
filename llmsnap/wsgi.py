"""The entry point for WSGI servers: ``llmsnap.wsgi:app``, configured by ``LLMSNAP_*`` variables.

Importing builds the application, and in a gunicorn worker opens the service too. Elsewhere the
service opens once, with ``open_service()`` or with the first request.
"""

import llmsnap._monkey

import atexit
import logging
import os

from gevent.lock import BoundedSemaphore

from llmsnap.installation import identify
from llmsnap.config import Loaded, Sources, advice_on, load_with_advice
from llmsnap.errors import ConfigError
from llmsnap.event_loop import freeze_heap
from llmsnap.limits import end_with_parent, protect_memory, raise_open_files
from llmsnap.logs import LogStyle
from llmsnap.options import Options, from_environ
from llmsnap.reload import ConfigWatcher, watch
from llmsnap.server import (
    GracefulShutdown,
    GunicornWorker,
    acquire_lock,
    current_worker,
    fail_boot,
)
from llmsnap.service import Service
from llmsnap.sockets import listening_descriptors, occupy
from llmsnap.statedir import find as find_state_dir
from llmsnap.web import create_app

log = logging.getLogger(__name__)

_lock = BoundedSemaphore(1)
_service: Service | None = None
_watcher: ConfigWatcher | None = None


def open_service() -> Service:
    """Return the service, opened at the first call. Raises: ConfigError. Blocks at first.

    In a gunicorn worker it blocks until no other worker has the models.
    """
    global _service, _watcher  # noqa: PLW0603 - one program, one service
    if _service is None:
        with _lock:
            if _service is None:
                options = Options(**from_environ(os.environ))
                service = _open(options)
                _watcher = watch(service) if options.watch_config else None
                _service = service
    return _service


def _open(options: Options) -> Service:
    raise_open_files()
    protect_memory(debug=options.debug)
    if os.environ.get("WERKZEUG_RUN_MAIN") == "true":
        end_with_parent()  # Flask's reloader, which is what people kill
    state = find_state_dir(options.config_paths, options.state_dir)
    worker = current_worker()
    if worker is not None:
        acquire_lock(state, worker)
    loaded = _load(Sources(*options.config_paths), worker)
    service = Service(
        loaded.config,
        state=state,
        record=options.record_decisions,
        log_style=LogStyle(options.log_format == "json", options.debug),
        advice=advice_on(loaded),
    )
    service.open()
    log.info("%s serves", identify().short)
    if options.tls_cert_file or options.tls_key_file:
        log.warning("LLMSNAP_TLS_* encrypts nothing here: give the certificate to the WSGI server")
    freeze_heap()
    atexit.register(close_service)
    if os.environ.get("WERKZEUG_RUN_MAIN") == "true":
        # Its server closes its socket at a restart, while another greenlet still polls it.
        atexit.register(occupy, listening_descriptors())
    if worker is not None:
        GracefulShutdown(worker, service, close_service).install()
    return service


def _load(sources: Sources, worker: GunicornWorker | None) -> Loaded:
    try:
        return load_with_advice(sources)
    except ConfigError as error:
        if worker is None:
            raise
        fail_boot(worker, error)


def close_service() -> None:
    """Stop all models, if the service was ever opened. Blocks, bounded; so does a second call."""
    with _lock:
        if _watcher is not None:
            _watcher.close()
        if _service is not None:
            _service.close(Options(**from_environ(os.environ)).drain_timeout)


app = create_app(open_service)
if current_worker() is not None:
    open_service()
