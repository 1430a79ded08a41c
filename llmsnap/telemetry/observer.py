"""Observes one response: counts bytes, notes times, keeps both ends, parses them at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from llmsnap.errors import ClientGone
from llmsnap.telemetry.usage import NOTHING, CannotDecode, Decode, Usage, decoder_for, extract


def milliseconds(seconds: float) -> float:
    """Return *seconds*, which are not negative, in milliseconds with three decimals.

    ``round(seconds * 1000, 3)`` takes ten times as long, and every record has six of these.
    """
    micros = float(int(seconds * 1e6 + 0.5))
    return micros / 1000.0


Headers = Sequence[tuple[str, str]]

HEAD_BYTES = 4 * 1024
TAIL_BYTES = 8 * 1024
SPLIT_BYTES = 64

# The first text of a response in the frames of every API; not a role, an empty text or a ping.
_TOKEN = re.compile(
    rb'"(?:content|reasoning_content|reasoning|text|delta|thinking|partial_json|arguments)"'
    rb'\s*:\s*"[^"]'
)


class ReceivedRequest(Protocol):
    """The client's request as a record needs it; see ``proxy.request.Request``."""

    id: str
    method: str
    query: str
    requested: str
    client_ip: str
    session: str
    received_at: float

    @property
    def key_name(self) -> str:
        """The name of the client's key, "" without one."""


class ObservedRequest(Protocol):
    """A request's progress as a record needs it; see ``proxy.context.RequestContext``."""

    peer: str | None
    stream: bool
    granted: bool
    queue_s: float
    load_s: float
    swap_id: int | None
    is_recorded: bool
    profile: str
    priority: int
    first_byte_at: float | None

    @property
    def request(self) -> ReceivedRequest:
        """The request as the client sent it."""

    @property
    def selector_id(self) -> str:
        """The selector that chose the model, "" for none."""

    @property
    def sent_path(self) -> str:
        """The path sent upstream, without its query."""

    @property
    def shown_model(self) -> str:
        """The model that the request is counted for."""

    @property
    def shown_headers(self) -> Headers:
        """The headers sent to the model, without secrets of the configuration."""

    @property
    def ticket_number(self) -> int | None:
        """The number of the ticket it waits with, or waited with last; None before the first."""

    def cancel(self) -> None:
        """End the request. Never switches."""


class BodyBuffer(Protocol):
    """Collects the decoded body of a response for a capture."""

    def wants(self, headers: Headers) -> bool:
        """Return whether the body of a response with these headers is kept at all."""
        ...

    def keep(self, data: bytes) -> bool:
        """Append *data*; false if the body is not kept, permanently."""
        ...


