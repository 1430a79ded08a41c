"""Token counts and speeds in responses, and the content encodings around them."""

import gzip
import json
import sys
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.telemetry import usage as module
from llmsnap.telemetry.usage import NOTHING, CannotDecode, Usage, decoder_for, extract
from tests.drawn import cases

TIMINGS = {
    "prompt_n": 100, "predicted_n": 50, "prompt_per_second": 150.5, "predicted_per_second": 25.5,
    "prompt_ms": 500.0, "predicted_ms": 1500.0, "cache_n": 20,
}  # fmt: skip
TIMED = Usage(100, 50, 20, prompt_per_second=150.5, tokens_per_second=25.5, server_ms=2000.0)


def body(**members) -> bytes:
    return json.dumps(members).encode()


def sse(*payloads) -> bytes:
    frames = [p if isinstance(p, str) else json.dumps(p) for p in payloads]
    return "".join(f"data: {frame}\n\n" for frame in frames).encode()


def test_plain_answers():
    cases = [
        # OpenAI chat, completions, embeddings, rerank
        ({"usage": {"prompt_tokens": 100, "completion_tokens": 50}}, Usage(100, 50)),
        ({"usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(7)),
        ({"usage": {"completion_tokens": 0}}, Usage(None, 0)),
        # Responses and Anthropic names, all three spellings of the cache
        ({"usage": {"input_tokens": 3, "output_tokens": 4}}, Usage(3, 4)),
        ({"usage": {"input_tokens": 3, "cache_read_input_tokens": 9}}, Usage(3, None, 9)),
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 8}}}, Usage(cached_tokens=8)),
        ({"usage": {"input_tokens_details": {"cached_tokens": 0}}}, Usage(cached_tokens=0)),
        # llama-server
        ({"timings": TIMINGS}, TIMED),
        ({"timings": TIMINGS, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, TIMED),
        ({"timings": {"prompt_n": 5, "draft_n": 9, "draft_n_accepted": 6}},
         Usage(5, draft_tokens=9, draft_accepted=6)),
        ({"timings": {"predicted_n": 50, "predicted_ms": 2000}},
         Usage(None, 50, tokens_per_second=25.0, server_ms=2000.0)),
        # vLLM with --enable-per-request-metrics
        ({"usage": {"prompt_tokens": 42, "completion_tokens": 128},
          "metrics": {"time_to_first_token_ms": 85.5, "generation_time_ms": 1240.5,
                      "tokens_per_second": 103.2}},
         Usage(42, 128, tokens_per_second=103.2, server_ms=1326.0)),
        # null is absent
        ({"usage": {"prompt_tokens": None, "input_tokens": 6}}, Usage(6)),
        # numbers are read leniently
        ({"usage": {"prompt_tokens": "12", "completion_tokens": 3.9}}, Usage(12, 3)),
        ({"usage": {"prompt_tokens": True, "completion_tokens": [1]}}, Usage(1)),
        ({"usage": {"prompt_tokens": -5, "completion_tokens": "many"}}, NOTHING),
        ({"usage": {"prompt_tokens": 10**400, "completion_tokens": 2**60}}, NOTHING),
        ({"usage": {"prompt_tokens": float("inf"), "completion_tokens": float("nan")}}, NOTHING),
        ({"input_tokens": 15}, NOTHING),
    ]  # fmt: skip
    assert [(members, extract(body(**members))) for members, _ in cases] == cases


