"""How long a model's loads, wakes, sleeps and stops took, over the last few."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEPT = 20
UNKNOWN_S = 5.0
"""What a load is taken to last before one has been measured."""


@dataclass(frozen=True, slots=True)
class DurationStats:
    """*count* is of all time; the rest is over the last ``KEPT``, None before the first."""

    count: int = 0
    last_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None


class Durations:
    """The durations of one kind of move of one model."""

    __slots__ = ("_kept", "count", "p50_s")

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)
        self.count = 0
        self.p50_s: float | None = None

    def append(self, seconds: float) -> None:
        """Add one measurement; the median is at hand without sorting again."""
        self._kept.append(seconds)
        self.count += 1
        self.p50_s = self._percentile(50)

    def snapshot(self) -> DurationStats:
        """Return what ``/running`` shows."""
        if not self._kept:
            return DurationStats()
        return DurationStats(self.count, self._kept[-1], self.p50_s, self._percentile(90))

    def _percentile(self, percent: int) -> float:
        """Nearest rank: always a duration that did happen."""
        ordered = sorted(self._kept)
        return ordered[-(-percent * len(ordered) // 100) - 1]
