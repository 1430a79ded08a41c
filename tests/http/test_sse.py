from itertools import product
from random import Random

import pytest

from llmsnap.http.sse import (
    SseFrame,
    SseParser,
    ends_frame,
    ends_sse,
    sse_comment,
    sse_event,
    sse_message,
)
from tests.drawn import cases

FRAMES = [
    (sse_event("x"), b"data: x\n\n"),
    (sse_event("a\r\nb\rc"), b"data: a\ndata: b\ndata: c\n\n"),
    (sse_event("x", "error"), b"event: error\ndata: x\n\n"),
    (sse_event("x", event_id="7"), b"id: 7\ndata: x\n\n"),
    (sse_event("x", "a\nb"), b"event: a b\ndata: x\n\n"),
    (sse_message('{"type":"x"}'), b'event:message\ndata:{"type":"x"}\n\n'),
    (sse_comment(), b": \n"),
    (sse_comment("still\nhere"), b": still here\n"),
]


def test_frames_as_bytes() -> None:
    assert [frame for frame, _ in FRAMES] == [encoded for _, encoded in FRAMES]


STREAMS = {
    b"data: x\n\n": [SseFrame("x")],
    b"data:x\r\n\r\n": [SseFrame("x")],
    b"data:x\r\ndata:y\r\n\r\n": [SseFrame("x\ny")],
    b"data:x\r\r": [SseFrame("x")],
    b"\xef\xbb\xbfdata: x\n\n": [SseFrame("x")],
    b"data: a\ndata\ndata:  b\n\n": [SseFrame("a\n\n b")],
    b"event: e\nid: 4\ndata: x\n\ndata: y\n\n": [SseFrame("x", "e", "4"), SseFrame("y")],
    b": heartbeat\n\n\n\ndata: x\n\n": [SseFrame("x")],
    b"event: nothing\n\n": [],
    b"retry: 5\nfoo: bar\ndata: x\n\n": [SseFrame("x")],
    b"data: \xff\n\n": [SseFrame("\ufffd")],
    b"data: unfinished\n": [],
    b"": [],
}


def test_frames_are_read_however_the_stream_is_cut() -> None:
    for size, (stream, frames) in product((1, 2, 3, 1000), STREAMS.items()):
        parser = SseParser()
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [frame for piece in pieces for frame in parser.feed(piece)] == frames, stream


LINES = ["", "a", " b", "é", "\u2028", "\ufeff", ":", "data: x", "\n", "\r", "\r\n", "\0"]


@cases(60)
def test_what_is_encoded_is_read_back(random: Random) -> None:
    frames = [
        SseFrame(
            "".join(random.choices(LINES, k=random.randrange(7))),
            *("".join(random.choices("abc._-", k=random.randrange(4))) for _ in range(2)),
        )
        for _ in range(random.randrange(7))
    ]
    cuts = [random.randint(1, 9) for _ in range(5)]
    stream = b"".join(sse_event(f.data, f.event, f.id) + sse_comment() for f in frames)
    parser = SseParser()
    found = []
    while stream:
        size = cuts[len(stream) % len(cuts)]
        found += parser.feed(stream[:size])
        stream = stream[size:]
    lines = [f.data.replace("\r\n", "\n").replace("\r", "\n") for f in frames]
    assert [f.data for f in found] == lines
    assert [(f.event, f.id) for f in found] == [(f.event, f.id) for f in frames]


def test_a_frame_that_is_too_long_is_left_out() -> None:
    long = (b"data: " + b"x" * 200 + b"\n", b"data: 123456789\n" * 20)
    for size, beginning in product((1, 7, 50, 1000), long):
        stream = beginning + b"data: more\n\n" + b"data: y\n\n"
        parser = SseParser(max_frame_bytes=100)
        found = []
        for i in range(0, len(stream), size):
            found += parser.feed(stream[i : i + size])
            assert len(parser._rest) <= 100
        assert found == [SseFrame("y")]


def test_when_a_stream_is_between_two_frames() -> None:
    assert all(ends_frame(sent) for sent in (b"", b"x\n\n", b"x\r\n\r\n", b"x\r\r"))
    assert not any(ends_frame(sent) for sent in (b"x", b"x\n", b"x\r\n"))


LAST = {
    b'data: {"a":1}\n\ndata: [DONE]\n\n': True,
    b"data:[DONE]\r\n\r\n": True,
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n': True,
    b'event: response.completed\ndata: {"type":"response.completed"}\n\n': True,
    b"": False,
    b'data: {"content":"[DONE]"}\n\n': False,
    b'data: {"content":"say data: [DONE]\\n\\n"}\n\n': False,
    b'data: [DONE]\n\ndata: {"more":1}\n\n': False,
    b'event: message_delta\ndata: {"type":"message_delta"}\n\n': False,
}


def test_which_frame_is_the_last() -> None:
    assert {sent: ends_sse(sent) for sent in LAST} == LAST


def dispatching_on_blank_lines(stream: bytes) -> list[bytes]:
    """Read as openai-go before 3.43 does: a blank line ends an event, even one without data."""
    events, data = [], b""
    for line in stream.splitlines():
        if not line:
            events.append(data)
            data = b""
        elif line.startswith(b"data:"):
            data += line[5:].strip()
    return events


def splitting_lines(stream: bytes) -> list[bytes]:
    """Read as clients without a parser do: field and value of each line that is no comment."""
    lines = [line for line in stream.split(b"\n") if line and not line.startswith(b":")]
    return [line.split(b": ", 1)[1] for line in lines]


@pytest.mark.parametrize("read", [dispatching_on_blank_lines, splitting_lines])
def test_comments_between_frames_mean_nothing_to_any_reader(read) -> None:
    stream = sse_comment("waiting") + sse_comment() + sse_event("{}")
    stream += sse_comment("still here") + sse_event("[DONE]")
    assert read(stream) == [b"{}", b"[DONE]"]
    assert [frame.data for frame in SseParser().feed(stream)] == ["{}", "[DONE]"]
