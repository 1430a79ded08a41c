"""llama-server's endpoints of the simulator."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from llmsnap.simulator.llamacpp import embed, likeness

TEXT = "You said: hello\nI am m, a simulated model."


def test_a_completion_has_timings(sim):
    answer = sim.post("/completion", {"model": "m", "prompt": "hello"}).json
    assert answer["content"] == TEXT
    assert answer["stop"] is True
    assert answer["timings"]["prompt_n"] == 1
    assert answer["timings"]["predicted_n"] == 9


def test_a_completion_streamed_ends_with_timings(sim):
    body = {"model": "m", "prompt": "hello", "stream": True}
    *frames, last = [data for _, data in sim.post("/completion", body).events]
    assert "".join(frame["content"] for frame in frames) == TEXT
    assert not any(frame["stop"] for frame in frames)
    assert (last["stop"], last["timings"]["predicted_n"]) == (True, 9)


@pytest.mark.parametrize(("limit", "count", "kind"), [(2, 2, "limit"), (-1, 9, "eos")])
def test_the_limit_of_tokens(sim, limit, count, kind):
    answer = sim.post("/completion", {"model": "m", "prompt": "hello", "n_predict": limit}).json
    assert (answer["tokens_predicted"], answer["stop_type"]) == (count, kind)


def test_infill_reads_before_and_after(sim):
    body = {"input_prefix": "a", "input_suffix": "b c"}
    assert sim.post("/infill", body).json["tokens_evaluated"] == 3


def test_several_completions_come_as_a_list(sim):
    body = {"input_prefix": "a", "input_suffix": "b", "n_cmpl": 2}
    answer = sim.post("/infill", body).json
    assert [each["index"] for each in answer] == [0, 1]
    assert "timings" in answer[-1]


def test_health_waits_for_the_model(sim):
    assert sim.get("/health").json == {"status": "ok"}
    sim.state.loaded.clear()
    assert sim.get("/health").status == 503


def test_what_it_says_of_itself(serve):
    sim = serve(model="m", n_ctx=77)
    assert sim.get("/props").json["default_generation_settings"]["n_ctx"] == 77
    assert [each["id"] for each in sim.get("/v1/models").json["data"]] == ["m"]


def test_vectors_have_length_one_and_are_equal_for_equal_texts():
    assert embed("a red cat", 16) == embed("a red cat", 16)
    assert math.hypot(*embed("a red cat", 16)) == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "   ", "e"])
@pytest.mark.parametrize("dimensions", [0, 1, 2])
def test_there_is_a_vector_for_anything(text, dimensions):
    assert math.hypot(*embed(text, dimensions)) == pytest.approx(1)


def test_words_that_cancel_out_still_have_a_vector():
    words = {embed(f"w{n}", 1)[0]: f"w{n}" for n in range(50)}
    assert embed(f"{words[1.0]} {words[-1.0]}", 1) == [1.0]


def test_similar_texts_are_closer():
    cat, cats, ship = (embed(text, 64) for text in ("a red cat", "the red cat", "ship ahoy"))
    assert likeness(cat, cats) > likeness(cat, ship)


@pytest.mark.parametrize(
    ("given", "count", "tokens"),
    [("a b", 1, 2), (["a", "b"], 2, 2), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
def test_embeddings(sim, given, count, tokens):
    answer = sim.post("/v1/embeddings", {"input": given}).json
    assert [each["index"] for each in answer["data"]] == list(range(count))
    assert len(answer["data"][0]["embedding"]) == 64
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_embeddings_in_base64_are_the_same_numbers(sim):
    body = {"input": "a b", "dimensions": 8, "encoding_format": "base64"}
    data = sim.post("/v1/embeddings", body).json["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(data)) == pytest.approx(embed("a b", 8))


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"])
def test_rerank_puts_the_likest_first(sim, path):
    documents = ["a ship", {"text": "a red cat"}, "cat"]
    answer = sim.post(path, {"query": "red cat", "documents": documents, "top_n": 2}).json
    assert [result["index"] for result in answer["results"]] == [1, 2]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["usage"]["prompt_tokens"] == 8
