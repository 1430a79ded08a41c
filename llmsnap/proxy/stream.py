"""The body of a forwarded response: passes each chunk on, and releases everything when closed."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from gevent import socket

from llmsnap.errors import (
    Aborted,
    ClientGone,
    LlmsnapError,
    ModelLeft,
    UpstreamBroke,
    UpstreamRefused,
    in_full,
)
from llmsnap.http import (
    Dialect,
    Headers,
    below_prefix,
    dialect_of,
    ends_anywhere,
    ends_sse,
    is_browser,
    is_event_stream,
    relative_reference,
    response_headers,
    sse_comment,
    sse_error,
)
from llmsnap.proxy import tunnel
from llmsnap.proxy.client import IDEMPOTENT_METHODS, Exchange, UpstreamRequest
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.request import Request, Response

log = logging.getLogger(__name__)

LINGER_NOTHING = struct.pack("ii", 1, 0)  # socket(7): close() then sends RST

STILL_SILENT = sse_comment("waiting for the model")

ErrorEvent = Callable[[LlmsnapError, bytes], bytes]
"""Builds the error event that ends a failed stream, from the error and the bytes sent last."""


class ProxyStream:
    """An iterator over chunks with ``close()``, which closes the request's context.

    A chunk is read, fed to the observer, and passed on: no copy, no lock, no log line. Until the
    first one a comment is sent after each *comment_every_s* seconds of silence (0: none).
    """

    __slots__ = (
        "_comment_every_s", "_context", "_ended_by_event", "_error_event", "_exchange", "_failed",
        "_feed", "_last", "_was_left", "sent",
    )  # fmt: skip

    def __init__(
        self,
        context: RequestContext,
        exchange: Exchange,
        error_event: ErrorEvent | None = None,
        comment_every_s: float = 0.0,
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._error_event = error_event
        self._comment_every_s = comment_every_s
        self._feed = context.observer.feed if context.observer is not None else None
        self._failed: LlmsnapError | None = None
        self._ended_by_event = False
        self._was_left = False
        self._last = b""
        self.sent = 0
        """Bytes passed on."""

    def __repr__(self) -> str:
        return f"<ProxyStream of {self._context!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._failed is not None:
            raise StopIteration if self._ended_by_event else Aborted(str(self._failed))
        if self._comment_every_s and not self._exchange.has_more(self._comment_every_s):
            return STILL_SILENT
        try:
            data = self._exchange.read()
        except LlmsnapError as error:
            reason = self._context.reason(error)
            if self._may_end(reason):
                raise StopIteration from error
            return self._fail(reason)
        if not data:
            raise StopIteration
        if not self.sent:
            self._comment_every_s = 0.0
        if self._feed is not None:
            self._feed(data)
        self._last = data
        self.sent += len(data)
        return data

    def _may_end(self, reason: LlmsnapError) -> bool:
        """Whether a response that ends here for this *reason* is complete for its client."""
        if isinstance(reason, ModelLeft) and ends_anywhere(self._exchange.headers):
            self._was_left = True
            return True
        takes_events = self._error_event is not None or isinstance(reason, ClientGone)
        return takes_events and ends_sse(self._last)

    @property
    def is_delivered(self) -> bool:
        """Whether the client has all it needs: many disconnect at ``[DONE]``, before the end."""
        return self._was_left or self._exchange.is_complete or ends_sse(self._last)

    def close(self) -> None:
        """Release everything; the first call wins. Never switches greenlets.

        A body closed by the server before its end has lost its client.
        """
        context = self._context
        unread = self._failed is None and not self.is_delivered
        if unread and context.request.method != "HEAD":
            self._failed = note_departure(context)
        context.close(self._failed)

    def _fail(self, error: LlmsnapError) -> bytes:
        """Return the event that reports *error*. Raises: Aborted if the stream can have none."""
        self._failed = error
        event = b""
        if self._error_event is not None and not isinstance(error, ClientGone):
            event = self._error_event(error, self._last)
        note_failure(self._context, error, has_event=bool(event))
        if not event:
            raise Aborted(str(error)) from error
        self._ended_by_event = True
        self.sent += len(event)
        return event


def note_failure(context: RequestContext, error: LlmsnapError, *, has_event: bool) -> None:
    """Report a failure after the first byte in the log, the record and the connection.

    After an error event the connection ends as after any response.
    """
    context.status = error.status
    if not isinstance(error, ClientGone):
        log.warning("<%s> %s", context.served_by, in_full(error), extra=context.log_ids)
    if context.request.protocol == "HTTP/1.0" and not has_event:
        reset_on_close(context.request.socket)


def note_departure(context: RequestContext) -> ClientGone:
    """Record that the client disconnected before the end; return the error."""
    error = ClientGone("the client left")
    context.status = error.status
    return error


def reset_on_close(sock: Any) -> None:
    """Make closing *sock* reset it: an orderly end would look like a complete response."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)


