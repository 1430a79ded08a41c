"""Who wrote which part of a log, and when."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

KEPT = 4096


class Mark(NamedTuple):
    """From *position* on, the log is the output of *source* in the Unix second *at_s*."""

    position: int
    source: str
    at_s: int


class Marks:
    """The last marks of one log, at most one per source and second. Never switches."""

    def __init__(self, wall: Callable[[], float] = time.time, kept: int = KEPT) -> None:
        self._wall, self._kept = wall, kept
        self._marks: list[Mark] = []

    def __repr__(self) -> str:
        return f"<Marks, {len(self._marks)} kept>"

    def note(self, position: int, source: str) -> None:
        """Note that *source* writes from *position* on."""
        at_s = int(self._wall())
        if self._marks and self._marks[-1][1:] == (source, at_s):
            return
        self._marks.append(Mark(position, source, at_s))
        if len(self._marks) >= 2 * self._kept:
            del self._marks[: -self._kept]

    def within(self, start: int, end: int) -> list[Mark]:
        """Return the marks of the bytes from *start* to *end*; the first may begin before."""
        first = bisect_right(self._marks, start, key=_position) - 1
        last = bisect_right(self._marks, end - 1, key=_position)
        return self._marks[max(0, first) : last]


def _position(mark: Mark) -> int:
    return mark.position
