"""What is seen of a response as it passes."""

import gzip
from random import Random

import pytest

from llmsnap.errors import BadRequest, ClientGone, Unreachable
from llmsnap.telemetry import milliseconds
from llmsnap.telemetry.observer import HEAD_BYTES, TAIL_BYTES, ResponseObserver, header
from llmsnap.telemetry.usage import NOTHING, Usage
from tests.fakes.calls import grant, observed
from tests.fakes.clock import Clock


def test_whole_microseconds_stay_what_they_are_and_nothing_shorter_is_told() -> None:
    chance = Random(7)
    for digits in range(13):
        for _ in range(20):
            micros, seconds = chance.randrange(10**digits), chance.uniform(0, 10 ** (digits / 2))
            told = milliseconds(seconds)
            assert milliseconds(micros / 1e6) == micros / 1000
            assert abs(told - seconds * 1000) <= 0.00051, seconds
            assert told == round(told, 3), seconds


SSE = [("Content-Type", "text/event-stream; charset=utf-8")]
JSON = [("Content-Type", "application/json")]
USAGE_FRAME = b'data: {"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'


@pytest.fixture
def clock():
    return Clock(100.0)


@pytest.fixture
def finished():
    return []


@pytest.fixture
def observer(clock, finished):
    return observer_at(clock, finished.append)


def observer_at(clock: Clock, on_finish=lambda _: None) -> ResponseObserver:
    context = observed(received_at=90.0)
    return ResponseObserver(1, context, clock=clock, now_ns=10**18, on_finish=on_finish)


def test_phases(observer):
    assert (observer.started, observer.started_ns) == (90.0, 10**18 - 10 * 10**9)
    assert observer.phase == "waiting"
    grant(observer.context, 3.1, 8.2, swap_id=7)
    assert observer.phase == "sent"
    observer.head(200, JSON)
    observer.feed(b'{"choices":[{"message":{"content":"Hi"}}]}')
    assert observer.phase == "answering"
    observer.finish()
    assert observer.phase == "finished"
    assert observer.first_token is None, "the answer came in one piece"


def test_the_first_token_is_the_first_text_of_a_stream():
    for frame in (
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
        b'data: {"choices":[{"text":"Hi"}]}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n',
        b'data: {"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}\n\n',
        b'data: {"content":" "}\n\n',
    ):
        observer = observer_at(clock := Clock(101.0))
        observer.head(200, SSE)
        observer.feed(b": comment\n\n")
        observer.feed(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n')
        observer.feed(b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n')
        clock.now = 102.0
        observer.feed(frame)
        clock.now = 103.0
        observer.feed(frame)
        assert (observer.context.first_byte_at, observer.first_token) == (101.0, 102.0), frame


def test_of_a_long_answer_both_ends_are_kept():
    start = b'data: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    middle = b'data: {"delta":{"text":"token"}}\n\n' * 1000
    end = b'data: {"usage":{"output_tokens":15}}\n\n'
    body = start + middle + end
    for size in (1, 100, TAIL_BYTES - 1, TAIL_BYTES, 65536):
        observer = observer_at(Clock())
        observer.head(200, SSE)
        for at in range(0, len(body), size):
            observer.feed(body[at : at + size])
        assert (observer.usage(), observer.response_bytes) == (Usage(25, 15), len(body)), size
        assert len(observer._tail) <= 2 * TAIL_BYTES
        assert observer.beginning() == body[:HEAD_BYTES]


def test_a_large_piece_after_a_small_one_loses_no_beginning(observer):
    observer.head(200, JSON)
    observer.feed(b'{"usage":{"prompt_')
    observer.feed(b'tokens":8},"data":[' + b"0.1," * 50_000 + b"0.2]}")
    assert observer.usage() == Usage(8)


def test_compressed_streams_are_read_as_well(observer, clock):
    squeezed = gzip.compress(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n' + USAGE_FRAME)
    observer.head(200, [*SSE, ("content-encoding", "gzip")])
    for at in range(0, len(squeezed), 5):
        observer.feed(squeezed[at : at + 5])
    assert observer.usage() == Usage(3, 4)
    assert observer.first_token == clock.now
    assert observer.response_bytes == len(squeezed)


def test_json_is_known_by_its_first_byte_and_others_say_nothing():
    for body, headers, found in (
        (b"plain text with \"usage\": {'no': 1}", [("Content-Type", "text/plain")], NOTHING),
        (b"", [("Content-Type", "text/plain")], NOTHING),
        (b"RIFF\x00\x00", [("Content-Type", "text/plain")], NOTHING),
        (b' \n[{"timings":{"prompt_n":6}}]', [], Usage(6)),
    ):
        observer = observer_at(Clock())
        observer.head(200, headers)
        observer.feed(body)
        assert observer.usage() == found, body


def test_an_answer_that_cannot_be_decoded_is_counted_all_the_same():
    for encoding in ("gzip", "br", "zstd"):
        observer = observer_at(Clock())
        observer.head(200, [*JSON, ("Content-Encoding", encoding)])
        for _ in range(3):
            observer.feed(b'{"usage":{"prompt_tokens":3}}')
        found = (observer.undecodable, observer.usage(), observer.response_bytes)
        assert found == (True, NOTHING, 87), encoding


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ({"error": ClientGone("gone")}, True),
        ({"client_left": True}, True),
        ({"error": Unreachable("no")}, False),
        ({}, False),
    ],
)
def test_if_the_client_left_and_only_the_first_end_counts(observer, clock, finished, end, left):
    clock.now = 105.0
    observer.finish(**end)
    clock.now = 200.0
    observer.finish(BadRequest("later"), client_left=not left)
    assert (observer.client_left, observer.error) == (left, end.get("error"))
    assert (finished, observer.finished) == ([observer], 105.0)


class Buffer:
    def __init__(self, takes=1000):
        self.kept, self.takes = [], takes

    def wants(self, headers):
        return header(headers, "content-type") != "audio/wav"

    def keep(self, data):
        self.kept.append(data)
        return len(self.kept) < self.takes


@pytest.mark.parametrize(
    ("media_type", "takes", "parts", "kept"),
    [
        ("application/json", 2, [letter * TAIL_BYTES for letter in (b"a", b"b", b"c")], 2),
        ("text/event-stream", 1000, [b"data: %d\n\n" % number for number in range(5000)], 5000),
        ("audio/wav", 1000, [b"{}"], 0),
    ],
    ids=["enough", "all of many", "none"],
)
def test_a_buffer_gets_what_it_wants_small_pieces_together(clock, media_type, takes, parts, kept):
    buffer = Buffer(takes)
    more = {"clock": clock, "now_ns": 0, "buffer": buffer, "on_finish": lambda _: None}
    observer = ResponseObserver(1, observed(), **more)
    observer.head(200, [("Content-Type", media_type)])
    for part in parts:
        observer.feed(part)
    observer.finish()
    observer.settle()
    assert b"".join(buffer.kept) == b"".join(parts[:kept])
    assert len(buffer.kept) <= 2 + len(parts) / 100
