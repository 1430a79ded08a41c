"""What a tap saw, as a record: pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from llmsnap.durations import milliseconds
from llmsnap.errors import in_full
from llmsnap.events import ActivityRecord
from llmsnap.metrics.tap import Tap
from llmsnap.metrics.usage import NOTHING, Usage
from llmsnap.wire.secrets import redact_text

REASON_CHARS = 200
MIN_WINDOW_MS = 10.0  # tokens that came in less arrived in one piece: that is no speed

_MESSAGE = re.compile(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.){1,400})')


def record_of(tap: Tap, record_id: int, *, captured: bool) -> ActivityRecord:
    """Return the record of a finished request."""
    facts = tap.facts
    status = outcome_status(tap)
    usage = tap.usage() if status < 400 else NOTHING
    duration_s = (tap.finished or tap.started) - tap.started
    return ActivityRecord(
        id=record_id,
        request_id=facts.request_id,
        swap_id=tap.swap_id,
        started_ms=tap.started_ns // 1_000_000,
        ended_ns=tap.started_ns + int(duration_s * 1e9),
        requested=facts.requested,
        model_id=tap.model_id,
        peer=facts.peer,
        method=facts.method,
        path=facts.path,
        key_name=facts.key_name,
        status=status,
        reason=failure_reason(tap, status),
        stream=facts.stream or tap.streamed,
        client_left=tap.client_left,
        queue_ms=_ms(tap.queue_s),
        load_ms=_ms(tap.load_s),
        first_byte_ms=_ms_between(tap.started, tap.first_byte),
        first_token_ms=_ms_between(tap.started, tap.first_token),
        duration_ms=milliseconds(duration_s),
        server_ms=usage.server_ms,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        draft_tokens=usage.draft_tokens,
        draft_accepted=usage.draft_accepted,
        prompt_per_second=usage.prompt_per_second,
        tokens_per_second=_speed(usage, tap),
        request_bytes=facts.body_bytes,
        response_bytes=tap.response_bytes,
        has_capture=captured,
    )


def in_flight_object(tap: Tap, now: float) -> dict[str, Any]:
    """Return a request in flight as ``GET /api/inflight`` shows it; *now* on the tap's clock."""
    facts = tap.facts
    return {
        "id": tap.serial,
        "request_id": facts.request_id,
        "swap_id": tap.swap_id,
        "requested": facts.requested,
        "model_id": tap.model_id,
        "peer": facts.peer,
        "method": facts.method,
        "path": facts.path,
        "key_name": facts.key_name,
        "client": facts.client,
        "stream": facts.stream or tap.streamed,
        "phase": tap.phase,
        "started_ms": tap.started_ns // 1_000_000,
        "age_ms": milliseconds(now - tap.started),
        "queue_ms": _ms(tap.queue_s),
        "load_ms": _ms(tap.load_s),
        "first_byte_ms": _ms_between(tap.started, tap.first_byte),
        "first_token_ms": _ms_between(tap.started, tap.first_token),
        "response_bytes": tap.response_bytes,
        "can_cancel": tap.on_cancel is not None,
    }


def outcome_status(tap: Tap) -> int:
    """Return the status that tells how the request went, also when it failed half-way."""
    if tap.error is None:
        return tap.status or (499 if tap.client_left else 500)
    if tap.client_left:
        return tap.status or 499
    return int(getattr(tap.error, "status", 500))


def failure_reason(tap: Tap, status: int) -> str:
    """Return in a few words why the request failed; "" if it did not."""
    if tap.error is not None:
        text = in_full(tap.error) or type(tap.error).__name__
    elif tap.client_left:
        text = "the client left"
    elif status < 400:
        return ""
    else:
        found = _MESSAGE.search(tap.beginning().decode("utf-8", "replace"))
        text = found[1] if found else _phrase(status)
    return redact_text(" ".join(text.split()))[:REASON_CHARS]


def _phrase(status: int) -> str:
    known = status in HTTPStatus.__members__.values()
    return f"upstream answered {status} {HTTPStatus(status).phrase if known else ''}".rstrip()


def _speed(usage: Usage, tap: Tap) -> float | None:
    """Return tokens per second of the generation: as told, else as seen, waits left out."""
    tokens, end = usage.output_tokens, tap.finished
    if usage.tokens_per_second is not None or not tokens or end is None:
        return usage.tokens_per_second
    if tap.first_token is not None and tokens > 1:
        window_ms = (end - tap.first_token) * 1000
        if window_ms >= MIN_WINDOW_MS:
            return round((tokens - 1) / window_ms * 1000, 3)
    window_ms = (end - tap.started - (tap.queue_s or 0.0) - (tap.load_s or 0.0)) * 1000
    return round(tokens / window_ms * 1000, 3) if window_ms >= 1.0 else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else milliseconds(seconds)


def _ms_between(start: float, end: float | None) -> float | None:
    return None if end is None else milliseconds(end - start)
