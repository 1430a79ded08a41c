"""The record of a finished request, made from its observations. Pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from llmsnap.errors import in_full
from llmsnap.http import redact_text
from llmsnap.telemetry.observer import ResponseObserver, header, milliseconds
from llmsnap.telemetry.usage import NOTHING, Usage

REASON_CHARS = 200
TYPE_CHARS = 100
MIN_WINDOW_MS = 10.0  # tokens within less arrived in one piece, and have no speed

_MESSAGE = re.compile(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.){1,400})')


class ActivityRecord(Struct, frozen=True, kw_only=True):
    """Everything known about one finished request. None means unknown, never zero.

    Points in time are Unix milliseconds (*ended_ns*: nanoseconds), durations milliseconds.
    *server_ms* is the processing time that the inference server reports, *reason* the short text
    of a failure. *requested* is the client's model name, *model_id* the model that served;
    *selector* chose it, and *profile* pinned the name, where they did. A new field gets its value
    in ``record_of`` and its column in ``store.MIGRATIONS``.
    """

    id: int
    request_id: str = ""
    swap_id: int | None = None
    started_ms: int = 0
    ended_ns: int = 0
    requested: str = ""
    model_id: str = ""
    peer: str | None = None
    method: str = "POST"
    path: str = ""
    key_name: str | None = None
    session: str = ""
    selector: str = ""
    profile: str = ""
    priority: int = 0
    status: int = 0
    reason: str = ""
    stream: bool = False
    client_left: bool = False
    queue_ms: float | None = None
    load_ms: float | None = None
    first_byte_ms: float | None = None
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    server_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    draft_tokens: int | None = None
    draft_accepted: int | None = None
    prompt_per_second: float | None = None
    tokens_per_second: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    content_type: str = ""
    has_capture: bool = False


def record_of(observer: ResponseObserver, record_id: int, *, captured: bool) -> ActivityRecord:
    """Return the record of a finished request."""
    context, request = observer.context, observer.context.request
    status = outcome_status(observer)
    usage = observer.usage() if status < 400 else NOTHING
    duration_s = (observer.finished or observer.started) - observer.started
    return ActivityRecord(
        id=record_id,
        request_id=request.id,
        swap_id=context.swap_id,
        started_ms=observer.started_ns // 1_000_000,
        ended_ns=observer.started_ns + int(duration_s * 1e9),
        requested=request.requested,
        model_id=context.shown_model,
        peer=context.peer,
        method=request.method,
        path=observer.path,
        key_name=request.key_name or None,
        session=request.session,
        selector=context.selector_id,
        profile=context.profile,
        priority=context.priority,
        status=status,
        reason=failure_reason(observer, status),
        stream=context.stream or observer.streamed,
        client_left=observer.client_left,
        queue_ms=milliseconds(context.queue_s) if context.granted else None,
        load_ms=milliseconds(context.load_s) if context.granted else None,
        first_byte_ms=_ms_between(observer.started, context.first_byte_at),
        first_token_ms=_ms_between(observer.started, observer.first_token),
        duration_ms=milliseconds(duration_s),
        server_ms=usage.server_ms,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        draft_tokens=usage.draft_tokens,
        draft_accepted=usage.draft_accepted,
        prompt_per_second=usage.prompt_per_second,
        tokens_per_second=_speed(usage, observer),
        request_bytes=observer.body_bytes,
        response_bytes=observer.response_bytes,
        content_type=header(observer.response_headers, "content-type")[:TYPE_CHARS],
        has_capture=captured,
    )


def in_flight_object(observer: ResponseObserver, now: float) -> dict[str, Any]:
    """Return a request in flight as ``GET /api/inflight`` shows it; *now* is monotonic."""
    context, request = observer.context, observer.context.request
    return {
        "id": observer.serial,
        "request_id": request.id,
        "swap_id": context.swap_id,
        "requested": request.requested,
        "model_id": context.shown_model,
        "peer": context.peer,
        "method": request.method,
        "path": observer.path,
        "key_name": request.key_name or None,
        "session": request.session,
        "client": request.client_ip,
        "stream": context.stream or observer.streamed,
        "phase": observer.phase,
        "started_ms": observer.started_ns // 1_000_000,
        "age_ms": milliseconds(now - observer.started),
        "queue_ms": milliseconds(context.queue_s) if context.granted else None,
        "load_ms": milliseconds(context.load_s) if context.granted else None,
        "first_byte_ms": _ms_between(observer.started, context.first_byte_at),
        "first_token_ms": _ms_between(observer.started, observer.first_token),
        "response_bytes": observer.response_bytes,
        "can_cancel": observer.finished is None,
    }


def outcome_status(observer: ResponseObserver) -> int:
    """Return the status of the request's outcome, which may be an error after the head was sent."""
    if observer.error is None:
        return observer.status or (499 if observer.client_left else 500)
    if observer.client_left:
        return observer.status or 499
    return int(getattr(observer.error, "status", 500))


def failure_reason(observer: ResponseObserver, status: int) -> str:
    """Return a short reason of the failure; "" if there was none."""
    if observer.error is not None:
        text = in_full(observer.error) or type(observer.error).__name__
    elif observer.client_left:
        text = "the client left"
    elif status < 400:
        return ""
    else:
        found = _MESSAGE.search(observer.beginning().decode("utf-8", "replace"))
        text = found[1] if found else _phrase(status)
    return redact_text(" ".join(text.split()))[:REASON_CHARS]


def _phrase(status: int) -> str:
    known = status in HTTPStatus.__members__.values()
    return f"upstream answered {status} {HTTPStatus(status).phrase if known else ''}".rstrip()


def _speed(usage: Usage, observer: ResponseObserver) -> float | None:
    """Return tokens per second of the generation: as reported, else as observed without waits."""
    tokens, end = usage.output_tokens, observer.finished
    if usage.tokens_per_second is not None or not tokens or end is None:
        return usage.tokens_per_second
    if observer.first_token is not None and tokens > 1:
        window_ms = (end - observer.first_token) * 1000
        if window_ms >= MIN_WINDOW_MS:
            return round((tokens - 1) / window_ms * 1000, 3)
    window_ms = (end - observer.started - observer.context.queue_s - observer.context.load_s) * 1000
    return round(tokens / window_ms * 1000, 3) if window_ms >= 1.0 else None


def _ms_between(start: float, end: float | None) -> float | None:
    return None if end is None else milliseconds(end - start)