def test_streams_and_broken_bodies():
    cases = [
        (sse({"choices": []}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}, "[DONE]"),
         Usage(1, 2)),
        (sse({"choices": [], "timings": TIMINGS, "usage": {"prompt_tokens": 1}}, "[DONE]"), TIMED),
        (b'data:{"usage":{"prompt_tokens":5}}\n\ndata: [DONE]\n\n', Usage(5)),
        # usage with every chunk: the last one counts
        (sse(*({"usage": {"prompt_tokens": 4, "completion_tokens": n}} for n in range(30))),
         Usage(4, 29)),
        (sse({"usage": {"completion_tokens": 5}}, {"usage": None}, "[DONE]"), Usage(None, 5)),
        # Responses: inside the completed event
        (sse({"type": "response.created", "response": {"usage": None}},
             {"type": "response.completed", "response": {"output": [], "usage": {
                 "input_tokens": 10, "output_tokens": 20,
                 "input_tokens_details": {"cached_tokens": 4}}}}), Usage(10, 20, 4)),
        # Anthropic: input with the first event, output with the last
        (sse({"type": "message_start", "message": {"usage": {
                 "input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 7}}},
             {"type": "message_delta", "usage": {"output_tokens": 15}}), Usage(25, 15, 7)),
        (json.dumps([{"timings": {"prompt_n": 1}}, {"timings": TIMINGS}]).encode(), TIMED),
        (b"", NOTHING),
        (b'{"usage": {"prompt_tokens"', NOTHING),
        (b'"usage" : [' + b"[" * 100_000, NOTHING),
    ]  # fmt: skip
    assert [(stream, extract(stream)) for stream, _ in cases] == cases


def test_what_a_model_or_a_tool_writes_about_usage_is_not_taken_for_it():
    text = 'say {"usage": {"prompt_tokens": 999}} and "timings": {"prompt_n": 999}' * 20
    answer = body(usage={"prompt_tokens": 4}, choices=[{"message": {"content": text}}])
    assert extract(answer) == Usage(4)
    properties = {"usage": {"type": "string"}, "timings": {"type": "object"}}
    later = {"properties": {"usage": {"type": "string"}, "name": "usage"}}
    tools = [{"properties": properties}]
    assert extract(body(tools=tools, usage={"input_tokens": 4}, later=later)) == Usage(4)


def test_a_body_of_which_the_middle_is_missing():
    head = sse({"type": "message_start", "message": {"usage": {"input_tokens": 25}}})
    tail = b'ken"}}\n\n' + sse({"type": "message_delta", "usage": {"output_tokens": 15}})
    assert extract(tail, head) == Usage(25, 15)
    embeddings_first = b'{"model":"m","usage":{"prompt_tokens":8},"data":[{"embedding":[0.1,'
    assert extract(b"0.2,0.3]}]}", embeddings_first) == Usage(8)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_body_whatever_breaks_it(data):
    for answer in (data, b'{"usage":' + data, b'"timings":{' + data, gzip.compress(data)):
        extract(answer, answer)


NAMES = [
    "prompt_tokens", "input_tokens", "completion_tokens", "predicted_n", "prompt_ms",
    "predicted_ms", "tokens_per_second", "usage", "draft_n",
]  # fmt: skip


@cases(100)
def test_an_answer_read_as_a_whole_says_what_its_text_says(chance: Random) -> None:

    def members():
        numbers = (None, chance.randint(-1, 99), chance.uniform(0, 9), "7", "x")
        return {name: chance.choice(numbers) for name in chance.sample(NAMES, chance.randrange(5))}

    def value():
        parts = [members() for _ in range(chance.randrange(3))]
        return chance.choice((members(), members(), None, parts, {"usage": {"x": 1}}))

    outer = ("usage", "timings", "metrics", "response", "choices")
    answer = {name: value() for name in chance.sample(outer, chance.randrange(4))}
    body = json.dumps(answer).encode()
    assert extract(body) == extract(b" " + body)


TEXT = b'{"usage": {"prompt_tokens": 4}}' * 40


def raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def brotli(data: bytes) -> bytes:
    return pytest.importorskip("brotli").compress(data)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        (" GZip ", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("br", brotli),
        ("zstd", zstd),
    ],
)
def test_bodies_come_out_as_they_went_in(encoding, encode):
    for size in (1, 7, 100_000):
        decode = decoder_for(encoding)
        assert b"".join(decode(chunk) for chunk in split(encode(TEXT), size)) == TEXT, size


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_something_else_cannot_be_decoded(encoding, monkeypatch):
    for other in ("", "identity", "rot13"):
        assert decoder_for(other) is None
    with pytest.raises(CannotDecode):
        decoder_for(encoding)(b"\xff\xff plain text, not compressed at all")
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(CannotDecode, match="brotli is not installed"):
        decoder_for("br")


@pytest.mark.parametrize("encode", [gzip.compress, zstd])
def test_a_bomb_is_given_up(encode, monkeypatch):
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 100_000)
    decode = decoder_for("gzip" if encode is gzip.compress else "zstd")
    with pytest.raises(CannotDecode, match="too large"):
        decode(encode(bytes(2_000_000)))
