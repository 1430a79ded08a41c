"""SIGINT and SIGTERM: the first asks for an orderly end, the second does not wait for it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
from gevent.event import Event

log = logging.getLogger(__name__)


@contextmanager
def stop_signals(
    kill_models: Callable[[], None], leave: Callable[[int], object] = os._exit
) -> Iterator[Event]:
    """Yield the event that the first signal sets; the second kills all at once and *leaves*."""
    asked = Event()

    def on_signal(name: str) -> None:
        if asked.is_set():
            log.warning("second %s: killing all models", name)
            kill_models()
            leave(1)
            return
        log.info("%s: shutting down", name)
        asked.set()

    handlers = [
        gevent.signal_handler(number, on_signal, signal.Signals(number).name)
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        yield asked
    finally:
        for handler in handlers:
            handler.cancel()
