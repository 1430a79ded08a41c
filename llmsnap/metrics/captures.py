"""Requests and their answers, kept within a budget of bytes: the oldest go first."""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from itertools import chain

from msgspec import Struct, field
from msgspec.structs import replace

log = logging.getLogger(__name__)

MIB = 1024 * 1024
PACK_FROM_BYTES = 8 * 1024  # below, handing it to a thread costs more than it saves

Prepare = Callable[["Capture"], "Capture"]

# Runs a function elsewhere if the third one says so, and hands its result to the second one here.
Offload = Callable[
    [Callable[[], "Capture | None"], Callable[["Capture | None"], None], Callable[[], bool]], None
]


class Mask(StrEnum):
    """How much of a route's requests is captured."""

    NONE = "none"
    HEADERS = "headers"
    FULL = "full"


class Body(Struct, frozen=True):
    """A captured body; *omitted* says why there is none (too large, masked), *size* its length."""

    data: bytes = b""
    size: int = 0
    omitted: str = ""
    packed: bool = False

    @classmethod
    def of(cls, data: bytes) -> Body:
        """Return the body *data*."""
        return cls(data, len(data))

    def content(self) -> bytes:
        """Return the bytes as they were."""
        return zlib.decompress(self.data) if self.packed else self.data

    def pack(self) -> Body:
        """Return the body in less memory, if that is worth it."""
        if self.packed or len(self.data) < PACK_FROM_BYTES:
            return self
        packed = zlib.compress(self.data, 1)
        return replace(self, data=packed, packed=True) if len(packed) < len(self.data) else self


class Capture(Struct, frozen=True):
    """One request and its answer, without secrets. Its id is that of the activity record."""

    id: int
    req_path: str
    req_headers: dict[str, str] = field(default_factory=dict)
    req_body: Body = Body()
    resp_headers: dict[str, str] = field(default_factory=dict)
    resp_body: Body = Body()
    method: str = "POST"
    status: int = 0
    started_ms: int = 0
    duration_ms: float = 0.0

    def size(self) -> int:
        """Return the bytes this capture holds: path, headers, bodies."""
        headers = (self.req_headers, self.resp_headers)
        texts = chain(*headers, *(one.values() for one in headers))
        bodies = len(self.req_body.data) + len(self.resp_body.data)
        return len(self.req_path) + sum(map(len, texts)) + bodies

    def pack(self) -> Capture:
        """Return the capture in less memory."""
        return replace(self, req_body=self.req_body.pack(), resp_body=self.resp_body.pack())


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
        self._raw: dict[int, Callable[[], Capture]] = {}
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
        make: Callable[[], Capture],
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
        self._raw[capture_id] = partial(_made, make, prepare)
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
        return None if raw is None else raw()

    def _replace(self, capture: Capture | None) -> None:
        """Put the finished form in its place, unless it was evicted meanwhile."""
        if capture is not None and self._raw.pop(capture.id, None) is not None:
            self._captures[capture.id] = capture
            held, self._sizes[capture.id] = self._sizes[capture.id], capture.size()
            self.used += self._sizes[capture.id] - held


def _made(make: Callable[[], Capture], prepare: Prepare | None) -> Capture:
    capture = make()
    return (prepare(capture) if prepare is not None else capture).pack()