REQUEST_ID = "X-Request-Id"
OURS = frozenset({"x-request-id", "x-queue-ms", "x-load-ms"})
"""Headers that llmsnap adds to every response; a server's or peer's own are dropped."""
EVENTS = "text/event-stream"
STAYS_OPEN_S = 10.0
"""A response of unknown length that lasts longer, in seconds, is treated as a feed."""
RECONNECT_S = 15
"""Seconds after which a page reconnects to the event stream of a model that is not loaded."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d{1,9})')


def send(context: RequestContext, exchange: Exchange, meanwhile: Callable[[], None]) -> bool:
    """Send *context*'s request, and return whether the head of the response was read.

    See ``Exchange.send``. Raises: the error of the exchange, or of the interruption.
    """
    payload = context.payload
    request = UpstreamRequest(
        context.request.method,
        exchange.address.base_path + payload.path,
        context.headers,
        payload.body,
        payload.length,
        is_resendable(context),
    )
    try:
        has_come = exchange.send(request, meanwhile, context.comment_every_s)
    except LlmsnapError as error:
        if context.interrupted is not None:
            raise context.interrupted from error
        raise
    if has_come:
        _note_head(context, exchange)
    return has_come


def wait_head(context: RequestContext, exchange: Exchange, max_wait_s: float) -> bool:
    """Continue to wait for the head of the response after ``send`` returned without it."""
    try:
        has_come = exchange.wait_head(max_wait_s)
    except LlmsnapError as error:
        if context.interrupted is not None:
            raise context.interrupted from error
        raise
    if has_come:
        _note_head(context, exchange)
    return has_come


def _note_head(context: RequestContext, exchange: Exchange) -> None:
    """Note the head of the response. Raises: UpstreamRefused if another target serves instead."""
    selection, status = context.selection, exchange.status
    if selection is not None and selection.rejects(status, can_repeat=context.can_repeat):
        raise UpstreamRefused(f"{exchange.address.called} answered {status}", status)
    context.release_body()
    if context.observer is not None:
        context.observer.head(exchange.status, exchange.headers)


def is_resendable(context: RequestContext) -> bool:
    """Whether *context*'s request may be sent again after a connection without a response.

    Repeating an inference request only costs time. The effects of a request below ``/upstream`` are
    unknown, so there only idempotent methods are repeated.
    """
    payload = context.payload
    return payload.is_kept and (not payload.prefix or context.request.method in IDEMPOTENT_METHODS)


def answer(context: RequestContext, exchange: Exchange) -> Response:
    """Return the response of *exchange*, whose head has arrived, for *context*'s client."""
    if exchange.status == 101:
        return _tunnel(context, exchange)
    headers = response_headers(exchange.headers, OURS)
    if context.payload.prefix:
        headers = _relocate(headers, context, exchange)
    if is_event_stream(headers) and _takes_events(headers):
        stream = ProxyStream(
            context, exchange, error_event(context.request), context.comment_every_s
        )
    else:
        stream = ProxyStream(context, exchange)
    return Response(exchange.status, exchange.reason, headers, stream)


