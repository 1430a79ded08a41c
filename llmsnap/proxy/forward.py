"""Sends one request to an upstream and turns its answer into ours."""

from __future__ import annotations

import re
from collections.abc import Callable

from llmsnap.errors import LlmsnapError, UpstreamBroke
from llmsnap.http.cors import is_browser
from llmsnap.http.errors import Dialect, dialect_of, sse_error
from llmsnap.http.headers import (
    Headers,
    below_prefix,
    ends_anywhere,
    is_event_stream,
    response_headers,
)
from llmsnap.http.paths import relative
from llmsnap.proxy import tunnel
from llmsnap.proxy.client import IDEMPOTENT_METHODS, Exchange, Outgoing
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.request import Request, Response
from llmsnap.proxy.stream import ErrorEvent, ProxyStream

REQUEST_ID = "X-Request-Id"
OURS = frozenset({"x-request-id", "x-queue-ms", "x-load-ms"})
"""Headers every answer gets from us: a server or peer that sends them too would double them."""
EVENTS = "text/event-stream"
STAYS_OPEN_S = 10.0
"""What is sent for longer, with no end announced, is taken for a feed."""
RECONNECT_S = 15
"""How often a page asks for the events of a model that is not loaded."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d{1,9})')


def send(
    context: RequestContext,
    exchange: Exchange,
    meanwhile: Callable[[], None],
    patience_s: float = 0.0,
) -> bool:
    """Send *context*'s request, and return whether the head of the answer has come.

    See ``Exchange.send``. Raises: why it failed, or why it was interrupted.
    """
    payload = context.payload
    target = exchange.address.base_path + payload.path

    def wait() -> bool:
        request = Outgoing(
            context.request.method,
            target,
            context.headers,
            payload.body(),
            payload.length,
            is_resendable(context),
        )
        return exchange.send(request, meanwhile, patience_s)

    return _hears(context, exchange, wait)


def wait_head(context: RequestContext, exchange: Exchange, patience_s: float) -> bool:
    """Go on waiting for the head of the answer where ``send`` returned without it."""
    return _hears(context, exchange, lambda: exchange.wait_head(patience_s))


def _hears(context: RequestContext, exchange: Exchange, wait: Callable[[], bool]) -> bool:
    try:
        has_come = wait()
    except LlmsnapError as error:
        reason = context.reason(error)
        if reason is error:
            raise
        raise reason from error
    if has_come:
        context.release_body()
        if context.observer is not None:
            context.observer.head(exchange.status, exchange.headers)
    return has_come


def is_resendable(context: RequestContext) -> bool:
    """Whether *context*'s request may be sent again when its first connection brings no answer.

    To ask a model twice costs time and nothing else. What a request below ``/upstream`` does is not
    known, so there only idempotent methods are repeated.
    """
    payload = context.payload
    return payload.is_kept and (not payload.prefix or context.request.method in IDEMPOTENT_METHODS)


def answer(context: RequestContext, exchange: Exchange) -> Response:
    """Return the answer that *exchange*, whose head has arrived, gives to *context*'s client."""
    if exchange.status == 101:
        return _tunnel(context, exchange)
    headers = response_headers(exchange.headers, OURS)
    if context.payload.prefix:
        headers = _relocate(headers, context, exchange)
    if _takes_events(headers):
        stream = ProxyStream(context, exchange, error_event(context.request), context.patience_s)
    else:
        stream = ProxyStream(context, exchange)
    return Response(exchange.status, exchange.reason, headers, stream)


def _tunnel(context: RequestContext, exchange: Exchange) -> Response:
    """Return the answer that opens a WebSocket. Raises: UpstreamBroke when nobody asked for one."""
    if not tunnel.is_wanted(context.request):
        raise UpstreamBroke(f"{exchange.address.called} switched protocols unasked")

    def end() -> None:
        if context.observer is not None:
            context.observer.response_bytes = found.body.sent
        context.close(context.interrupted)

    found = tunnel.answer(context.request, exchange, end)
    context.react(found.body.cut)
    return found


def error_event(request: Request) -> ErrorEvent:
    """Return what makes the error event that ends a stream of *request*'s API."""
    dialect = dialect_of(request.path)

    def event(error: LlmsnapError, sent: bytes) -> bytes:
        numbers = SEQUENCE.findall(sent) if dialect is Dialect.RESPONSES else []
        number = int(numbers[-1]) + 1 if numbers else 0
        return sse_error(error, dialect, sent, number, text=request.explain(error))

    return event


def stays_open(context: RequestContext, exchange: Exchange) -> float | None:
    """Return in how many seconds the answer to a GET has shown that it stays open.

    0: an event stream does by its nature. None: it has an end, or is no such answer.
    """
    if context.request.method != "GET" or not context.payload.prefix or exchange.is_complete:
        return None
    if any(name.lower() == "content-length" for name, _ in exchange.headers):
        return None
    return 0.0 if ends_anywhere(exchange.headers) else STAYS_OPEN_S


def is_event_source(request: Request) -> bool:
    """Whether *request* is a browser's ``EventSource``, which asks again when its stream ends."""
    wants = request.accept.strip().lower() == EVENTS
    return wants and request.method == "GET" and is_browser(request.user_agent)


def come_back_later() -> Response:
    """Return an event stream that ends at once, and is asked for again some time later.

    Any other status than 200 would make a browser give up.
    """
    body = f"retry: {RECONNECT_S * 1000}\n: the model is not loaded\n\n".encode()
    headers = [("Content-Type", EVENTS), ("Cache-Control", "no-store")]
    return Response(200, "", [*headers, ("Content-Length", str(len(body)))], [body])


def _takes_events(headers: Headers) -> bool:
    """Whether an event of ours may be put into an answer: a plain stream of unknown length."""
    if not is_event_stream(headers):
        return False
    names = {name.lower() for name, _ in headers}
    return names.isdisjoint({"content-encoding", "content-length"})


def redirect(request: Request, location: str) -> Response:
    """Redirect the client to the path *location*, in a way that keeps its method."""
    status = 301 if request.method in {"GET", "HEAD"} else 308
    target = relative(location, request.raw_path)
    return Response(status, "", [("Location", target), ("Content-Length", "0")], [])


def _relocate(headers: Headers, context: RequestContext, exchange: Exchange) -> Headers:
    """Keep redirects of an upstream below the prefix it is seen under."""
    address, prefix = exchange.address, context.payload.prefix
    hosts = {context.request.header("HTTP_HOST"), f"{address.ip}:{address.port}"}
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
    return seen if seen == given else relative(seen, requested)
