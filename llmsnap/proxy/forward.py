"""Sends one request to an upstream and turns its answer into ours."""

from __future__ import annotations

from collections.abc import Callable

from llmsnap.proxy.call import Answer, Call
from llmsnap.proxy.client import Body, Exchange, Outgoing
from llmsnap.proxy.stream import ProxyStream, Tap
from llmsnap.proxy.target import Target
from llmsnap.wire.errors import dialect_of, sse_error
from llmsnap.wire.headers import is_event_stream, request_headers, response_headers

REQUEST_ID = "X-Request-Id"


def outgoing(call: Call, target: Target, body: Body, length: int | None) -> Outgoing:
    """Return the request to send for *call*, with *body*."""
    headers = request_headers(call.headers(), target.rule, call.client_ip)
    headers = [header for header in headers if header[0] != REQUEST_ID]
    headers.append((REQUEST_ID, call.id))
    return Outgoing(call.method, call.raw_path, headers, body, length)


def answer(call: Call, exchange: Exchange, tap: Tap | None, on_close: Callable[[], None]) -> Answer:
    """Return the answer that *exchange*, whose head has arrived, gives to *call*'s client."""
    headers = response_headers(exchange.headers)
    on_error = None
    if is_event_stream(headers):
        dialect = dialect_of(call.path)
        on_error = lambda error: sse_error(error, dialect)  # noqa: E731 - two lines, one use
    body = ProxyStream(call, exchange, tap, on_close, on_error=on_error)
    call.status = exchange.status
    return Answer(exchange.status, exchange.reason, headers, body)
