"""What became of each swap: one record per swap, and the last few of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class LoadKind(StrEnum):
    """How a model becomes ready."""

    START = "start"
    WAKE = "wake"


class Action(StrEnum):
    """How a model leaves."""

    STOP = "stop"
    SLEEP = "sleep"


class SwapOutcome(StrEnum):
    """How a swap ended.

    ``aborted``: nobody waited for it any more, or somebody unloaded the target, before it was
    ready; this includes swaps that shut gates and opened them again without evicting anybody.
    """

    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Eviction:
    """*model_id* has to leave, by way of *action*."""

    model_id: str
    action: Action


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """One finished swap.

    *reason* is who asked: ``request``, ``load`` (by hand) or ``preload``. *waits_s* are the waits
    of the requests granted when the target became ready, oldest first. *phases* are (name,
    seconds) in the order they happened: ``wait`` (from the first waiter to the decision),
    ``drain``, ``evict``, ``load``. *reopened*: the drain took so long that the gates opened once
    more. *began_s* and *ended_s* are on the scheduler's clock.
    """

    swap_id: int
    target: str
    kind: LoadKind
    outcome: SwapOutcome
    evicted: tuple[Eviction, ...]
    reason: str
    waits_s: tuple[float, ...]
    phases: tuple[tuple[str, float], ...]
    reopened: bool
    began_s: float
    ended_s: float
    error: str = ""

    @property
    def waiters(self) -> int:
        """How many requests were granted when the target became ready."""
        return len(self.waits_s)

    def __str__(self) -> str:
        evicted = ", ".join(f"{e.model_id} ({e.action})" for e in self.evicted) or "nobody"
        phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.phases)
        text = (
            f"swap {self.swap_id}: {self.kind} {self.target} for {self.reason}, {self.outcome}; "
            f"evicted {evicted}; {self.waiters} waited; {phases}"
        )
        return f"{text}; {self.error}" if self.error else text


class SwapRing:
    """The last *size* swap records, oldest first."""

    def __init__(self, size: int = 200) -> None:
        self._records: deque[SwapRecord] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: SwapRecord) -> None:
        """Keep *record*, forgetting the oldest when full."""
        self._records.append(record)

    def snapshot(self) -> list[SwapRecord]:
        """Return the records, oldest first."""
        return list(self._records)
