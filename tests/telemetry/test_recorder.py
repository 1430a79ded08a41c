"""From the first byte of a request in flight to its record, its capture and its event."""

import gzip
import json
from itertools import product

import pytest

from llmsnap.errors import ClientGone, HealthTimeout, TooManyInFlight, UpstreamBroke
from llmsnap.telemetry.activity import ActivityLog
from llmsnap.telemetry.captures import MIB, CapturePolicy, Captures
from llmsnap.telemetry.events import ActivityRecorded, Event, EventBus, RequestStarted
from llmsnap.telemetry.observer import ResponseObserver
from llmsnap.telemetry.record import in_flight_object, outcome_status, record_of
from llmsnap.telemetry.recorder import SMALL_BYTES, Recorder
from tests.fakes.calls import grant, observed
from tests.fakes.clock import Clock

# --- records --------------------------------------------------------------------------------------


SSE = [("Content-Type", "text/event-stream")]
JSON = [("Content-Type", "application/json")]
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def filed():
    return []


@pytest.fixture
def observer(clock, filed):
    context = observed(
        "alias", model_id="llama", key_name="alice", client_ip="10.0.0.7", received_at=0.0
    )
    return ResponseObserver(
        5,
        context,
        clock=clock,
        now_ns=10**18,
        body_bytes=321,
        on_finish=lambda observer: filed.append(record_of(observer, 9, captured=True)),
    )


def usage(tokens: int) -> bytes:
    return b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % tokens


def test_why_was_that_answer_slow(observer, clock, filed):
    grant(observer.context, 3.1, 8.2, swap_id=12)
    observer.head(200, SSE)
    clock.now = 11.7
    observer.feed(TOKEN)
    clock.now = 12.7
    observer.feed(usage(42))
    observer.finish()
    (record,) = filed
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


@pytest.mark.parametrize(
    ("answer", "speed"),
    [
        ((20, 2.0, None, None), 10.0),
        ((20, 12.0, 4.0, 6.0), 10.0),
        ((0, 2.0, None, None), None),
        ((20, 0.0005, None, None), None),
    ],
)
def test_without_a_first_token_the_speed_leaves_the_waits_out(
    observer, clock, filed, answer, speed
):
    tokens, seconds, queue_s, load_s = answer
    if queue_s is not None:
        grant(observer.context, queue_s, load_s)
    observer.head(200, JSON)
    observer.feed(b'{"usage":{"prompt_tokens":10,"completion_tokens":%d}}' % tokens)
    clock.now = seconds
    observer.finish()
    (record,) = filed
    assert (record.tokens_per_second, record.prompt_per_second) == (speed, None)


def test_a_stream_that_came_in_one_piece_has_the_speed_of_the_whole(observer, clock, filed):
    observer.head(200, SSE)
    clock.now = 2.0
    observer.feed(TOKEN + usage(20))
    observer.finish()
    assert filed[0].tokens_per_second == 10.0


def test_what_the_server_says_wins(observer, clock, filed):
    observer.head(200, JSON)
    observer.feed(b'{"timings":{"predicted_n":50,"predicted_per_second":25.5,"predicted_ms":2000}}')
    clock.now = 9.0
    observer.finish()
    (record,) = filed
    assert (record.tokens_per_second, record.server_ms) == (25.5, 2000.0)


@pytest.mark.parametrize(
    ("head", "end", "status", "reason"),
    [
        (None, (HealthTimeout("llama: not healthy in 120 s"), False), 502, "llama: not healthy"),
        (None, (TooManyInFlight("llama: queue is full"), False), 429, "llama: queue is full"),
        (None, (ClientGone("the client left while waiting"), True), 499, "the client left while"),
        (200, (UpstreamBroke("connection reset"), False), 502, "connection reset"),
        (200, (ClientGone(""), True), 200, "ClientGone"),
        (200, (None, True), 200, "the client left"),
        (None, (None, True), 499, "the client left"),
        (None, (ValueError("bug"), False), 500, "bug"),
        (None, (None, False), 500, "upstream answered 500 Internal Server Error"),
        (200, (None, False), 200, ""),
    ],
)
def test_failures_are_recorded_with_status_and_reason(observer, filed, head, end, status, reason):
    if head:
        observer.head(head, JSON)
    error, left = end
    observer.finish(error, client_left=left)
    (record,) = filed
    assert record.status == outcome_status(observer) == status
    assert record.reason.startswith(reason)
    assert bool(record.reason) is bool(reason)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"error":{"message":"the prompt is\\n too long","code":400}}', "the prompt is"),
        (401, b'{"detail":"wrong key sk-abcdef123456"}', "wrong key [REDACTED]"),
        (503, b"<html>", "upstream answered 503 Service Unavailable"),
        (599, b"", "upstream answered 599"),
    ],
)
def test_the_reason_of_an_upstreams_refusal_is_its_own_message(
    observer, status, body, reason, filed
):
    observer.head(status, JSON)
    observer.feed(body)
    observer.finish()
    (record,) = filed
    assert record.reason.startswith(reason)
    assert record.output_tokens is None


