"""The door for WSGI servers: ``llmsnap.wsgi:app``, configured by ``LLMSNAP_*`` variables.

Importing builds the application and nothing else. The service opens once: by
``open_service()`` from a server's hook, else with the first request.
"""

import llmsnap._monkey

import os
import signal
from types import FrameType

from gevent import get_hub
from gevent.lock import BoundedSemaphore

from llmsnap.config.loader import load
from llmsnap.limits import raise_open_files
from llmsnap.logs.handler import LogStyle
from llmsnap.options import Options, from_environ
from llmsnap.reload import ConfigWatcher, watch
from llmsnap.service import Service
from llmsnap.statedir import find as find_state_dir
from llmsnap.web.app import create_app

_lock = BoundedSemaphore(1)
_service: Service | None = None
_watcher: ConfigWatcher | None = None


def open_service() -> Service:
    """Return the service, opened at the first call. Raises: ConfigError. Blocks at first."""
    global _service, _watcher  # noqa: PLW0603 - one program, one service
    if _service is None:
        with _lock:
            if _service is None:
                options = Options(**from_environ(os.environ))
                raise_open_files()
                state = find_state_dir(options.config, options.state_dir)
                service = Service(
                    load(options.config),
                    state=state,
                    record=options.record_decisions,
                    log_style=LogStyle(options.log_format == "json", options.debug),
                )
                service.open()
                _end_feeds_first(service)
                _watcher = watch(service) if options.watch_config else None
                _service = service
    return _service


def _end_feeds_first(service: Service) -> None:
    """Have SIGTERM end event feeds: a worker waits for its requests, and those never end."""
    handle = signal.getsignal(signal.SIGTERM)
    if callable(handle):
        loop = get_hub().loop

        def end_feeds(number: int, frame: FrameType | None) -> None:
            loop.run_callback_threadsafe(service.end_feeds)
            handle(number, frame)

        signal.signal(signal.SIGTERM, end_feeds)


def close_service() -> None:
    """Stop all models, if the service was ever opened. Blocks, bounded."""
    if _watcher is not None:
        _watcher.close()
    if _service is not None:
        _service.close(Options(**from_environ(os.environ)).drain_timeout)


app = create_app(open_service)
