"""Work that may wait a moment: it is done while somebody waits for something else anyway.

What a request leaves to be filed and logged costs a third of what it costs in all. Nobody waits for
that, so it is put off until the next request has been sent to its model, and when many come at once
until all of them have been. A few at a time, so that no stream is held up for long.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

log = logging.getLogger(__name__)

PATIENCE_S = 0.02
"""When nobody has time, they are begun after as long; whoever looks sees to it that they are done.
"""
BREATH_S = 0.001
FEW = 8
OF_A_REQUEST = 2
MOST_WAITING = 128
"""Beyond, whoever adds another one does a few."""
LATE_S = 0.0003
"""When a pass of the event loop has taken as long, others wait, and nobody has time."""

Chore = Callable[[], None]
Later = Callable[[Chore], None]
"""Has a chore done, now or soon."""


def at_once(chore: Chore) -> None:
    """Do *chore* now."""
    chore()


class Chores:
    """Chores in their order; one must not switch greenlets. Used in the event loop's thread only.

    Their owner calls ``do()`` at the end: a timer that nobody waits for does not keep a program.
    """

    def __init__(self) -> None:
        self._waiting: deque[Chore] = deque()
        self._timer: Any = None
        self._loop = gevent.get_hub().loop

    def __repr__(self) -> str:
        return f"<Chores, {len(self._waiting)} waiting>"

    def add(self, chore: Chore) -> None:
        """Have *chore* done soon. Never switches."""
        self._waiting.append(chore)
        if len(self._waiting) > MOST_WAITING:
            self._do(FEW)
        elif self._timer is None:
            self._set_timer(PATIENCE_S)

    def do(self) -> None:
        """Do all that wait. Never switches, never raises; one that fails is logged."""
        while self._waiting:
            self._do(len(self._waiting))

    def do_some(self) -> None:
        """Do as many as a request leaves: the caller waits now. None when others wait for it.

        As ``do()`` else.
        """
        if self._waiting and time.time() - self._loop.now() < LATE_S:
            self._do(OF_A_REQUEST)

    def _do(self, count: int) -> None:
        for _ in range(count):
            if not self._waiting:
                return  # one that logged something had the others done before
            chore = self._waiting.popleft()
            try:
                chore()
            except Exception:
                log.exception("a chore failed")

    def _set_timer(self, after_s: float) -> None:
        self._timer = self._loop.timer(after_s, ref=False)
        self._timer.start(self._ring)

    def _ring(self) -> None:
        self._timer.close()
        self._timer = None
        self._do(FEW)
        if self._waiting:
            self._set_timer(BREATH_S)
