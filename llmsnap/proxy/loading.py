"""Keeps a streamed request alive while its model loads or is silent, by messages or comments.

The answer begins before the model's. From then on an error can only be sent as an event of the
stream, which ends with it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from llmsnap.errors import (
    Aborted,
    ClientGone,
    LlmsnapError,
    UpstreamBroke,
    UpstreamError,
    UpstreamRefused,
)
from llmsnap.http import events_of, is_event_stream, is_sse, sse_comment
from llmsnap.proxy.client import Exchange
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.request import Response
from llmsnap.proxy.stream import ErrorEvent, ProxyStream, note_departure, note_failure
from llmsnap.routing import Lease, Ticket
from llmsnap.telemetry import CannotDecode, decoder_for, header

RULE = "\u2501" * 5 + "\n"
FIRST_MESSAGE_S = (2, 5)
NEXT_MESSAGE_S = (5, 9)
LOADED_EVERY_S = 3.0
"""Seconds between two lines that say how much of a model is loaded, where that is known."""

LOADING_MESSAGES = (
    "Waking the tensors gently...",
    "Counting parameters, lost count, starting over...",
    "Moving weights. Lifting with the legs...",
    "Asking the GPU nicely...",
    "Warming up the matrix multipliers...",
    "Persuading the other model to give up its seat...",
    "Unrolling the attention, it was kinked...",
    "Dusting off the embeddings...",
    "Teaching zeros and ones to queue...",
    "Filling the cache with optimism...",
    "Reading the manual of the previous owner...",
    "Polishing the softmax until it shines...",
    "Sorting the vocabulary, currently at 'aardvark'...",
    "Checking that two plus two still makes four...",
    "Stretching before the long context...",
    "Negotiating with the memory allocator...",
    "Looking for the layer that fell off...",
    "Untangling the residual connections...",
    "Feeding the bits that were good today...",
    "Rehearsing the first token...",
    "Blowing gently on the heat sink...",
    "Turning the fans up to eleven...",
    "Borrowing a few gigabytes from the future...",
    "Aligning things that were nearly aligned...",
    "Quantizing the small talk...",
    "Making room on the bus for more floats...",
    "Practising confident sentences...",
    "Loading the part that knows about cheese...",
    "Normalizing expectations...",
    "Shuffling pages, like a very large deck...",
    "Watering the decision trees next door...",
    "Consulting the scheduler, who is being fair...",
    "Inflating the hidden states...",
    "Picking the best of several temperatures...",
    "Dividing by something that is surely not zero...",
    "Letting the weights settle like good tea...",
    "Drawing the curtains so the model can wake slowly...",
    "Explaining to the disk that it is in the way...",
    "Winding the positional encodings...",
    "Gathering the heads, all of them attentive...",
    "Knocking on VRAM's door...",
    "Translating patience into progress...",
    "Tightening a loose bias...",
    "Ironing the logits...",
    "Remembering where the spare kernel was...",
    "Oiling the feed-forward...",
    "Tasting the prompt from a safe distance...",
    "Bringing the experts to the same room...",
    "Reminding the model who it is...",
    "Peeling another layer...",
    "Copying carefully, then checking the copy...",
    "Switching on one billion very small lamps...",
    "Waiting for the slowest byte, as one should...",
    "Hanging the activations out to dry...",
    "Setting the table for the first batch...",
    "Checking under the page table...",
    "Tuning the strings of the tokenizer...",
    "Carrying the last shard up the stairs...",
    "Almost done, for some value of almost...",
    "Composing an apology for the wait...",
)


LACKS_MEMORY = "waiting until there is memory for the model"


@dataclass(frozen=True, slots=True)
class WaitState:
    """How long a request has waited, its *position* in the queue, and how its model fares.

    *lacks_memory*: the model waits for memory that is not free. *loaded*: how much of it is
    loaded, "" while that is unknown.
    """

    waited_s: float
    position: int | None = None
    lacks_memory: bool = False
    loaded: str = ""


class LoadingStateFrames:
    """Chat completion chunks whose delta is reasoning: a title, dots, loading messages, an end."""

    every_s = 1.0

    def __init__(self, model_id: str, request_id: str, rng: random.Random) -> None:
        self._model_id = model_id
        self._request_id = request_id
        self._random = rng
        self._messages = rng.sample(LOADING_MESSAGES, len(LOADING_MESSAGES))
        self._shown = 0
        self._due_s: float = rng.randint(*FIRST_MESSAGE_S)
        self._position: int | None = None
        self._lacks_memory = False
        self._loaded = ""

    def first(self) -> bytes:
        """Return the title."""
        title = f"llmsnap loading model: {self._model_id}\n"
        return self._frame(RULE, role="assistant") + self._frame(title)

    def tick(self, now: WaitState) -> bytes:
        """Return a dot, a loading message that is due, or what has changed of the wait."""
        lacked, self._lacks_memory = self._lacks_memory, now.lacks_memory
        if now.lacks_memory and not lacked:
            return self._frame(f"\n{LACKS_MEMORY}\n")
        if now.position and now.position > 1 and now.position != self._position:
            self._position = now.position
            return self._frame(f"\nplace {now.position} in the queue\n")
        if now.waited_s < self._due_s:
            return self._frame(".")
        if now.loaded and now.loaded != self._loaded:
            self._loaded = now.loaded
            self._due_s = now.waited_s + LOADED_EVERY_S
            return self._frame(f"\n{now.loaded}\n")
        message = self._messages[self._shown % len(self._messages)]
        self._shown += 1
        self._due_s = now.waited_s + self._random.randint(*NEXT_MESSAGE_S)
        return self._frame(f"\n{message}\n")

    def end(self, waited_s: float, error: str) -> bytes:
        """Return the closing frames, with the failure if there was one."""
        trouble = self._frame(f"\nModel failed to load: {error}\n") if error else b""
        done = b"" if error else self._frame(f"\nDone! ({waited_s:.2f}s)\n")
        return trouble + done + self._frame(RULE) + self._frame(" \n")

    def _frame(self, text: str, **delta: str) -> bytes:
        chunk = {
            "id": f"chatcmpl-{self._request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model_id,
            "choices": [
                {"index": 0, "delta": {**delta, "reasoning_content": text}, "finish_reason": None}
            ],
        }
        return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


MAX_WHOLE_BYTES = 16 << 20
"""Limit in bytes of an unstreamed response that is converted into events."""
MAX_ERROR_CHARS = 16384
"""How much of an error that is not JSON the client gets."""
HEADERS = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]


class WaitFrames(Protocol):
    """Builds what is sent while a request waits; each method returns whole frames, or b""."""

    every_s: float

    def first(self) -> bytes:
        """Return the frames that are sent at once."""

    def tick(self, now: WaitState) -> bytes:
        """Return the frames for a wait that has come this far."""

    def end(self, waited_s: float, error: str) -> bytes:
        """Return the frames at the end of the wait; *error* is why it failed, "" on success."""


class CommentFrames:
    """Comment lines, which clients skip and proxies in between count as traffic.

    No blank line follows: some clients read each as the end of an event, and an event without data
    as broken JSON.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s

    def first(self) -> bytes:
        """See WaitFrames."""
        return sse_comment("waiting for the model")

    def tick(self, now: WaitState) -> bytes:
        """See WaitFrames."""
        place = f", place {now.position} in the queue" if now.position else ""
        why = f", {LACKS_MEMORY}" if now.lacks_memory else ""
        how_far = f", {now.loaded}" if now.loaded else ""
        return sse_comment(f"waiting for {now.waited_s:.0f} s{place}{why}{how_far}")

    def end(self, waited_s: float, error: str) -> bytes:
        """See WaitFrames."""
        return b""