class ResponseObserver:
    """Observes the response to one request, from its start to its record.

    ``feed`` is the hot path: no JSON, no log line, no lock. ``finish`` may be called from several
    places; the first call counts. All times are on *clock*, as are those of the context.
    """

    __slots__ = (
        "_clock", "_decode", "_head", "_keeping", "_looking", "_on_finish", "_recent",
        "_recent_bytes", "_seam", "_seeking", "_tail",
        "body_bytes", "buffer", "client_left", "context", "error", "finished", "first_token",
        "path", "response_bytes", "response_headers", "serial", "started", "started_ns", "status",
        "streamed", "undecodable",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - made in one place, by the recorder
        self,
        serial: int,
        context: ObservedRequest,
        *,
        clock: Callable[[], float],
        now_ns: int,
        body_bytes: int = 0,
        buffer: BodyBuffer | None = None,
        on_finish: Callable[[ResponseObserver], None],
    ) -> None:
        self.serial, self.context = serial, context
        self.path = context.sent_path
        self.body_bytes = body_bytes
        """Size of the request's body; the context releases it before the record is made."""
        self.started = context.request.received_at
        self.started_ns = now_ns - int((clock() - self.started) * 1e9)
        self.status = 0
        self.response_headers: Headers = ()
        self.response_bytes = 0
        self.streamed = False
        self.first_token: float | None = None
        self.finished: float | None = None
        self.error: BaseException | None = None
        self.client_left = False
        self.undecodable = False
        self.buffer = buffer
        self._clock, self._on_finish = clock, on_finish
        self._decode: Decode | None = None
        self._keeping = False
        self._seeking = False
        self._looking = True
        self._head = b""
        self._tail = b""  # the end of what came before ``_recent``
        self._recent: list[bytes] = []
        self._recent_bytes = 0
        self._seam = b""

    def __repr__(self) -> str:
        request_id = self.context.request.id
        return f"<ResponseObserver {request_id} {self.phase}, {self.response_bytes} bytes>"

    @property
    def phase(self) -> str:
        """Phase of the request: waiting, sent, answering or finished."""
        if self.finished is not None:
            return "finished"
        if self.context.first_byte_at is not None:
            return "answering"
        return "sent" if self.context.granted else "waiting"

    @property
    def duration_ms(self) -> float:
        """Duration of the request, once it has ended."""
        return milliseconds((self.finished or self.started) - self.started)

    def head(self, status: int, headers: Headers) -> None:
        """Note the head of the response."""
        self.status, self.response_headers = status, headers
        self._keeping = self.buffer is not None and self.buffer.wants(headers)
        encoding = ""
        for name, value in headers:
            lower = name.lower()
            if lower == "content-type":
                self.streamed = "text/event-stream" in value.lower()
            elif lower == "content-encoding":
                encoding = encoding or value
        self._seeking = self.streamed
        if encoding:
            self._start_decoding(encoding)

    def feed(self, chunk: bytes) -> None:
        """Note a chunk of the response, as received from upstream. Never waits, never raises."""
        self.response_bytes += len(chunk)
        if self._looking:
            chunk = self._look(chunk)
        self._recent.append(chunk)
        self._recent_bytes += len(chunk)
        if self._recent_bytes >= TAIL_BYTES:
            self._roll()

    def finish(self, error: BaseException | None = None, *, client_left: bool = False) -> None:
        """End the observation, and request the record; *error* is what ended the response."""
        if self.finished is not None:
            return
        self.finished = self._clock()
        self.error = error
        self.client_left = client_left or isinstance(error, ClientGone)
        self._on_finish(self)

    def release(self) -> None:
        """Drop the kept parts of the response, once the record is made.

        Also the error: its traceback refers to this object, which would be a reference cycle.
        """
        self._tail = self._head = b""
        self._recent, self.buffer, self.error = [], None, None

    def settle(self) -> None:
        """Pass the rest of the body to the buffer. Called once, after the end."""
        if self._keeping and self.buffer is not None:
            self.buffer.keep(b"".join(self._recent))

    def usage(self) -> Usage:
        """Return the token counts and speeds that the response reports."""
        end = self._end()
        start = (self._head or end[:64]).lstrip()[:1]
        if self.undecodable or not (self.streamed or start in (b"{", b"[")):
            return NOTHING
        return extract(end, self._head)

    def beginning(self) -> bytes:
        """Return the first bytes of the response, decoded."""
        return self._head or self._end()[:HEAD_BYTES]

    def _end(self) -> bytes:
        """Return the last bytes of the response, decoded; all of a short one."""
        recent = self._recent
        return recent[0] if len(recent) == 1 and not self._tail else self._tail + b"".join(recent)

    def _look(self, chunk: bytes) -> bytes:
        """Decode the chunk, note the first byte and the first token; return the decoded chunk."""
        now = self._clock()
        if self.context.first_byte_at is None:
            self.context.first_byte_at = now
        if self._decode is not None or self.undecodable:
            chunk = self._decoded(chunk)
        # A frame may be split between chunks, so the end of the one before is searched as well.
        if self._seeking:
            seen = self._seam + chunk
            self._seam = seen[-SPLIT_BYTES:]
            if _TOKEN.search(seen) is not None:
                self.first_token, self._seeking = now, False
        self._looking = bool(self._seeking or self._decode or self.undecodable)
        return chunk

    def _roll(self) -> None:
        """Reduce the recent chunks to both ends of the body, and pass them to the buffer."""
        recent = b"".join(self._recent)
        self._recent, self._recent_bytes = [], 0
        if not self._head:
            self._head = recent[:HEAD_BYTES]
        self._tail = recent[-TAIL_BYTES:]
        if self._keeping and self.buffer is not None:
            self._keeping = self.buffer.keep(recent)

    def _start_decoding(self, encoding: str) -> None:
        try:
            self._decode = decoder_for(encoding)
        except CannotDecode:
            self._give_up_decoding()

    def _decoded(self, chunk: bytes) -> bytes:
        try:
            return self._decode(chunk) if self._decode is not None else b""
        except CannotDecode:
            self._give_up_decoding()
            return b""

    def _give_up_decoding(self) -> None:
        self.undecodable = True
        self._decode, self._keeping = None, False


def header(headers: Headers, wanted: str) -> str:
    """Return the first value of the header *wanted* (lower case), "" if there is none."""
    for name, value in headers:
        if name.lower() == wanted:
            return value
    return ""
