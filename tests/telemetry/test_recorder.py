"""From the first byte of a request in flight to its record, its capture and its event."""

import gzip
from itertools import product

import pytest

from llmsnap.errors import ClientGone, HealthTimeout, TooManyInFlight, UpstreamBroke
from llmsnap.telemetry.activity import ActivityLog
from llmsnap.telemetry.captures import MIB, CapturePolicy, Captures
from llmsnap.telemetry.events import ActivityRecorded, Event, EventBus, RequestStarted
from llmsnap.telemetry.observer import ResponseObserver
from llmsnap.telemetry.record import ActivityRecord, in_flight_object, outcome_status, record_of
from llmsnap.telemetry.recorder import SMALL_BYTES, Recorder
from tests.fakes.calls import grant, observed
from tests.fakes.clock import Clock

SSE = [("Content-Type", "text/event-stream")]
JSON = [("Content-Type", "application/json")]
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


@pytest.fixture
def clock():
    return Clock()


def observer_at(clock: Clock) -> ResponseObserver:
    context = observed("alias", model_id="llama", key_name="alice", client_ip="::7", received_at=0)
    more = {"clock": clock, "now_ns": 10**18, "body_bytes": 321, "on_finish": lambda _: None}
    return ResponseObserver(5, context, **more)


@pytest.fixture
def observer(clock):
    return observer_at(clock)


def ended(observer: ResponseObserver, *end, **how) -> ActivityRecord:
    """The record of a request that ends now."""
    observer.finish(*end, **how)
    return record_of(observer, 9, captured=True)


def usage(tokens: int) -> bytes:
    return b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % tokens


def test_why_was_that_answer_slow(observer, clock):
    grant(observer.context, 3.1, 8.2, swap_id=12)
    observer.head(200, SSE)
    clock.now = 11.7
    observer.feed(TOKEN)
    clock.now = 12.7
    observer.feed(usage(42))
    record = ended(observer)
    assert (record.id, record.request_id, record.swap_id) == (9, "r1", 12)
    assert (record.queue_ms, record.load_ms) == (3100.0, 8200.0)
    assert (record.first_byte_ms, record.first_token_ms) == (11700.0, 11700.0)
    assert record.duration_ms == 12700.0
    assert record.tokens_per_second == 41.0
    assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (7, 42, None)
    assert (record.requested, record.model_id, record.key_name) == ("alias", "llama", "alice")
    assert (record.request_bytes, record.response_bytes) == (321, observer.response_bytes)
    assert (record.stream, record.client_left, record.has_capture) == (True, False, True)
    assert record.ended_ns - record.started_ms * 1_000_000 == 12_700_000_000


def test_without_a_first_token_the_speed_leaves_the_waits_out():
    for headers, answer, seconds, waits, speed in (
        (JSON, b'{"usage":{"completion_tokens":20}}', 2.0, (), 10.0),
        (JSON, b'{"usage":{"completion_tokens":20}}', 12.0, (4.0, 6.0), 10.0),
        (JSON, b'{"usage":{"completion_tokens":0}}', 2.0, (), None),
        (JSON, b'{"usage":{"completion_tokens":20}}', 0.0005, (), None),
        (SSE, TOKEN + usage(20), 2.0, (), 10.0),  # a stream in one piece
        (JSON, b'{"timings":{"predicted_n":50,"predicted_per_second":25.5}}', 9.0, (), 25.5),
    ):
        observer = observer_at(clock := Clock())
        if waits:
            grant(observer.context, *waits)
        observer.head(200, headers)
        clock.now = seconds
        observer.feed(answer)
        record = ended(observer)
        assert (record.tokens_per_second, record.prompt_per_second) == (speed, None), answer


def test_failures_are_recorded_with_status_and_reason():
    for head, error, left, status, reason in (
        (None, HealthTimeout("llama: not healthy in 120 s"), False, 502, "llama: not healthy"),
        (None, TooManyInFlight("llama: queue is full"), False, 429, "llama: queue is full"),
        (None, ClientGone("the client left while waiting"), True, 499, "the client left while"),
        (200, UpstreamBroke("connection reset"), False, 502, "connection reset"),
        (200, ClientGone(""), True, 200, "ClientGone"),
        (200, None, True, 200, "the client left"),
        (None, None, True, 499, "the client left"),
        (None, ValueError("bug" + "x" * 5000), False, 500, "bug"),
        (None, None, False, 500, "upstream answered 500 Internal Server Error"),
        (200, None, False, 200, ""),
    ):
        observer = observer_at(Clock())
        if head:
            observer.head(head, JSON)
        record = ended(observer, error, client_left=left)
        assert record.status == outcome_status(observer) == status, (head, error, left)
        assert record.reason.startswith(reason)
        assert bool(reason) <= len(record.reason) <= 200 * bool(reason)


