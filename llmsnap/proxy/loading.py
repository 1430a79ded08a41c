"""Keeps a streamed request alive while its model loads or is silent: remarks, or comments.

The answer begins before the model's. From then on an error can only be told as an event of the
stream, which ends with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from llmsnap.errors import (
    Aborted,
    ClientGone,
    LlmsnapError,
    ServerEnded,
    UpstreamBroke,
    UpstreamError,
    UpstreamRefused,
)
from llmsnap.http import sse
from llmsnap.http.headers import is_event_stream
from llmsnap.http.unstreamed import events_of
from llmsnap.proxy.client import Exchange
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.request import Response
from llmsnap.proxy.stream import (
    ErrorEvent,
    ProxyStream,
    note_departure,
    note_failure,
)
from llmsnap.routing.driver import Lease, Ticket
from llmsnap.telemetry.decoding import CannotDecode, decoder_for
from llmsnap.telemetry.observer import header

WHOLE_BYTES = 16 << 20
"""How long an answer in one piece may be that is turned into events."""
SAID_CHARS = 16384
"""How much of an error that is no JSON its client gets."""
HEADERS = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]


class Frames(Protocol):
    """What is shown while a request waits. Each returns bytes of whole frames, or b""."""

    every_s: float

    def first(self) -> bytes:
        """Return what is shown at once."""

    def tick(self, waited_s: float, position: int | None) -> bytes:
        """Return what is shown after *waited_s*, *position* in the queue."""

    def end(self, waited_s: float, error: str) -> bytes:
        """Return what is shown when the wait is over, in vain for the reason *error*."""


class Comments:
    """Comment lines, which clients skip and middle boxes count as life.

    No blank line follows: there are clients that take each for the end of an event, and an event
    without data for broken JSON.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s

    def first(self) -> bytes:
        """See Frames."""
        return sse.comment("waiting for the model")

    def tick(self, waited_s: float, position: int | None) -> bytes:
        """See Frames."""
        place = f", place {position} in the queue" if position else ""
        return sse.comment(f"waiting for {waited_s:.0f} s{place}")

    def end(self, waited_s: float, error: str) -> bytes:
        """See Frames."""
        return b""


@dataclass(slots=True)
class Waiting:
    """How a request gets to its model: by the *ticket* it waits for, None when it was sent already.

    *send* sends it, and returns whether the head of the answer has come. Where that, or waiting for
    the head, raises ServerEnded, there is *another* ticket. *position*: in the queue.
    """

    ticket: Ticket | None
    position: Callable[[Ticket], int | None]
    another: Callable[[], Ticket]
    send: Callable[[Lease], bool]