def test_reasons_are_short(observer, filed):
    observer.finish(ValueError("x" * 5000))
    assert len(filed[0].reason) == 200


def test_a_request_in_flight(observer, clock):
    grant(observer.context, 1.5, 0.0)
    clock.now = 4.0
    shown = in_flight_object(observer, clock())
    assert (shown["id"], shown["phase"], shown["age_ms"]) == (5, "sent", 4000.0)
    assert (shown["queue_ms"], shown["load_ms"], shown["first_byte_ms"]) == (1500.0, 0.0, None)
    assert (shown["client"], shown["can_cancel"]) == ("10.0.0.7", True)


# --- filing ---------------------------------------------------------------------------------------


ANSWER = b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}'


class World:
    """A recorder and all that hears it."""

    def __init__(self, budget=MIB, **policy):
        self.bus = EventBus()
        self.events = []
        self.bus.subscribe(Event, self.events.append)
        self.activity = ActivityLog()
        self.captures = Captures(budget, on_evict=self.activity.forget_capture)
        self.recorder = Recorder(
            self.activity,
            self.captures,
            self.bus,
            policy=CapturePolicy(**policy),
            clock=lambda: 5.0,
            wall_ns=lambda: 10**18,
        )

    def begin(self, body=b"{}", **facts):
        context = observed(**{"headers": JSON, "received_at": 5.0, **facts})
        return self.recorder.begin(context, body)

    def serve(self, answer=ANSWER, status=200, headers=JSON, **request):
        observer = self.begin(**request)
        observer.head(status, headers)
        observer.feed(answer)
        observer.finish()
        return self.activity.snapshot()[-1]

    def heard(self, kind):
        return [event for event in self.events if type(event) is kind]


@pytest.fixture
def world():
    return World()


def test_a_request_is_filed_and_told(world):
    record = world.serve()
    assert [type(event) for event in world.events] == [
        RequestStarted,
        ActivityRecorded,
    ]
    assert world.events[1].record is record
    assert (record.id, record.input_tokens) == (0, 3)


def test_failures_are_filed_and_told_as_well(world):
    world.begin().finish(HealthTimeout("m: not healthy"))
    world.serve(b"{}", status=404)
    assert [record.status for record in world.activity.snapshot()] == [502, 404]
    assert len(world.heard(ActivityRecorded)) == 2


def test_the_capture_is_stored_before_anyone_hears_of_the_request(world):
    stored = []
    world.bus.subscribe(
        ActivityRecorded, lambda event: stored.append(world.captures.get(event.record.id))
    )
    record = world.serve(body=b'{"model":"m"}')
    (capture,) = stored
    assert record.has_capture
    assert capture.req_body.content() == b'{"model":"m"}'
    assert capture.resp_body.content() == ANSWER
    assert (capture.id, capture.status, capture.req_path) == (0, 200, "/v1/chat/completions")


def test_no_secret_is_in_a_capture():
    world = World(redact=["ssn"])
    world.serve(
        b'{"ssn":"s1"}',
        headers=[*JSON, ("Set-Cookie", "s2"), ("X-Api-Key", "s3")],
        body=b'{"ssn":"s4"}',
        query="key=s5&ssn=s6&n=1",
    )
    capture = world.captures.get(0)
    shown = repr(capture) + str(capture.req_body.content()) + str(capture.resp_body.content())
    assert not [secret for secret in ("s1", "s2", "s3", "s4", "s5", "s6") if f"{secret}" in shown]
    assert "n=1" in capture.req_path


def test_a_compressed_answer_is_captured_decoded(world):
    headers = [*JSON, ("Content-Encoding", "gzip"), ("Content-Length", "999")]
    world.serve(gzip.compress(ANSWER), headers=headers)
    capture = world.captures.get(0)
    assert capture.resp_body.content() == ANSWER
    assert capture.resp_headers == dict(JSON)


def test_an_answer_that_cannot_be_decoded_is_captured_without_body(world):
    record = world.serve(b"junk", headers=[*JSON, ("Content-Encoding", "gzip")])
    body = world.captures.get(0).resp_body
    assert (body.data, body.size) == (b"", 4)
    assert "could not be decoded" in body.omitted
    assert (record.status, record.output_tokens) == (200, None)


def test_failures_are_captured_too(world):
    world.begin(body=b'{"x":1}').finish(HealthTimeout("m: not healthy"))
    capture = world.captures.get(0)
    assert (capture.status, capture.req_body.content()) == (502, b'{"x":1}')
    assert world.activity.snapshot()[0].has_capture


