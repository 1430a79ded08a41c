"""One request and its answer, as it is kept for whoever wants to see what went wrong."""

from __future__ import annotations

import zlib
from enum import StrEnum
from itertools import chain

from msgspec import Struct, field
from msgspec.structs import replace

MIB = 1024 * 1024
PACK_FROM_BYTES = 8 * 1024  # below, handing it to a thread costs more than it saves


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
