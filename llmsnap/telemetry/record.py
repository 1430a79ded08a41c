"""What an observer saw, as a record: pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from llmsnap.durations import milliseconds
from llmsnap.errors import in_full
from llmsnap.events import ActivityRecord
from llmsnap.http.secrets import redact_text
from llmsnap.telemetry.observer import ResponseObserver
from llmsnap.telemetry.usage import NOTHING, Usage

REASON_CHARS = 200
MIN_WINDOW_MS = 10.0  # tokens that came in less arrived in one piece: that is no speed

_MESSAGE = re.compile(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.){1,400})')


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
    """Return the status that tells how the request went, also when it failed half-way."""
    if observer.error is None:
        return observer.status or (499 if observer.client_left else 500)
    if observer.client_left:
        return observer.status or 499
    return int(getattr(observer.error, "status", 500))


def failure_reason(observer: ResponseObserver, status: int) -> str:
    """Return in a few words why the request failed; "" if it did not."""
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
    """Return tokens per second of the generation: as told, else as seen, waits left out."""
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
