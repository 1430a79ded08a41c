"""Keeps a streamed request alive while its model loads: remarks for people, or comments.

The answer begins before the model is ready. From then on an error can only be told as an event
of the stream, which ends with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from llmsnap.errors import Aborted, ClientGone, LlmsnapError, ServerEnded, UpstreamError
from llmsnap.proxy.call import Answer
from llmsnap.proxy.job import Job
from llmsnap.proxy.stream import (
    LastWords,
    ProxyStream,
    note_departure,
    note_failure,
)
from llmsnap.routing.leases import Lease, Ticket
from llmsnap.wire.headers import is_event_stream
from llmsnap.wire.sse import comment

ERROR_BODY_BYTES = 16384
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
    """SSE comments, which clients skip and middle boxes count as life."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s

    def first(self) -> bytes:
        """See Frames."""
        return comment("waiting for the model")

    def tick(self, waited_s: float, position: int | None) -> bytes:
        """See Frames."""
        place = f", place {position} in the queue" if position else ""
        return comment(f"waiting for {waited_s:.0f} s{place}")

    def end(self, waited_s: float, error: str) -> bytes:
        """See Frames."""
        return b""


@dataclass(slots=True)
class Waiting:
    """The *ticket* a request waits for, its *position* in the queue, and how to get *another*."""

    ticket: Ticket
    position: Callable[[Ticket], int | None]
    another: Callable[[], Ticket]


class LoadingStream:
    """A body that shows *frames* until the ticket is settled, then what *forward* answers."""

    def __init__(
        self,
        job: Job,
        waiting: Waiting,
        frames: Frames,
        forward: Callable[[Lease], ProxyStream],
        last_words: LastWords,
    ) -> None:
        self._job = job
        self._waiting = waiting
        self._frames = frames
        self._forward = forward
        self._last_words = last_words
        self._steps = self._run()
        self._rest: ProxyStream | None = None
        self._failed: LlmsnapError | None = None

    def __repr__(self) -> str:
        return f"<LoadingStream of {self._job!r}>"

    def answer(self) -> Answer:
        """Return the answer that begins now."""
        return Answer(200, "OK", list(HEADERS), self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._steps)

    def close(self) -> None:
        """Settle everything, however far it came. Never switches greenlets."""
        self._waiting.ticket.cancel()
        is_told = self._rest is not None and self._rest.is_told
        if self._failed is None and not is_told:
            self._failed = note_departure(self._job.call)
        self._job.close(self._failed)

    def _run(self) -> Iterator[bytes]:
        began = time.monotonic()
        rest: ProxyStream | None = None
        while rest is None:
            try:
                yield from self._wait(began)
                lease = self._waiting.ticket.take()
            except LlmsnapError as error:
                yield from self._fail(self._job.reason(error), time.monotonic() - began)
                return
            if ending := self._frames.end(time.monotonic() - began, ""):
                yield ending
            try:
                self._rest = rest = self._forward(lease)
                self._check_answer()
            except ServerEnded:
                self._waiting.ticket = self._waiting.another()
            except LlmsnapError as error:
                yield from self._fail(self._job.reason(error))
                return
        yield from rest

    def _wait(self, began: float) -> Iterator[bytes]:
        ticket = self._waiting.ticket
        if first := self._frames.first():
            yield first
        while not ticket.wait(self._frames.every_s):
            yield self._frames.tick(time.monotonic() - began, self._waiting.position(ticket))

    def _check_answer(self) -> None:
        """Raise what an upstream that refuses says: its status line can no longer be passed on."""
        exchange = self._job.exchange
        if exchange is None or (exchange.status == 200 and is_event_stream(exchange.headers)):
            return
        said = b""
        while len(said) < ERROR_BODY_BYTES and (data := exchange.read()):
            said += data
        text = said[:ERROR_BODY_BYTES].decode("utf-8", "replace").strip()
        if exchange.status < 400:
            raise UpstreamError(f"the model answered {exchange.status} without a stream: {text}")
        error = UpstreamError(f"the model answered {exchange.status}: {text}")
        error.status = exchange.status
        raise error

    def _fail(self, error: LlmsnapError, waited_s: float | None = None) -> Iterator[bytes]:
        self._failed = error
        left = isinstance(error, ClientGone)
        note_failure(self._job, error, is_told=not left)
        if left:
            raise Aborted(str(error))
        text = self._job.call.explain(error)
        ending = b"" if waited_s is None else self._frames.end(waited_s, text)
        yield ending + self._last_words(error, b"")
