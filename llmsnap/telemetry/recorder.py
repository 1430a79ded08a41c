"""Observes each request in flight, and files its record and capture at its end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from llmsnap.deferred import Defer, run_now
from llmsnap.telemetry.activity import ActivityLog
from llmsnap.telemetry.captures import CaptureBuffer, CapturePolicy, Captures, Mask, RawExchange
from llmsnap.telemetry.events import ActivityRecorded, EventBus, RequestStarted
from llmsnap.telemetry.observer import ObservedRequest, ResponseObserver
from llmsnap.telemetry.record import outcome_status, record_of

log = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
"""Ended requests of up to this size are filed later; a larger one is filed at once, with all that
ended before it.
"""


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
        """Return the observer of a request that is now in flight; *body* is sent to the model.

        A request that is not recorded is observed, but neither listed nor filed.
        The body is kept only if it is to be captured. *length* is given for a body that is not in
        memory.
        """
        self._serial += 1
        path, body_bytes = context.sent_path, len(body) if length is None else length
        buffer = None
        if (
            context.is_recorded
            and self.captures.enabled
            and self.policy.mask(path) is not Mask.NONE
        ):
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
        if context.is_recorded:
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
        if self._observers.pop(observer.serial, None) is None:
            observer.release()
            return
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
