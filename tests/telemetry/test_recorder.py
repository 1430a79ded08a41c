import gzip
import json
from itertools import product

import pytest

from llmsnap.errors import HealthTimeout
from llmsnap.telemetry.activity import ActivityLog
from llmsnap.telemetry.captures import MIB, CapturePolicy, Captures
from llmsnap.telemetry.events import (
    ActivityRecorded,
    Event,
    EventBus,
    RequestStarted,
)
from llmsnap.telemetry.recorder import SMALL_BYTES, Recorder
from tests.fakes.calls import observed

JSON = [("Content-Type", "application/json")]
SSE = [("Content-Type", "text/event-stream")]
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