@dataclass(slots=True)
class ModelWait:
    """How a request reaches its model: by the *ticket* it waits for, None if it was sent already.

    *send* sends it, and returns whether the head of the answer was read. After an error
    before that, *another* returns the next ticket, None if the request was sent elsewhere, or
    raises the error. *position*: in the queue; *lacks_memory*, *loaded*: of the model.
    """

    ticket: Ticket | None
    position: Callable[[Ticket], int | None]
    lacks_memory: Callable[[Ticket], bool]
    loaded: Callable[[Ticket], str]
    another: Callable[[LlmsnapError], Ticket | None]
    send: Callable[[Lease], bool]


class LoadingStream:
    """A body that sends *frames* until the ticket is settled, then the upstream's response.

    While that is silent, comments are shown: *wait_head* waits for its head, and returns whether it
    was read. It raises LlmsnapError.
    """

    def __init__(
        self,
        context: RequestContext,
        waiting: ModelWait,
        frames: WaitFrames,
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
        """Return the response that begins now."""
        return Response(200, "OK", list(HEADERS), self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._steps)

    def close(self) -> None:
        """Release everything, at any stage. Never switches greenlets."""
        if self._waiting.ticket is not None:
            self._waiting.ticket.cancel()
        is_delivered = self._rest is not None and self._rest.is_delivered
        if self._failed is None and not is_delivered:
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
                try:
                    self._go_on_after(error)
                except LlmsnapError as last:
                    yield from self._fail(self._context.reason(last))
                    return

    def _go_on_after(self, error: LlmsnapError) -> None:
        """Wait for another server, or again for this one. Raises: the error that ends it all."""
        if self._rest is not None:
            raise error
        self._waiting.ticket = None
        self._waiting.ticket = self._waiting.another(error)
        self._is_loading = False

    def _wait(self) -> Iterator[bytes]:
        """Yield keep-alive frames until the head of the response is read."""
        waiting = self._waiting
        if waiting.ticket is not None:
            lease = yield from self._load(waiting, waiting.ticket)
            if waiting.send(lease):
                return
        comments = CommentFrames(0.0)
        yield comments.first()
        while not self._has_head():
            yield comments.tick(WaitState(self._waited_s))

    def _load(self, waiting: ModelWait, ticket: Ticket) -> Generator[bytes, None, Lease]:
        """Yield frames until *ticket* is settled, and return its lease."""
        self._is_loading = True
        if first := self._frames.first():
            yield first
        while not ticket.wait(self._frames.every_s):
            lacks_memory, loaded = waiting.lacks_memory(ticket), waiting.loaded(ticket)
            place = waiting.position(ticket)
            yield self._frames.tick(WaitState(self._waited_s, place, lacks_memory, loaded))
        lease = self._context.lease = ticket.take()  # at once: the client may leave now
        self._is_loading = False
        if ending := self._frames.end(self._waited_s, ""):
            yield ending
        return lease

    def _answer(self) -> Iterator[bytes]:
        """Yield the upstream's events, or its JSON response as events of the client's API.

        Raises: UpstreamRefused for a response that no event can express; the status line has been
        sent by then.
        """
        exchange = self._context.exchange
        if exchange is None:
            return
        self._rest = ProxyStream(
            self._context, exchange, self._error_event, self._context.comment_every_s
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
        """Yield the decoded body of a response: the head that was sent names no encoding.

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
        """Return the response *whole* as events. Raises: UpstreamRefused if there are none."""
        try:
            document = json.loads(whole)
        except (ValueError, RecursionError):
            document = None
        is_refusal = status >= HTTPStatus.MULTIPLE_CHOICES
        events = None if is_refusal else events_of(document, self._context.request.path)
        if events is not None:
            return events
        if not is_refusal and is_sse(whole):  # whatever its Content-Type says
            return [whole]
        error, text = _refusal_of(document, whole)
        what = f"the model answered {status}"
        if not is_refusal:
            what += " without events" if error is None else " with an error"
        raise UpstreamRefused(what, status, error, text)

    def _fail(self, error: LlmsnapError) -> Iterator[bytes]:
        self._failed = error
        left = isinstance(error, ClientGone)
        note_failure(self._context, error, has_event=not left)
        if left:
            raise Aborted(str(error))
        text = self._context.request.explain(error)
        ending = self._frames.end(self._waited_s, text) if self._is_loading else b""
        yield ending + self._error_event(error, self._last)


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *pieces*. Raises: UpstreamError when they are too large to be converted to events."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_WHOLE_BYTES:
            raise UpstreamError(
                f"the model answered with more than {MAX_WHOLE_BYTES >> 20} MiB in one piece"
            )
        yield piece


def _refusal_of(document: Any, whole: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the error object of a response, or else its text."""
    if isinstance(document, dict):
        error = document.get("error")
        if isinstance(error, dict):
            return error, ""
        if isinstance(document.get("message"), str):  # older vLLM: the error is the document
            return document, ""
        if isinstance(error, str):
            return None, error[:MAX_ERROR_CHARS]
    return None, whole[:MAX_ERROR_CHARS].decode("utf-8", "replace").strip()