def test_the_reason_of_an_upstreams_refusal_is_its_own_message():
    for status, body, reason in (
        (400, b'{"error":{"message":"the prompt is\\n too long","code":400}}', "the prompt is"),
        (401, b'{"detail":"wrong key sk-abcdef123456"}', "wrong key [REDACTED]"),
        (503, b"<html>", "upstream answered 503 Service Unavailable"),
        (599, b"", "upstream answered 599"),
    ):
        observer = observer_at(Clock())
        observer.head(status, JSON)
        observer.feed(body)
        record = ended(observer)
        assert (record.reason[: len(reason)], record.output_tokens) == (reason, None)


def test_a_request_in_flight(observer, clock):
    grant(observer.context, 1.5, 0.0)
    clock.now = 4.0
    shown = in_flight_object(observer, clock())
    assert (shown["id"], shown["phase"], shown["age_ms"]) == (5, "sent", 4000.0)
    assert (shown["queue_ms"], shown["load_ms"], shown["first_byte_ms"]) == (1500.0, 0.0, None)
    assert (shown["client"], shown["can_cancel"]) == ("::7", True)


ANSWER = b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}'


class World:
    """A recorder and all that hears it."""

    def __init__(self, budget=MIB, **policy):
        self.bus = EventBus()
        self.events = []
        self.bus.subscribe(Event, self.events.append)
        self.activity = ActivityLog()
        self.captures = Captures(budget, on_evict=self.activity.forget_capture)
        more = {"policy": CapturePolicy(**policy), "clock": lambda: 5.0, "wall_ns": lambda: 10**18}
        self.recorder = Recorder(self.activity, self.captures, self.bus, **more)

    def begin(self, body=b"{}", **facts):
        context = observed(**{"headers": JSON, "received_at": 5.0, **facts})
        return self.recorder.begin(context, body)

    def serve(self, answer=ANSWER, headers=JSON, **request):
        observer = self.begin(**request)
        observer.head(200, headers)
        observer.feed(answer)
        observer.finish()
        return observer

    @property
    def last(self) -> ActivityRecord:
        return self.activity.snapshot()[-1]


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("failure", [None, HealthTimeout("m: not healthy")])
def test_a_request_is_filed_and_told_and_its_capture_stored_before(world, failure):
    stored = []
    capture_of = world.captures.get
    world.bus.subscribe(ActivityRecorded, lambda event: stored.append(capture_of(event.record.id)))
    body = b'{"model":"m"}'
    world.begin(body=body).finish(failure) if failure else world.serve(body=body)
    (record,), (capture,) = world.activity.snapshot(), stored
    assert [type(event) for event in world.events] == [RequestStarted, ActivityRecorded]
    assert world.events[1].record is record
    assert (record.id, record.status, record.has_capture) == (0, 502 if failure else 200, True)
    assert capture.req_body.content() == body
    assert capture.resp_body.content() == (b"" if failure else ANSWER)
    assert (capture.id, capture.status) == (0, record.status)
    assert capture.req_path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("answer", "encoding", "limit", "kept", "why"),
    [
        (gzip.compress(ANSWER), "gzip", MIB, ANSWER, ""),
        (b"junk", "gzip", MIB, b"", "could not be decoded"),
        (b"[" + b" " * 200 + b"]", "", 100, b"", "larger than captureMaxBody"),
    ],
    ids=["compressed", "undecodable", "large"],
)
def test_a_body_is_captured_decoded_or_left_out_with_the_reason(answer, encoding, limit, kept, why):
    world = World(max_body=limit)
    headers = [*JSON, ("Content-Encoding", encoding), ("Content-Length", "999")]
    world.serve(answer, headers=headers, body=b"x" * 101)
    capture, record = world.captures.get(0), world.last
    assert (capture.resp_body.content(), why in capture.resp_body.omitted) == (kept, True)
    assert bool(capture.req_body.omitted) is (limit < 101)
    if why:
        assert capture.resp_body.size == len(answer)
    else:
        assert capture.resp_headers == dict(JSON)
    assert (record.status, record.output_tokens) == (200, 4 if kept else None)
    assert world.captures.in_flight_bytes == 0


def test_no_secret_is_in_a_capture():
    world = World(redact=["ssn"])
    secret_headers = [*JSON, ("Set-Cookie", "s2"), ("X-Api-Key", "s3")]
    body, query = b'{"ssn":"s4"}', "key=s5&ssn=s6&n=1"
    world.serve(b'{"ssn":"s1"}', headers=secret_headers, body=body, query=query)
    capture = world.captures.get(0)
    shown = repr(capture) + str(capture.req_body.content()) + str(capture.resp_body.content())
    assert not [number for number in range(1, 7) if f"s{number}" in shown]
    assert "n=1" in capture.req_path


