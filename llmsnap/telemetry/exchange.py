"""What a capture is made of, as long as nobody has asked for it: in one piece of memory."""

from __future__ import annotations

from functools import partial
from itertools import chain

import msgspec
from msgspec import Struct

from llmsnap.telemetry.capture import Body, Capture
from llmsnap.telemetry.captures import Make
from llmsnap.telemetry.observer import Headers, header
from llmsnap.telemetry.policy import CapturePolicy
from llmsnap.telemetry.redact import redact_headers

PACKED_BYTES = 64 * 1024
"""Up to this size a copy costs less than thousands of parts that are let go one by one, later, when
the processor has forgotten where they are.
"""


class RawExchange(Struct, array_like=True):
    """A request that is over, and its answer."""

    id: int
    method: str
    path: str
    query: str
    headers: Headers
    body_bytes: int
    request: bytes
    """The request's body, if it was held."""
    status: int
    response_headers: Headers
    response_bytes: int
    response: bytes
    omitted_reason: str
    """Why the body of the answer is not here; "" if it is."""
    started_ms: int
    duration_ms: float

    def size(self) -> int:
        """Return about how many bytes the capture has: path, headers, bodies."""
        texts = sum(map(len, chain.from_iterable(chain(self.headers, self.response_headers))))
        return len(self.path) + texts + len(self.request) + len(self.response)

    def kept(self, policy: CapturePolicy) -> tuple[int, Make]:
        """Return how many bytes are kept, and what makes the capture of them."""
        if len(self.request) + len(self.response) > PACKED_BYTES:
            return self.size(), partial(self.capture, policy)
        data = _encode(self)
        return len(data), Packed(data, policy)

    def capture(self, policy: CapturePolicy) -> Capture:
        """Return the capture, without secrets in path and headers. Needs no event loop."""
        return Capture(
            id=self.id,
            req_path=policy.redactor.path(self.path, self.query),
            req_headers=redact_headers(self.headers),
            req_body=self._request_body(policy),
            resp_headers=_decoded_headers(self.response_headers),
            resp_body=self._response_body(),
            method=self.method,
            status=self.status,
            started_ms=self.started_ms,
            duration_ms=self.duration_ms,
        )

    def _request_body(self, policy: CapturePolicy) -> Body:
        if self.request or not self.body_bytes:
            return Body.of(self.request)
        reason = policy.omitted_reason(self.body_bytes, self.headers, self.path)
        return Body(size=self.body_bytes, omitted=reason or "not held in memory")

    def _response_body(self) -> Body:
        if self.omitted_reason:
            return Body(size=self.response_bytes, omitted=self.omitted_reason)
        return Body.of(self.response)


class Packed(Struct, gc=False):
    """What was seen, until somebody looks; what can be captured of it *policy* said then."""

    data: bytes
    policy: CapturePolicy

    def __call__(self) -> Capture:
        """Return the capture."""
        return _decode(self.data).capture(self.policy)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RawExchange).decode


def _decoded_headers(headers: Headers) -> dict[str, str]:
    """Return the answer's headers, as they are for the decoded body."""
    shown = redact_headers(headers)
    if not header(headers, "content-encoding"):
        return shown
    gone = {"content-encoding", "content-length"}
    return {name: value for name, value in shown.items() if name.lower() not in gone}
