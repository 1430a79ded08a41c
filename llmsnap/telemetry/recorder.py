"""Observes each request in flight, and files its record and capture at its end."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from llmsnap.deferred import Defer, run_now
from llmsnap.errors import in_full
from llmsnap.http import redact_text
from llmsnap.telemetry.activity import ActivityLog
from llmsnap.telemetry.captures import CaptureBuffer, CapturePolicy, Captures, Mask, RawExchange
from llmsnap.telemetry.events import (
    ActivityRecord,
    ActivityRecorded,
    EventBus,
    RequestStarted,
)
from llmsnap.telemetry.observer import ObservedRequest, ResponseObserver, header, milliseconds
from llmsnap.telemetry.usage import NOTHING, Usage

log = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
"""Ended requests of up to this size are filed later; a larger one is filed at once, with all that
ended before it.
"""
REASON_CHARS = 200
TYPE_CHARS = 100
MIN_WINDOW_MS = 10.0  # tokens within less arrived in one piece, and have no speed

_MESSAGE = re.compile(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.){1,400})')


class Recorder:
    """Makes a ``ResponseObserver`` per request, lists those in flight, files them as they end.

    Records and captures are numbered in the order in which requests ended. No method switches
    greenlets; *clock* is monotonic, *wall_ns* Unix nanoseconds.
    """

    def __init__(
        self,
        activity: ActivityLog,
        captures: Captures,
        bus: EventBus,
        *,
        policy: CapturePolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.activity, self.captures, self.bus = activity, captures, bus
        self.policy = policy or CapturePolicy()
        self.defer: Defer = run_now
        """Runs the filing of a small request within 20 ms, when the event loop has time."""
        self._clock, self._wall_ns = clock, wall_ns
        self._observers: dict[int, ResponseObserver] = {}
        self._buffers: dict[int, CaptureBuffer] = {}
        self._ended: deque[tuple[ResponseObserver, CaptureBuffer | None]] = deque()
        """Requests that are not filed yet, in the order they ended, which is that of their ids."""
        self._serial = 0

    def __repr__(self) -> str:
        return f"<Recorder, {len(self._observers)} in flight, next id {self.activity.next_id}>"

    def begin(
        self, context: ObservedRequest, body: bytes = b"", length: int | None = None
    ) -> ResponseObserver:
        """Return the observer of a request that is now in flight; *body* is what the model gets.

        The body is kept only if it is to be captured. *length* is given for a body that is not in
        memory.
        """
        self._serial += 1
        path, body_bytes = context.sent_path, len(body) if length is None else length
        buffer = None
        if self.captures.enabled and self.policy.mask(path) is not Mask.NONE:
            buffer = self._buffers[self._serial] = CaptureBuffer(self.captures, self.policy, path)
            if not self.policy.omitted_reason(len(body), context.shown_headers, path):
                buffer.keep_request(body)
        observer = ResponseObserver(
            self._serial,
            context,
            clock=self._clock,
            now_ns=self._wall_ns(),
            body_bytes=body_bytes,
            buffer=buffer,
            on_finish=self._finish,
        )
        self._observers[observer.serial] = observer
        self.bus.publish(RequestStarted())
        return observer

    def in_flight(self) -> list[ResponseObserver]:
        """Return the observers of requests that have not ended, oldest first."""
        return list(self._observers.values())

    def now(self) -> float:
        """Return the time on the clock of the observers."""
        return self._clock()

    def cancel(self, serial: int) -> bool:
        """Cancel a request in flight; false if there is none of that number."""
        observer = self._observers.get(serial)
        if observer is None:
            return False
        observer.context.cancel()
        return True

    def _finish(self, observer: ResponseObserver) -> None:
        self._observers.pop(observer.serial, None)
        self._ended.append((observer, self._buffers.pop(observer.serial, None)))
        if observer.response_bytes + observer.body_bytes > SMALL_BYTES:
            while self._ended:  # those that ended before have lower ids
                self._file_next()
        else:
            self.defer(self._file_next)

    def _file_next(self) -> None:
        """File the request that ended first, unless it was filed together with a large one."""
        if not self._ended:
            return
        observer, buffer = self._ended.popleft()
        try:
            self._record(observer, buffer)
        except Exception:
            log.exception("request %s could not be recorded", observer.context.request.id)
        finally:
            observer.release()
            if buffer is not None:
                buffer.release()

    def _record(self, observer: ResponseObserver, buffer: CaptureBuffer | None) -> None:
        observer.settle()
        record_id = self.activity.take_id()
        captured = buffer is not None and self._capture(record_id, observer, buffer)
        record = record_of(observer, record_id, captured=captured)
        self.activity.append(record)
        self.bus.publish(ActivityRecorded(record))

    def _capture(self, record_id: int, observer: ResponseObserver, buffer: CaptureBuffer) -> bool:
        request, policy = observer.context.request, self.policy
        raw = RawExchange(
            record_id, request.method, observer.path, request.query,
            observer.context.shown_headers, observer.body_bytes,
            buffer.request, outcome_status(observer), observer.response_headers,
            observer.response_bytes, b"".join(buffer.chunks), _omitted_reason(observer, buffer),
            observer.started_ns // 1_000_000, observer.duration_ms,
        )  # fmt: skip
        size, make = raw.kept(policy)
        prepare = policy.prepare if policy.redactor.active else None
        largest = max(len(raw.request), len(raw.response))
        return self.captures.add(record_id, size, make, prepare, largest)


def _omitted_reason(observer: ResponseObserver, buffer: CaptureBuffer) -> str:
    return (
        "its Content-Encoding could not be decoded"
        if observer.undecodable
        else buffer.omitted_reason
    )


# --- from observer to record --------------------------------------------------------------------


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
