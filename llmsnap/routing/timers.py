"""All points in time the scheduler waits for, behind the one timer of its driver."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64  # stale entries that are not worth a clean-up


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
