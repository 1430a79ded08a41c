"""Work that may wait a moment: it is done while somebody waits for something else anyway.

What a request leaves to be filed and logged costs a third of what it costs in all. Nobody waits for
that, so it is put off until the next request has been sent to its model, and then done together
with that of others. Whoever adds a chore bounds what it has grown to by then.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

log = logging.getLogger(__name__)

PATIENCE_S = 0.02
"""The longest that a chore waits; people and programs that look see to it that they are done."""

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

    def __repr__(self) -> str:
        return f"<Chores, {len(self._waiting)} waiting>"

    def add(self, chore: Chore) -> None:
        """Have *chore* done soon. Never switches."""
        self._waiting.append(chore)
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(PATIENCE_S, ref=False)
            self._timer.start(self._ring)

    def do(self) -> None:
        """Do all that wait. Never switches, never raises; one that fails is logged."""
        while self._waiting:
            chore = self._waiting.popleft()
            try:
                chore()
            except Exception:
                log.exception("a chore failed")

    def _ring(self) -> None:
        self._timer.close()
        self._timer = None
        self.do()
