"""Work that may wait a moment, run while the server waits for something else anyway.

Filing a record and writing a log line cost a third of what a request costs in all, and no client
waits for them. They are deferred until the next request has been sent to its model, and under load
until all pending requests have been. A few run at a time, so that no stream is held up for long.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

log = logging.getLogger(__name__)

MAX_DELAY_S = 0.02
"""A deferred call starts after this long at the latest, however busy the event loop is."""
PAUSE_S = 0.001
"""Between two batches, so that other greenlets run."""
BATCH = 8
PER_REQUEST = 2
"""How many calls a waiting request runs: as many as it leaves behind itself."""
MAX_WAITING = 128
"""Beyond this many, adding a call runs a batch at once."""
BUSY_S = 0.0003
"""An iteration of the event loop that has taken longer has other greenlets waiting."""

Deferred = Callable[[], None]
Defer = Callable[[Deferred], None]
"""Runs a call, now or soon."""


def run_now(call: Deferred) -> None:
    """Run *call* at once."""
    call()


class DeferredQueue:
    """Runs deferred calls in their order; they must not switch. For the event loop's thread only.

    Its owner calls ``flush()`` at the end: the timer does not keep the program running.
    """

    def __init__(self) -> None:
        self._waiting: deque[Deferred] = deque()
        self._timer: Any = None
        self._loop = gevent.get_hub().loop

    def __repr__(self) -> str:
        return f"<DeferredQueue, {len(self._waiting)} waiting>"

    def add(self, call: Deferred) -> None:
        """Queue *call* to be run soon. Never switches."""
        self._waiting.append(call)
        if len(self._waiting) > MAX_WAITING:
            self._run(BATCH)
        elif self._timer is None:
            self._set_timer(MAX_DELAY_S)

    def flush(self) -> None:
        """Run all that wait. Never switches, never raises; a call that fails is logged."""
        while self._waiting:
            self._run(len(self._waiting))

    def run_some(self) -> None:
        """Run as many as one request leaves behind; none while other greenlets are ready to run.

        The caller is about to wait. Never switches, never raises.
        """
        if self._waiting and time.time() - self._loop.now() < BUSY_S:
            self._run(PER_REQUEST)

    def _run(self, count: int) -> None:
        for _ in range(count):
            if not self._waiting:
                return  # a call that logged something has flushed the others
            call = self._waiting.popleft()
            try:
                call()
            except Exception:
                log.exception("a deferred call failed")

    def _set_timer(self, after_s: float) -> None:
        self._timer = self._loop.timer(after_s, ref=False)
        self._timer.start(self._on_timer)

    def _on_timer(self) -> None:
        self._timer.close()
        self._timer = None
        self._run(BATCH)
        if self._waiting:
            self._set_timer(PAUSE_S)