def test_all_bodies_in_flight_share_one_limit():
    world = World(budget=100_000)
    observers = [world.begin(body=b"x" * 30_000) for _ in range(5)]
    assert world.captures.in_flight_bytes == 90_000
    for observer in observers:
        observer.head(200, JSON)
        observer.feed(b"y" * 9900)
        observer.feed(b"y" * 9900)
    assert world.captures.in_flight_bytes <= 100_000
    for observer in observers:
        observer.finish()
    assert world.captures.in_flight_bytes == 0
    assert "too much was in flight" in world.captures.get(4).resp_body.omitted
    assert world.captures.get(4).req_body.omitted == "not held in memory"


@pytest.mark.parametrize(
    ("policy", "path", "headers", "kept"),
    [
        ({}, "/v1/audio/speech", [("Content-Type", "audio/wav")], b""),
        ({"masks": {"/v1/x": "headers"}}, "/v1/x", JSON, b""),
        ({"masks": {"/v1/x": "full"}}, "/v1/x", [("Content-Type", "image/png")], ANSWER),
    ],
)
def test_masks(policy, path, headers, kept):
    world = World(budget=500, **policy)
    world.serve(path=path, headers=headers)
    capture = world.captures.get(0)
    assert capture.resp_body.content() == kept
    assert bool(capture.resp_body.omitted) is not bool(kept)
    assert capture.resp_headers == dict(headers)
    for _ in range(10):
        world.serve()
    claims = {record.id: record.has_capture for record in world.activity.snapshot()}
    held = {number: world.captures.get(number) is not None for number in claims}
    assert claims == held, "an evicted capture is no longer claimed"
    assert set(held.values()) == {True, False}


@pytest.mark.parametrize(
    "world", [World(budget=0), World(masks={"/v1/chat/completions": "none"})], ids=["off", "masked"]
)
def test_without_captures_the_record_is_filed_all_the_same(world):
    world.serve(body=b"x" * 10)
    record = world.last
    assert (record.has_capture, record.output_tokens, record.request_bytes) == (False, 4, 10)
    assert world.captures.get(0) is None


def test_requests_in_flight_can_be_listed_and_cancelled(world):
    cancelled = []
    first, second = world.begin(), world.begin()
    second.context.cancel = lambda: cancelled.append(second)
    assert world.recorder.in_flight() == [first, second]
    assert world.recorder.cancel(second.serial) is True
    assert world.recorder.cancel(99) is False
    assert cancelled == [second]
    first.finish()
    assert world.recorder.in_flight() == [second]
    second.finish()


def test_a_record_that_cannot_be_filed_disturbs_nobody(world, caplog, monkeypatch):
    observer = world.begin()
    monkeypatch.setattr(world.activity, "append", lambda record: 1 / 0)
    observer.finish()
    assert "request r1 could not be recorded" in caplog.text
    assert world.recorder.in_flight() == []
    assert world.captures.in_flight_bytes == 0


def test_many_streams_hold_little(world):
    observers = [world.begin(body=b"x" * 1000) for _ in range(100)]
    frame = b'data: {"choices":[{"delta":{"content":"tok"}}]}\n\n' * 20
    for observer in observers:
        observer.head(200, SSE)
    for _ in range(20):
        for observer in observers:
            observer.feed(frame)
    held = sum(len(observer._tail) + len(observer._head) for observer in observers)
    assert held + world.captures.in_flight_bytes < 2_500_000
    for observer in observers:
        observer.finish()
    assert (len(world.activity), world.captures.in_flight_bytes) == (100, 0)


@pytest.mark.parametrize("first", [0, SMALL_BYTES + 1])
def test_small_requests_are_filed_later_but_numbered_in_the_order_all_ended(first):
    for others in product([0, SMALL_BYTES + 1], repeat=3):
        check_that_they_are_in_order((first, *others))


def check_that_they_are_in_order(sizes: tuple[int, ...]) -> None:
    world, waiting = World(), []
    world.recorder.defer = waiting.append
    observers = []
    for number, size in enumerate(sizes):
        observers.append(world.serve(b"x" * size, request_id=f"r{number}"))
        assert len(world.activity) == (number + 1 if size else len(world.activity))
        if size:  # a large one is filed and let go at once
            assert (world.captures.in_flight_bytes, observers[-1].buffer) == (0, None)
    assert world.recorder.in_flight() == []
    for file in waiting:
        file()
    records = world.activity.snapshot()
    found = [(record.id, record.request_id) for record in records]
    assert found == [(0, "r0"), (1, "r1"), (2, "r2"), (3, "r3")]
    assert [record.ended_ns for record in records] == sorted(one.ended_ns for one in records)
    bodies = [world.captures.get(number).resp_body for number in range(4)]
    assert [len(body.content()) for body in bodies] == list(sizes)
    assert world.captures.in_flight_bytes == 0
