"""How long a model that keeps failing has to wait before it is started again.

One failure is forgiven: the next request starts the model again. From the second in a row on,
starts wait 1 s, doubling to a minute, and to ten minutes where starting means evicting another
model, because then a broken model also costs the others their place.
"""

from __future__ import annotations

FORGIVEN = 1
FIRST_DELAY_S = 1.0
LONGEST_S = 60.0
LONGEST_EVICTING_S = 600.0
PROVEN_S = 10.0
"""A model that dies within this time of becoming ready has failed to load."""

_DOUBLINGS = 16  # beyond the longest delay; keeps the power small


def delay_s(failures: int, *, evicts: bool) -> float:
    """Return how long after the last of *failures* in a row the next start may come."""
    if failures <= FORGIVEN:
        return 0.0
    longest = LONGEST_EVICTING_S if evicts else LONGEST_S
    return float(min(FIRST_DELAY_S * 2 ** min(failures - FORGIVEN - 1, _DOUBLINGS), longest))


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
        """Forget: it succeeded, was redefined, or somebody loads it by hand."""
        self.failures = 0
        self.error = None

    def wait_s(self, now: float, *, evicts: bool) -> float:
        """Return how long a start still has to wait, 0 when it may come now."""
        return max(0.0, self._failed_at + delay_s(self.failures, evicts=evicts) - now)