def _tunnel(context: RequestContext, exchange: Exchange) -> Response:
    """Return the response that opens a WebSocket. Raises: UpstreamBroke if none was requested."""
    if not tunnel.is_wanted(context.request):
        raise UpstreamBroke(f"{exchange.address.called} switched protocols unasked")

    def end() -> None:
        if context.observer is not None:
            context.observer.response_bytes = found.body.sent
        context.close(context.interrupted)

    found = tunnel.answer(context.request, exchange, end)
    context.on_interrupt(found.body.cut)
    return found


def error_event(request: Request) -> ErrorEvent:
    """Return the builder of the error event that ends a stream of *request*'s API."""
    dialect = dialect_of(request.path)

    def event(error: LlmsnapError, sent: bytes) -> bytes:
        numbers = SEQUENCE.findall(sent) if dialect is Dialect.RESPONSES else []
        number = int(numbers[-1]) + 1 if numbers else 0
        return sse_error(error, dialect, sent, number, text=request.explain(error))

    return event


def stays_open(context: RequestContext, exchange: Exchange) -> float | None:
    """Return the seconds after which a response to a GET is treated as staying open.

    0: it is an event stream. None: it has a known end, or is no such response.
    """
    if not context.payload.prefix or exchange.is_complete:
        return None
    if any(name.lower() == "content-length" for name, _ in exchange.headers):
        return None
    return 0.0 if ends_anywhere(exchange.headers) else STAYS_OPEN_S


def is_event_source(request: Request) -> bool:
    """Whether *request* is a browser's ``EventSource``, which reconnects when its stream ends."""
    wants = request.accept.strip().lower() == EVENTS
    return wants and request.method == "GET" and is_browser(request.user_agent)


def come_back_later() -> Response:
    """Return an event stream that ends at once and makes its client reconnect later.

    A browser does not reconnect after any other status than 200.
    """
    body = f"retry: {RECONNECT_S * 1000}\n: the model is not loaded\n\n".encode()
    headers = [("Content-Type", EVENTS), ("Cache-Control", "no-store")]
    return Response(200, "", [*headers, ("Content-Length", str(len(body)))], [body])


def document(content: dict[str, Any]) -> Response:
    """Return a JSON document as the response."""
    body = msgspec.json.encode(content)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Response(200, "", headers, [body])


def _takes_events(headers: Headers) -> bool:
    """Whether events can be inserted into the stream: it is uncompressed and of unknown length."""
    names = {name.lower() for name, _ in headers}
    return names.isdisjoint({"content-encoding", "content-length"})


def redirect(request: Request, location: str) -> Response:
    """Redirect the client to the path *location*, in a way that keeps its method."""
    status = 301 if request.method in {"GET", "HEAD"} else 308
    target = relative_reference(location, request.raw_path)
    return Response(status, "", [("Location", target), ("Content-Length", "0")], [])


def _relocate(headers: Headers, context: RequestContext, exchange: Exchange) -> Headers:
    """Rewrite redirects of an upstream to stay below the prefix under which it is served."""
    address, prefix = exchange.address, context.payload.prefix
    hosts = {context.request.environ.get("HTTP_HOST", ""), f"{address.ip}:{address.port}"}
    if address.host in LOCAL_NAMES:
        hosts |= {f"{name}:{address.port}" for name in LOCAL_NAMES}
    base = f"{address.scheme}://{address.netloc}{address.base_path}"
    return [
        (name, _moved(value, below_prefix(value, prefix, base, hosts), context.request.raw_path))
        if name.lower() == "location"
        else (name, value)
        for name, value in headers
    ]


def _moved(given: str, seen: str, requested: str) -> str:
    """Return a Location: as *given* where it leads elsewhere, else relative to *requested*."""
    return seen if seen == given else relative_reference(seen, requested)
