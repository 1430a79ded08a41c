"""Errors as HTTP responses and as stream events, in the client's API dialect."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from llmsnap.errors import (
    LlmsnapError,
    MethodNotAllowed,
    ModelDoesNotFit,
    ProcessError,
    Unauthorized,
    UpstreamRefused,
)
from llmsnap.http.headers import Headers, prefers_text
from llmsnap.http.lookup import dialect_of
from llmsnap.http.routes import Dialect
from llmsnap.http.sse import ends_frame, sse_event

NO_RETRY_CODES = frozenset({ProcessError.code, ModelDoesNotFit.code})
DIALOG, QUIET = 'Basic realm="llmsnap"', 'Bearer realm="llmsnap"'
"""Challenges: at the first, browsers ask the user for a key."""
DEFAULT_RETRY_AFTER_S = 1

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus} | {
    499: "499 Client Closed Request"
}

OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
ANTHROPIC_TYPES = OPENAI_TYPES | {
    409: "conflict_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}


def status_line(status: int) -> str:
    """Return status and reason phrase as a WSGI status line."""
    return STATUS_LINES.get(status) or f"{status} Unknown"


def error_answer(
    error: LlmsnapError, accept: str = "", path: str = "", text: str = ""
) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of the response for *error*, whose message *text* replaces.

    JSON in the dialect of *path*, or plain text for a client whose *accept* prefers that.
    """
    if prefers_text(accept):
        kind = "text/plain; charset=utf-8"
        body = f"{text or error}\n".encode("utf-8", "replace")
    else:
        kind = "application/json"
        body = _dump(envelope(error, dialect_of(path), text)).encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return error.status, headers + _advice(error), body


def _advice(error: LlmsnapError) -> Headers:
    """Return the headers that control a client's retries.

    A model that failed, or never fits, stays broken: client libraries that honour ``Retry-After``
    would show the cause minutes later. Those of OpenAI and Anthropic stop at once on
    ``x-should-retry: false``. They also retry every 409, which a request that may not load a model
    gets.
    """
    if error.code in NO_RETRY_CODES:
        return [("X-Should-Retry", "false")]
    headers = []
    if error.status == HTTPStatus.CONFLICT:
        headers.append(("X-Should-Retry", "false"))
    if isinstance(error, Unauthorized):
        headers.append(("WWW-Authenticate", DIALOG if error.dialog else QUIET))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", ", ".join(error.allow)))
    wait_s = error.retry_after_s
    if wait_s is None and error.status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = DEFAULT_RETRY_AFTER_S
    if wait_s is not None:
        headers.append(("Retry-After", str(max(1, math.ceil(wait_s)))))
    return headers


def envelope(
    error: LlmsnapError, dialect: Dialect = Dialect.OPENAI, text: str = ""
) -> dict[str, Any]:
    """Return the JSON document of *error*, with *text* as its message if given.

    An upstream's own error object is passed on unchanged.
    """
    message = text or str(error)
    if isinstance(error, UpstreamRefused):
        if error.document is not None:
            typed = {"type": "error"} if dialect is Dialect.ANTHROPIC else {}
            return {**typed, "error": error.document}
        if error.said:
            message = f"{message}: {error.said}"
    if dialect is Dialect.ANTHROPIC:
        return {
            "type": "error",
            "error": {"type": _kind(error, ANTHROPIC_TYPES, "api_error"), "message": message},
        }
    return {
        "error": {
            "message": message,
            "type": _kind(error, OPENAI_TYPES, "server_error"),
            "param": error.param,
            "code": error.code,
        }
    }


def _kind(error: LlmsnapError, types: dict[int, str], server_side: str) -> str:
    other = (
        server_side if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    )
    return types.get(error.status, other)


def sse_error(
    error: LlmsnapError,
    dialect: Dialect = Dialect.OPENAI,
    sent: bytes = b"",
    sequence: int = 0,
    *,
    text: str = "",
) -> bytes:
    """Return the error event that ends a stream already begun; nothing may follow it.

    *sent* is the end of what the client has received: an incomplete frame is terminated first, so
    that the event is not parsed as its rest. *sequence* is the number of the event (Responses API
    only), *text* the message, if it is not that of *error*.
    """
    document = envelope(error, dialect, text)
    event = "" if dialect is Dialect.OPENAI else "error"
    if dialect is Dialect.RESPONSES:
        # The schema has the fields at the top; the server and its client library use "error".
        fields = {name: _text(document["error"].get(name)) for name in ("code", "message", "param")}
        document = {"type": "error", "sequence_number": sequence, **fields, **document}
    frame = sse_event(_dump(document), event)
    return frame if ends_frame(sent) else b"\n\n" + frame


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
