"""What reloads the configuration under our own server: SIGHUP, and a change of the file."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from llmsnap.errors import ConfigError
from llmsnap.reload import watch
from llmsnap.service import Service
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)


@contextmanager
def reloading(service: Service, *, watch_file: bool) -> Iterator[None]:
    """Reload *service* at SIGHUP, and with *watch_file* whenever its file changes."""
    tasks = TaskGroup("reload")

    def on_hangup() -> None:
        log.info("SIGHUP: reloading the configuration")
        if len(tasks) < 2:  # one under way, and one after it that sees all later changes
            tasks.spawn("SIGHUP", _reload, service)

    handler = gevent.signal_handler(signal.SIGHUP, on_hangup)
    watcher = watch(service) if watch_file else None
    try:
        yield
    finally:
        handler.cancel()
        if watcher is not None:
            watcher.close()
        tasks.kill()


def _reload(service: Service) -> None:
    try:
        service.reload()
    except ConfigError as error:
        log.debug("reload refused: %s", error)  # the service has logged every problem