def test_a_body_beyond_the_limit_is_left_out_of_the_capture():
    world = World(max_body=100)
    world.serve(b"[" + b" " * 200 + b"]", body=b"x" * 101)
    capture = world.captures.get(0)
    assert capture.req_body.omitted == capture.resp_body.omitted == "larger than captureMaxBody"
    assert (capture.req_body.size, capture.resp_body.size) == (101, 202)
    assert world.captures.in_flight_bytes == 0


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
        ({}, "/v1/other", [("Content-Type", "image/png")], b""),
        ({"masks": {"/v1/x": "headers"}}, "/v1/x", JSON, b""),
        ({"masks": {"/v1/x": "full"}}, "/v1/x", [("Content-Type", "image/png")], ANSWER),
    ],
)
def test_masks(policy, path, headers, kept):
    world = World(**policy)
    assert world.serve(path=path, headers=JSON, answer=ANSWER).has_capture
    world = World(**policy)
    observer = world.begin(path=path)
    observer.head(200, headers)
    observer.feed(ANSWER)
    observer.finish()
    capture = world.captures.get(0)
    assert capture.resp_body.content() == kept
    assert bool(capture.resp_body.omitted) is not bool(kept)
    assert capture.resp_headers == dict(headers)


@pytest.mark.parametrize(
    "world", [World(budget=0), World(masks={"/v1/chat/completions": "none"})], ids=["off", "masked"]
)
def test_without_captures_the_record_is_filed_all_the_same(world):
    record = world.serve(body=b"x" * 10)
    assert (record.has_capture, record.output_tokens, record.request_bytes) == (False, 4, 10)
    assert world.captures.get(0) is None


def test_an_evicted_capture_is_no_longer_claimed():
    world = World(budget=250)
    for _ in range(3):
        world.serve()
    claims = {record.id: record.has_capture for record in world.activity.snapshot()}
    kept = {number: world.captures.get(number) is not None for number in claims}
    assert claims == kept
    assert not all(kept.values())


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
    assert repr(world.recorder) == "<Recorder, 1 in flight, next id 1>"
    second.finish()


def test_a_record_that_cannot_be_filed_disturbs_nobody(world, caplog, monkeypatch):
    observer = world.begin()
    monkeypatch.setattr(world.activity, "append", lambda record: 1 / 0)
    observer.finish()
    assert "request r1 could not be recorded" in caplog.text
    assert world.recorder.in_flight() == []
    assert world.captures.in_flight_bytes == 0


def test_a_thousand_streams_of_a_megabyte_hold_little(world):
    observers = [world.begin(body=b"x" * 1000) for _ in range(1000)]
    frame = b'data: {"choices":[{"delta":{"content":"tok"}}]}\n\n' * 20
    for observer in observers:
        observer.head(200, SSE)
    for _ in range(20):
        for observer in observers:
            observer.feed(frame)
    held = (
        sum(len(observer._tail) + len(observer._head) for observer in observers)
        + world.captures.in_flight_bytes
    )
    for observer in observers:
        observer.finish()
    assert held < 25_000_000
    assert len(world.activity) == 1000
    assert json.dumps(world.captures.in_flight_bytes) == "0"


# --- filed when there is time -------------------------------------------------------------------


def put_off(world) -> list:
    """Have the recorder put off its filing, into the list that is returned."""
    waiting: list = []
    world.recorder.defer = waiting.append
    return waiting


def ended(world, answer: bytes = ANSWER, **facts):
    observer = world.begin(**facts)
    observer.head(200, JSON)
    observer.feed(answer)
    observer.finish()
    return observer


def test_small_requests_are_filed_when_there_is_time(world):
    waiting = put_off(world)
    observers = [ended(world), ended(world)]
    assert (len(waiting), len(world.activity), world.recorder.in_flight()) == (2, 0, [])
    for file in waiting:
        file()
    assert [record.id for record in world.activity.snapshot()] == [0, 1]
    assert 0 in world.captures
    assert world.captures.get(0).resp_body.content() == ANSWER
    assert (world.captures.in_flight_bytes, observers[0].buffer) == (0, None)


@pytest.mark.parametrize("sizes", list(product([0, SMALL_BYTES + 1], repeat=4)))
def test_records_and_captures_are_numbered_in_the_order_requests_ended(world, sizes):
    waiting = put_off(world)
    observers = [ended(world, b"x" * size, request_id=f"r{n}") for n, size in enumerate(sizes)]
    for file in waiting:
        file()
    records = world.activity.snapshot()
    assert [record.id for record in records] == [0, 1, 2, 3]
    assert [record.request_id for record in records] == [
        observer.context.request.id for observer in observers
    ]
    assert [record.ended_ns for record in records] == sorted(one.ended_ns for one in records)
    assert world.captures.in_flight_bytes == 0


def test_a_large_one_is_filed_and_let_go_at_once(world):
    put_off(world)
    observer = ended(world, b"x" * (SMALL_BYTES + 1))
    assert len(world.activity) == 1
    assert (world.captures.in_flight_bytes, observer.buffer) == (0, None)
