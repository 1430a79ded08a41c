import gzip
import json

import pytest

from llmsnap.errors import ClientGone, Unreachable
from llmsnap.metrics.tap import HEAD_BYTES, TAIL_BYTES, RequestFacts, Tap, header
from llmsnap.metrics.usage import NOTHING, Usage
from tests.fakes.clock import Clock

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
def tap(clock, finished):
    facts = RequestFacts(request_id="r1", path="/v1/chat/completions", requested="m", arrived=90.0)
    return Tap(1, facts, clock=clock, now_ns=10**18, on_finish=finished.append)


def test_the_request_began_when_it_arrived(tap):
    assert (tap.started, tap.started_ns) == (90.0, 10**18 - 10 * 10**9)


def test_phases(tap):
    seen = [tap.phase]
    tap.granted(3.1, 8.2, swap_id=7)
    seen.append(tap.phase)
    tap.head(200, JSON)
    tap.feed(b"{}")
    seen.append(tap.phase)
    tap.finish()
    assert [*seen, tap.phase] == ["waiting", "sent", "answering", "finished"]
    assert (tap.queue_s, tap.load_s, tap.swap_id) == (3.1, 8.2, 7)
    assert repr(tap) == "<Tap r1 finished, 2 bytes>"


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_content": "Hm"}}]}\n\n',
        b'data: {"choices":[{"text":"Hi"}]}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n',
        b'data: {"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}\n\n',
        b'data: {"content":" "}\n\n',
    ],
)
def test_the_first_token_is_the_first_text_of_a_stream(tap, clock, frame):
    tap.head(200, SSE)
    clock.now = 101.0
    tap.feed(b": comment\n\n")
    tap.feed(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n')
    tap.feed(b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n')
    clock.now = 102.0
    tap.feed(frame)
    clock.now = 103.0
    tap.feed(frame)
    assert (tap.first_byte, tap.first_token) == (101.0, 102.0)


def test_an_answer_in_one_piece_has_no_first_token(tap):
    tap.head(200, JSON)
    tap.feed(b'{"choices":[{"message":{"content":"Hi"}}]}')
    assert tap.first_token is None


def test_usage_is_read_at_the_end_of_a_stream(tap):
    tap.head(200, SSE)
    tap.feed(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
    tap.feed(USAGE_FRAME)
    assert tap.usage() == Usage(3, 4)


@pytest.mark.parametrize("size", [1, 100, TAIL_BYTES - 1, TAIL_BYTES, 65536])
def test_of_a_long_answer_both_ends_are_kept(tap, size):
    start = b'data: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    middle = b'data: {"delta":{"text":"token"}}\n\n' * 5000
    end = b'data: {"usage":{"output_tokens":15}}\n\n'
    body = start + middle + end
    tap.head(200, SSE)
    for at in range(0, len(body), size):
        tap.feed(body[at : at + size])
    assert tap.usage() == Usage(25, 15)
    assert tap.response_bytes == len(body)
    assert len(tap._tail) <= 2 * TAIL_BYTES
    assert tap.beginning() == body[:HEAD_BYTES]


def test_a_large_piece_after_a_small_one_loses_no_beginning(tap):
    tap.head(200, JSON)
    tap.feed(b'{"usage":{"prompt_')
    tap.feed(b'tokens":8},"data":[' + b"0.1," * 50_000 + b"0.2]}")
    assert tap.usage() == Usage(8)


@pytest.mark.parametrize("body", [b"plain text with \"usage\": {'no': 1}", b"", b"RIFF\x00\x00"])
def test_other_answers_say_nothing(tap, body):
    tap.head(200, [("Content-Type", "text/plain")])
    tap.feed(body)
    assert tap.usage() == NOTHING


def test_json_is_known_by_its_first_character(tap):
    tap.head(200, [])
    tap.feed(b' \n[{"timings":{"prompt_n":6}}]')
    assert tap.usage() == Usage(6)


def test_compressed_streams_are_read_as_well(tap, clock):
    squeezed = gzip.compress(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n' + USAGE_FRAME)
    tap.head(200, [*SSE, ("content-encoding", "gzip")])
    for at in range(0, len(squeezed), 5):
        tap.feed(squeezed[at : at + 5])
    assert tap.usage() == Usage(3, 4)
    assert tap.first_token == clock.now
    assert tap.response_bytes == len(squeezed)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_an_answer_that_cannot_be_decoded_is_counted_all_the_same(tap, encoding):
    tap.head(200, [*JSON, ("Content-Encoding", encoding)])
    for _ in range(3):
        tap.feed(b'{"usage":{"prompt_tokens":3}}')
    assert tap.undecodable
    assert tap.usage() == NOTHING
    assert tap.response_bytes == 87


def test_only_the_first_end_counts(tap, clock, finished):
    clock.now = 105.0
    tap.finish(Unreachable("no connection"))
    clock.now = 200.0
    tap.finish()
    assert finished == [tap]
    assert tap.finished == 105.0
    assert isinstance(tap.error, Unreachable)


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ({"error": ClientGone("gone")}, True),
        ({"client_left": True}, True),
        ({"error": Unreachable("no")}, False),
        ({}, False),
    ],
)
def test_whether_the_client_left(tap, end, left):
    tap.finish(**end)
    assert tap.client_left is left


class Keeper:
    def __init__(self, takes=1000):
        self.kept, self.takes = [], takes

    def wants(self, headers):
        return header(headers, "content-type") != "audio/wav"

    def keep(self, data):
        self.kept.append(data)
        return len(self.kept) < self.takes


def test_a_keeper_gets_the_decoded_body_until_it_has_enough(clock):
    keeper = Keeper(takes=2)
    facts = RequestFacts(request_id="r", path="/", requested="m")
    tap = Tap(1, facts, clock=clock, now_ns=0, keeper=keeper, on_finish=lambda tap: None)
    tap.head(200, JSON)
    parts = [letter * TAIL_BYTES for letter in (b"a", b"b", b"c")]
    for part in parts:
        tap.feed(part)
    assert keeper.kept == parts[:2]


def test_a_keeper_gets_small_pieces_together_and_all_of_them(clock):
    keeper = Keeper()
    facts = RequestFacts(request_id="r", path="/", requested="m")
    tap = Tap(1, facts, clock=clock, now_ns=0, keeper=keeper, on_finish=lambda tap: None)
    tap.head(200, SSE)
    parts = [b"data: %d\n\n" % number for number in range(5000)]
    for part in parts:
        tap.feed(part)
    tap.finish()
    tap.settle()
    assert b"".join(keeper.kept) == b"".join(parts)
    assert len(keeper.kept) < len(parts) / 100


def test_a_keeper_that_wants_nothing_gets_nothing(clock):
    keeper = Keeper()
    facts = RequestFacts(request_id="r", path="/", requested="m")
    tap = Tap(1, facts, clock=clock, now_ns=0, keeper=keeper, on_finish=lambda tap: None)
    tap.head(200, [("Content-Type", "audio/wav")])
    tap.feed(json.dumps({}).encode())
    assert keeper.kept == []
