"""Files what the taps saw: the activity record, the capture, the events."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from llmsnap.bus import EventBus
from llmsnap.chores import Later, at_once
from llmsnap.events import ActivityRecorded, ChatCompletionStats, RequestStarted, TokenMetrics
from llmsnap.metrics.activity import ActivityLog
from llmsnap.metrics.capture import Mask
from llmsnap.metrics.captures import Captures
from llmsnap.metrics.policy import CapturePolicy
from llmsnap.metrics.record import outcome_status, record_of
from llmsnap.metrics.seen import Seen
from llmsnap.metrics.tap import Headers, RequestFacts, Tap
from llmsnap.metrics.views import is_metric

log = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
"""Up to so much of request and answer waits to be filed; with more, all that waits is filed."""


class Keeper:
    """The bodies of one request and its answer, for the capture of them.

    Bounded each by the policy, and all that are in flight together by the captures' budget.
    """

    def __init__(self, recorder: Recorder, path: str) -> None:
        self.request = b""
        self.chunks: list[bytes] = []
        self.why_not = ""
        self._recorder, self._path = recorder, path
        self._size = self._held = 0

    def keep_request(self, body: bytes) -> None:
        """Hold the request's body, if there is room."""
        if self._hold(len(body)):
            self.request = body

    def wants(self, headers: Headers) -> bool:
        """Tell whether the body of an answer with these headers is kept at all."""
        self.why_not = self._recorder.policy.why_not(0, headers, self._path)
        return not self.why_not

    def keep(self, data: bytes) -> bool:
        """Take *data* of the answer, or give up for good."""
        self._size += len(data)
        if self._size > self._recorder.policy.max_body:
            self.why_not = "larger than captureMaxBody"
        elif self._hold(len(data)):
            self.chunks.append(data)
            return True
        else:
            self.why_not = "too much was in flight to keep it"
        self._give_back(sum(map(len, self.chunks)))
        self.chunks = []
        return False

    def release(self) -> None:
        """Give all memory back."""
        self._give_back(self._held)
        self.request, self.chunks = b"", []

    def _hold(self, size: int) -> bool:
        if self._recorder.kept_bytes + size > self._recorder.captures.budget:
            return False
        self._recorder.kept_bytes += size
        self._held += size
        return True

    def _give_back(self, size: int) -> None:
        self._recorder.kept_bytes -= size
        self._held -= size


class Recorder:
    """Gives each request a ``Tap``, knows those in flight, and files each at its end.

    Its methods never switch greenlets; *clock* is monotonic, *wall_ns* Unix nanoseconds.
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
        self.kept_bytes = 0
        self.later: Later = at_once
        """Has small requests filed when there is time for it."""
        self._clock, self._wall_ns = clock, wall_ns
        self._taps: dict[int, Tap] = {}
        self._keepers: dict[int, Keeper] = {}
        self._ended: deque[tuple[Tap, Keeper | None]] = deque()
        """Those that are not filed yet, in the order they ended, which is that of their ids."""
        self._serial = 0

    def __repr__(self) -> str:
        return f"<Recorder, {len(self._taps)} in flight, next id {self.activity.next_id}>"

    def begin(self, facts: RequestFacts, body: bytes = b"") -> Tap:
        """Return the tap of a request that is now in flight; *body* is what the model gets.

        The body is held only while a capture of it is wanted.
        """
        self._serial += 1
        keeper = None
        if self.captures.enabled and self.policy.mask(facts.path) is not Mask.NONE:
            keeper = self._keepers[self._serial] = Keeper(self, facts.path)
            if not self.policy.why_not(len(body), facts.headers, facts.path):
                keeper.keep_request(body)
        tap = Tap(
            self._serial,
            facts,
            clock=self._clock,
            now_ns=self._wall_ns(),
            keeper=keeper,
            on_finish=self._finish,
        )
        self._taps[tap.serial] = tap
        if self.bus.is_heard(RequestStarted):
            self.bus.publish(_started(tap))
        return tap

    def in_flight(self) -> list[Tap]:
        """Return the taps of requests that have not ended, oldest first."""
        return list(self._taps.values())

    def now(self) -> float:
        """Return the time on the clock of the taps."""
        return self._clock()

    def cancel(self, serial: int) -> bool:
        """Ask for a request in flight to be ended; false if there is none or it cannot be."""
        tap = self._taps.get(serial)
        if tap is None or tap.on_cancel is None:
            return False
        tap.on_cancel()
        return True

    def _finish(self, tap: Tap) -> None:
        self._taps.pop(tap.serial, None)
        self._ended.append((tap, self._keepers.pop(tap.serial, None)))
        if tap.response_bytes + tap.facts.body_bytes > SMALL_BYTES:
            while self._ended:  # those that ended before have the lower numbers
                self._file_next()
        else:
            self.later(self._file_next)

    def _file_next(self) -> None:
        """File the request that ended first, if it has not been filed with a large one."""
        if not self._ended:
            return
        tap, keeper = self._ended.popleft()
        try:
            self._record(tap, keeper)
        except Exception:
            log.exception("request %s could not be recorded", tap.facts.request_id)
        finally:
            tap.let_go()
            if keeper is not None:
                keeper.release()

    def _record(self, tap: Tap, keeper: Keeper | None) -> None:
        tap.settle()
        record_id = self.activity.take_id()
        captured = keeper is not None and self._capture(record_id, tap, keeper)
        record = record_of(tap, record_id, captured=captured)
        self.activity.append(record)
        self.bus.publish(ActivityRecorded(record))
        if is_metric(record) and self.bus.is_heard(TokenMetrics):
            self.bus.publish(TokenMetrics(record))
        if record.output_tokens and self.bus.is_heard(ChatCompletionStats):
            self.bus.publish(
                ChatCompletionStats(record.output_tokens, record.model_id, record.request_id)
            )

    def _capture(self, record_id: int, tap: Tap, keeper: Keeper) -> bool:
        facts, policy = tap.facts, self.policy
        seen = Seen(
            record_id, facts.method, facts.path, facts.query, facts.headers, facts.body_bytes,
            keeper.request, outcome_status(tap), tap.response_headers, tap.response_bytes,
            b"".join(keeper.chunks), _why_unkept(tap, keeper),
            tap.started_ns // 1_000_000, tap.duration_ms,
        )  # fmt: skip
        size, make = seen.kept(policy)
        prepare = policy.prepare if policy.redactor.active else None
        largest = max(len(seen.request), len(seen.response))
        return self.captures.add_later(record_id, size, make, prepare, largest)


def _why_unkept(tap: Tap, keeper: Keeper) -> str:
    return "its Content-Encoding could not be decoded" if tap.undecodable else keeper.why_not


def _started(tap: Tap) -> RequestStarted:
    facts = tap.facts
    return RequestStarted(
        serial=tap.serial,
        request_id=facts.request_id,
        requested=facts.requested,
        model_id=facts.model_id,
        path=facts.path,
    )