class LoadingStream:
    """A body that shows *frames* until the ticket is settled, then what the upstream answers.

    While that is silent, comments are shown: *wait_head* waits for its head, and returns whether it
    has come. It raises LlmsnapError.
    """

    def __init__(
        self,
        context: RequestContext,
        waiting: Waiting | None,
        frames: Frames,
        wait_head: Callable[[], bool],
        error_event: ErrorEvent,
    ) -> None:
        self._context = context
        self._waiting = waiting
        self._frames = frames
        self._has_head = wait_head
        self._error_event = error_event
        self._steps = self._run()
        self._rest: ProxyStream | None = None
        self._failed: LlmsnapError | None = None
        self._last = b""
        self._began = time.monotonic()
        self._is_loading = False

    def __repr__(self) -> str:
        return f"<LoadingStream of {self._context!r}>"

    def answer(self) -> Response:
        """Return the answer that begins now."""
        return Response(200, "OK", list(HEADERS), self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._steps)

    def close(self) -> None:
        """Settle everything, however far it came. Never switches greenlets."""
        if self._waiting is not None and self._waiting.ticket is not None:
            self._waiting.ticket.cancel()
        is_told = self._rest is not None and self._rest.is_told
        if self._failed is None and not is_told:
            self._failed = note_departure(self._context)
        self._context.close(self._failed)

    @property
    def _waited_s(self) -> float:
        return time.monotonic() - self._began

    def _run(self) -> Iterator[bytes]:
        while self._rest is None:
            try:
                yield from self._wait()
                yield from self._answer()
            except LlmsnapError as error:
                if not isinstance(error, ServerEnded) or self._waiting is None:
                    yield from self._fail(self._context.reason(error))
                    return
                self._waiting.ticket = self._waiting.another()

    def _wait(self) -> Iterator[bytes]:
        """Show signs of life until the head of the answer has come."""
        waiting = self._waiting
        if waiting is not None and waiting.ticket is not None:
            lease = yield from self._load(waiting, waiting.ticket)
            if waiting.send(lease):
                return
        comments = Comments(0.0)
        yield comments.first()
        while not self._has_head():
            yield comments.tick(self._waited_s, None)

    def _load(self, waiting: Waiting, ticket: Ticket) -> Generator[bytes, None, Lease]:
        """Show frames until *ticket* is settled, and return its lease."""
        self._is_loading = True
        if first := self._frames.first():
            yield first
        while not ticket.wait(self._frames.every_s):
            yield self._frames.tick(self._waited_s, waiting.position(ticket))
        lease = self._context.lease = ticket.take()  # at once: the client may leave now
        self._is_loading = False
        if ending := self._frames.end(self._waited_s, ""):
            yield ending
        return lease

    def _answer(self) -> Iterator[bytes]:
        """Yield the upstream's events, or its JSON answer as the events of the client's API.

        Raises: UpstreamRefused with what cannot be told by events; the status line has been sent.
        """
        exchange = self._context.exchange
        if exchange is None:
            return
        self._rest = ProxyStream(
            self._context, exchange, self._error_event, self._context.patience_s
        )
        streams = exchange.status < HTTPStatus.MULTIPLE_CHOICES and is_event_stream(
            exchange.headers
        )
        encoding = header(exchange.headers, "content-encoding")
        if streams and not encoding:
            yield from self._rest
        elif streams:
            yield from self._pieces(exchange, encoding)
        else:
            pieces = list(_bounded(self._pieces(exchange, encoding)))
            yield b"".join(self._events_of(exchange.status, b"".join(pieces)))

    def _pieces(self, exchange: Exchange, encoding: str) -> Iterator[bytes]:
        """Yield the body of an answer, decoded: our head has promised no encoding.

        Raises: UpstreamError.
        """
        context = self._context
        try:
            decode = decoder_for(encoding)
            while data := exchange.read():
                if context.observer is not None:
                    context.observer.feed(data)
                if piece := data if decode is None else decode(data):
                    self._last = piece
                    yield piece
        except CannotDecode as error:
            raise UpstreamBroke(f"the model's answer cannot be decoded: {error}") from error

    def _events_of(self, status: int, whole: bytes) -> list[bytes]:
        """Return the answer *whole* as events. Raises: UpstreamRefused where there are none."""
        try:
            document = json.loads(whole)
        except (ValueError, RecursionError):
            document = None
        is_refusal = status >= HTTPStatus.MULTIPLE_CHOICES
        events = None if is_refusal else events_of(document, self._context.request.path)
        if events is not None:
            return events
        if not is_refusal and sse.is_stream(whole):  # whatever its Content-Type says
            return [whole]
        error, said = _refusal_of(document, whole)
        what = f"the model answered {status}"
        if not is_refusal:
            what += " without events" if error is None else " with an error"
        raise UpstreamRefused(what, status, error, said)

    def _fail(self, error: LlmsnapError) -> Iterator[bytes]:
        self._failed = error
        left = isinstance(error, ClientGone)
        note_failure(self._context, error, is_told=not left)
        if left:
            raise Aborted(str(error))
        text = self._context.request.explain(error)
        ending = self._frames.end(self._waited_s, text) if self._is_loading else b""
        yield ending + self._error_event(error, self._last)


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *pieces*. Raises: UpstreamError when they are too much to be turned into events."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > WHOLE_BYTES:
            raise UpstreamError(
                f"the model answered with more than {WHOLE_BYTES >> 20} MiB in one piece"
            )
        yield piece


def _refusal_of(document: Any, whole: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the error object of an answer, or else its text."""
    if isinstance(document, dict):
        error = document.get("error")
        if isinstance(error, dict):
            return error, ""
        if isinstance(document.get("message"), str):  # older vLLM: the error is the document
            return document, ""
        if isinstance(error, str):
            return None, error[:SAID_CHARS]
    return None, whole[:SAID_CHARS].decode("utf-8", "replace").strip()
