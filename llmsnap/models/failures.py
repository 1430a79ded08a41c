"""Failures in a row, after which the server of a model may be broken. Pure.

An agent that repeats a bad request must not have a model stopped under others. So the failures are
only a reason to ask the server, and after an answer that was right it is asked less often.
"""

from __future__ import annotations

SPAN_S = 10.0
"""Failures within a shorter time are one incident."""
LONGEST_SPAN_S = 640.0


class Failures:
    """The failures in a row of one server. A good answer ends the row."""

    __slots__ = ("_began", "_span_s", "count")

    def __init__(self) -> None:
        self.count = 0
        self._began = 0.0
        self._span_s = SPAN_S

    def __repr__(self) -> str:
        return f"<Failures {self.count} in a row>"

    def succeed(self) -> None:
        """Note a good answer."""
        self.count = 0
        self._span_s = SPAN_S

    def fail(self, limit: int, now: float) -> bool:
        """Note a failure; return whether the server is to be asked.

        It is after *limit* failures in a row over SPAN_S, and again after as many over twice the
        time of before. A limit of 0 is never reached.
        """
        if not self.count:
            self._began = now
        self.count += 1
        if not limit or self.count < limit or now - self._began < self._span_s:
            return False
        self.count = 0
        self._span_s = min(2 * self._span_s, LONGEST_SPAN_S)
        return True
