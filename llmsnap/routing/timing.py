"""What the scheduler knows of time: back-off after failures, measured durations, timers. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

# --- back-off -------------------------------------------------------------------------------------

FREE_FAILURES = 1
FIRST_DELAY_S = 1.0
LONGEST_S = 60.0
LONGEST_EVICTING_S = 600.0
MIN_UPTIME_S = 10.0
"""A model that dies within this time of becoming ready has failed to load."""

_DOUBLINGS = 16  # beyond the longest delay; keeps the power small


def delay_s(failures: int, *, evicts: bool) -> float:
    """Return how long after the last of *failures* in a row the next start may come."""
    if failures <= FREE_FAILURES:
        return 0.0
    longest = LONGEST_EVICTING_S if evicts else LONGEST_S
    return float(min(FIRST_DELAY_S * 2 ** min(failures - FREE_FAILURES - 1, _DOUBLINGS), longest))


class Backoff:
    """The failures in a row of one model, and the last error."""

    __slots__ = ("_failed_at", "error", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.error: Exception | None = None
        self._failed_at = 0.0

    def fail(self, error: Exception, now: float) -> None:
        """Count one more failure."""
        self.failures += 1
        self.error = error
        self._failed_at = now

    def clear(self) -> None:
        """Forget: it succeeded, was redefined, or is loaded by hand."""
        self.failures = 0
        self.error = None

    def wait_s(self, now: float, *, evicts: bool) -> float:
        """Return how long a start still has to wait, 0 when it may come now."""
        return max(0.0, self._failed_at + delay_s(self.failures, evicts=evicts) - now)


# --- measured durations ---------------------------------------------------------------------------

KEPT = 20
HALF_LIFE_S = 1200.0
"""After this time an earlier use of a model counts half."""
UNKNOWN_S = 5.0
"""What a load, or an answer, is taken to last before one has been measured."""
ANSWER_WEIGHT = 1 / 8
"""How much the latest answer of a model counts in the average of what its answers take."""


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


# --- timers ---------------------------------------------------------------------------------------

K = TypeVar("K", bound=Hashable)

_SLACK = 64  # stale models that are not worth a clean-up


class Timers(Generic[K]):
    """One time per key. Setting, cancelling and popping cost the logarithm of their number."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._at)

    def get(self, key: K) -> float | None:
        """Return when *key* is due."""
        return self._at.get(key)

    def set(self, key: K, at: float) -> None:
        """Let *key* be due at *at*, and at no other time."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, key))
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._clean()

    def cancel(self, key: K) -> None:
        """Forget *key*; its place in the heap is cleaned up later."""
        self._at.pop(key, None)

    def pop_due(self, now: float) -> list[K]:
        """Return and forget the keys due by *now*, in order of their times."""
        due: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                due.append(key)
        return due

    def next_at(self) -> float | None:
        """Return the earliest time, None when there is none."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _clean(self) -> None:
        """Drop what was cancelled or moved, so that long deadlines do not pile up."""
        self._heap = [item for item in self._heap if self._at.get(item[2]) == item[0]]
        heapq.heapify(self._heap)
