"""Python's garbage collector, set so that it does not stop streams.

Requests leave no reference cycles behind (their parts let go of each other when they end), so the
collector finds next to nothing. Each of its full passes would look at every object that the
imported modules and the configuration hold: 30 to 60 ms in which no token passes.
"""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 50)
"""New objects before a pass over the youngest, and passes before one over the next generation."""


def spare_what_stays() -> None:
    """Have the collector never look again at what exists now. Call once all is loaded."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
