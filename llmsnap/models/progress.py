"""Signs that a server is still loading: bytes moved, memory grown, new log lines.

A download or a cold disk may take longer than any fixed time-out. What distinguishes a slow load
from a hanging one is that something goes on, so the time-out runs from the last such sign.
Sources: proc_pid_io(5), proc_pid_statm(5).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmsnap.memory import TreeActivity, tree_activity

MIB = 1024**2
LEAST_BYTES = MIB
"""Smaller changes are none: a server that waits answers health checks, and allocates for them."""
EVERY_S = 1.0
MAX_LINES = 4096
"""Of distinct log lines; a server that has printed so many is not judged by them any more."""
TAIL_LINES = 20
VARIABLE = re.compile(r"[0-9]+")
"""Lines that differ only in numbers are repeats, such as those of a server that counts seconds."""


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far a load is. *loaded_bytes* of *total_bytes*, which are 0 where they are unknown."""

    loaded_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0

    @property
    def percent(self) -> int | None:
        """The loaded share of the model's files; None: unknown. 99 at most, until it is ready."""
        if not self.total_bytes:
            return None
        return min(99, self.loaded_bytes * 100 // self.total_bytes)

    def __str__(self) -> str:
        """Return "42 % loaded, 512 MiB/s"; "" while that is unknown."""
        if self.percent is None:
            return ""
        return f"{self.percent} % loaded, {self.bytes_per_s / MIB:.0f} MiB/s"


class LoadProgress:
    """Watches one load. *pid* is its process, *tail* returns the last lines of its log.

    *total* returns the bytes of the model's files, 0 as long as they are unknown. Without a process
    on this machine, only the log counts.
    """

    def __init__(
        self,
        pid: int | None,
        tail: Callable[[int], Sequence[str]],
        total: Callable[[], int] = int,
        *,
        read: Callable[[int], TreeActivity] = tree_activity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pid, self._tail, self._read, self._clock = pid, tail, read, clock
        self._total = total
        self._before = self._first = self._activity()
        self._lines = self._printed()
        self._began = self._checked = self.last_sign = clock()
        self.state = LoadState()

    def __repr__(self) -> str:
        return f"<LoadProgress of pid {self._pid}, {self.state}>"

    def check(self) -> float:
        """Return when the last sign of progress was seen. Looks once a second, never switches."""
        now = self._clock()
        if now < self._checked + EVERY_S:
            return self.last_sign
        moved, printed = self._has_moved(now), self._has_printed()
        if moved or printed:
            self.last_sign = now
        self._checked = now
        return self.last_sign

    def _has_moved(self, now: float) -> bool:
        """Compare with the last sign, not the last look: a slow download moves little at a time."""
        activity = self._activity()
        loaded = max(0, activity.loaded - self._first.loaded)
        total = self._total()
        if total:
            rate = loaded / max(now - self._began, 0.001)
            self.state = LoadState(min(loaded, total), total, rate)
        if not activity.has_grown(self._before, LEAST_BYTES):
            return False
        self._before = activity
        return True

    def _has_printed(self) -> bool:
        new = self._printed() - self._lines
        if not new or len(self._lines) >= MAX_LINES:
            return False
        self._lines |= new
        return True

    def _printed(self) -> set[int]:
        return {hash(normalized(line)) for line in self._tail(TAIL_LINES)}

    def _activity(self) -> TreeActivity:
        return self._read(self._pid) if self._pid is not None else TreeActivity()


def normalized(line: str) -> str:
    """Return *line* with its numbers replaced, and no more of it than its begin."""
    return VARIABLE.sub("0", line[:500])
