"""Answers on their way: frames of events, compressed bodies, and what they say of themselves."""

import gzip
import math
import zlib

from msgspec.structs import asdict

from llmsnap.http.sse import SseFrame, SseParser, ends_sse, sse_event
from llmsnap.telemetry import CannotDecode, ResponseObserver, decoder_for, extract
from tests.fakes.calls import observed
from tests.fuzz.pieces import cut, size_and_rest

WORDS = [
    b"data: ", b"data:", b"data", b"event: ", b"id: ", b"retry: 5", b": comment", b"\n", b"\r\n",
    b"\r", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"[DONE]", b"message_stop", b"\x00", b"\xff", b"\x85",
    b"\x1c", b"\xe2\x80\xa8", b'"usage":', b'"timings":',
    b'"metrics":', b'"usage":null', b'\\"usage\\":',
    b'{"usage":{"prompt_tokens":5,"completion_tokens":7}}', b'{"prompt_n":5,"predicted_ms":0}',
    b'"prompt_tokens_details":{"cached_tokens":4}', b'"input_tokens"', b'"output_tokens":"3.9"',
    b"1e999", b"-1", b"NaN", b"Infinity", b"true", b"[" * 50, b"{" * 50, b'"' , b"}", b",",
    b'"generation_time_ms":1', b'"time_to_first_token_ms":2', b'"draft_n":1', b'"predicted_n":9',
]  # fmt: skip
SEEDS = [
    b'\x07event: a\nid: 1\ndata: {"x":1}\ndata: 2\n\n: waiting\n\ndata: [DONE]\n\n',
    b'\x3fdata: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\r\n\r\n',
    b'\x01{"timings":{"prompt_n":1,"predicted_n":2,"predicted_ms":3},"usage":{"prompt_tokens":1}}',
    b"\x05" + gzip.compress(b"data: 1\n\n"),
]


def check(data: bytes) -> None:
    size, sent = size_and_rest(data)
    check_frames(sent, size)
    check_usage(sent, size)
    check_decoding(sent, size)


def check_frames(sent: bytes, size: int) -> None:
    expected = reference(sent)
    for pieces in ([sent], cut(sent, size)):
        parser = SseParser()
        assert [frame for piece in pieces for frame in parser.feed(piece)] == expected
    for frame in expected:
        assert SseParser().feed(sse_event(frame.data, frame.event, frame.id)) == [frame]
    ends_sse(sent)


def reference(sent: bytes) -> list[SseFrame]:
    """The frames by the letter of the standard, of a stream that is there as a whole."""
    lines = sent.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    frames = []
    fields: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\n")[:-1]:
        if line:
            name, _, value = line.partition(b":")
            fields.setdefault(name, []).append(value.removeprefix(b" "))
            continue
        texts = [
            joint.join(found[-1:] if name != b"data" else found).decode("utf-8", "replace")
            for name, joint in ((b"data", b"\n"), (b"event", b""), (b"id", b""))
            for found in [fields.get(name, [])]
        ]
        if b"data" in fields:
            frames.append(SseFrame(*texts))
        fields = {}
    return frames


def check_usage(sent: bytes, size: int) -> None:
    for value in asdict(extract(sent)).values():
        assert value is None or (math.isfinite(value) and value >= 0)
    extract(sent[size:], sent[:size])
    assert tapped([sent]) == tapped(cut(sent, size))
    tapped([sent] * 40)


def tapped(pieces: list[bytes]) -> object:
    """What is recorded of an answer that comes in *pieces*."""
    ended: list[ResponseObserver] = []
    observer = ResponseObserver(
        1,
        observed(),
        clock=lambda: 1.0,
        now_ns=1,
        on_finish=ended.append,
    )
    observer.head(200, [("Content-Type", "text/event-stream")])
    for piece in pieces:
        observer.feed(piece)
    observer.finish()
    assert ended == [observer]
    return observer.usage(), observer.first_token, observer.response_bytes


def check_decoding(sent: bytes, size: int) -> None:
    for encoding, packed in (("gzip", gzip.compress(sent)), ("deflate", zlib.compress(sent))):
        assert decoded(encoding, cut(packed, size)) == sent
        decoded(encoding, cut(sent, size))


def decoded(encoding: str, pieces: list[bytes]) -> bytes | None:
    decode = decoder_for(encoding)
    assert decode is not None
    try:
        return b"".join(decode(piece) for piece in pieces)
    except CannotDecode:
        return None
