"""Durations as they are told."""

from __future__ import annotations


def milliseconds(seconds: float) -> float:
    """Return *seconds*, which are not negative, in milliseconds with three decimals.

    ``round(seconds * 1000, 3)`` is ten times as long about it, and every record has six.
    """
    micros = float(int(seconds * 1e6 + 0.5))
    return micros / 1000.0
