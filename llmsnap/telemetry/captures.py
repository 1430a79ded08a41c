"""Captures, kept within a budget of bytes: the oldest go first."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from llmsnap.telemetry.capture import MIB, PACK_FROM_BYTES, Capture

log = logging.getLogger(__name__)

Make = Callable[[], Capture]
Prepare = Callable[[Capture], Capture]

# Runs a function elsewhere if the third one says so, and hands its result to the second one here.
Offload = Callable[
    [Callable[[], Capture | None], Callable[[Capture | None], None], Callable[[], bool]], None
]


def run_here(
    work: Callable[[], Capture | None],
    done: Callable[[Capture | None], None],
    wanted: Callable[[], bool],
) -> None:
    """Do the work at once."""
    if wanted():
        done(work())


class Captures:
    """Captures by id, at most *budget* bytes of them; a budget of 0 or less keeps none.

    *on_evict* hears the id of each capture that had to go. Bodies are compressed by *offload*
    after they were stored. Its methods never switch greenlets.
    """

    def __init__(
        self,
        budget: int = 5 * MIB,
        *,
        on_evict: Callable[[int], None] = lambda _: None,
        offload: Offload = run_here,
    ) -> None:
        self.budget = budget
        self.used = 0
        self._on_evict = on_evict
        self._offload = offload
        # Of all, oldest first. A plain dict would look for its oldest among all that have gone.
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._raw: dict[int, Make] = {}
        self._captures: dict[int, Capture] = {}  # the others

    def __repr__(self) -> str:
        return f"<Captures {len(self)}, {self.used} of {self.budget} bytes>"

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, capture_id: int) -> bool:
        return capture_id in self._sizes

    @property
    def enabled(self) -> bool:
        """Whether anything is kept at all."""
        return self.budget > 0

    def add(self, capture: Capture, prepare: Prepare | None = None) -> bool:
        """Keep *capture*; see ``add_later``."""
        largest = max(len(capture.req_body.data), len(capture.resp_body.data))
        return self.add_later(capture.id, capture.size(), lambda: capture, prepare, largest)

    def add_later(
        self,
        capture_id: int,
        size: int,
        make: Make,
        prepare: Prepare | None = None,
        largest: int = 0,
    ) -> bool:
        """Keep the capture that *make* returns when somebody asks for it: few are ever looked at.

        Evicts the oldest as needed; false if *size* is larger than the budget. *prepare* is run
        on it by *offload*, and in any case before anyone sees it; so are bodies compressed of
        which the *largest* is worth it.
        """
        if size > self.budget:
            if self.enabled:
                log.warning("capture %d: %d bytes do not fit captureBuffer", capture_id, size)
            return False
        if self.used + size > self.budget:
            self._evict(self.budget - size)
        self._sizes[capture_id] = size
        self.used += size
        self._raw[capture_id] = make if prepare is None else partial(_prepared, make, prepare)
        if prepare is not None or largest >= PACK_FROM_BYTES:
            # By its id: one that is evicted meanwhile must not live on in the queue.
            finish = partial(self._finished, capture_id)
            self._offload(finish, self._replace, partial(self.__contains__, capture_id))
        return True

    def get(self, capture_id: int) -> Capture | None:
        """Return a capture, or None when it never was or is gone."""
        self._replace(self._finished(capture_id))
        return self._captures.get(capture_id)

    def resize(self, budget: int) -> None:
        """Keep at most *budget* bytes from now on."""
        self.budget = budget
        self._evict(max(0, budget))

    def _evict(self, room: int) -> None:
        while self.used > room:
            oldest, size = self._sizes.popitem(last=False)
            self.used -= size
            self._raw.pop(oldest, None)
            self._captures.pop(oldest, None)
            self._on_evict(oldest)

    def _finished(self, capture_id: int) -> Capture | None:
        """Return the finished form of one that has none yet. Run in any thread."""
        raw = self._raw.get(capture_id)
        return None if raw is None else raw().pack()

    def _replace(self, capture: Capture | None) -> None:
        """Put the finished form in its place, unless it was evicted meanwhile."""
        if capture is not None and self._raw.pop(capture.id, None) is not None:
            self._captures[capture.id] = capture
            held, self._sizes[capture.id] = self._sizes[capture.id], capture.size()
            self.used += self._sizes[capture.id] - held


def _prepared(make: Make, prepare: Prepare) -> Capture:
    return prepare(make())
