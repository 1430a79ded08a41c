"""What llama-server's endpoints tell of the server, vectors, and ranks."""

import base64
import math
import struct
from itertools import product

import pytest

from llmsnap.simulator.llamacpp import embed, likeness


def test_it_tells_of_itself_and_whether_it_is_loaded(serve):
    sim = serve(model="m", n_ctx=77)
    assert sim.get("/props").json["default_generation_settings"]["n_ctx"] == 77
    assert [each["id"] for each in sim.get("/v1/models").json["data"]] == ["m"]
    assert sim.get("/health").json == {"status": "ok"}
    sim.state.loaded.clear()
    assert sim.get("/health").status == 503
    refused = sim.post("/completion", {"prompt": "a"})
    assert (refused.status, refused.json["error"]["message"]) == (503, "Loading model")


def test_the_vector_of_a_text_is_the_same_each_time_and_has_length_one():
    cases = list(product(["", "   ", "e", "a red cat"], [0, 1, 2, 16]))
    vectors = {case: embed(*case) for case in cases}
    assert {case: embed(*case) for case in cases} == vectors
    lengths = {case: math.hypot(*vector) for case, vector in vectors.items()}
    assert lengths == pytest.approx(dict.fromkeys(cases, 1))


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
    shape = [(each["index"], len(each["embedding"])) for each in answer["data"]]
    assert shape == [(index, 64) for index in range(count)]
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_embeddings_in_base64_are_the_same_numbers(sim):
    body = {"input": "a b", "dimensions": 8, "encoding_format": "base64"}
    data = sim.post("/v1/embeddings", body).json["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(data)) == pytest.approx(embed("a b", 8))


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"])
def test_rerank_puts_the_likest_first(sim, path):
    documents = ["a ship", {"text": "a red cat"}, "cat"]
    answer = sim.post(path, {"query": "red cat", "documents": documents, "top_n": 2}).json
    first, second = answer["results"]
    assert (first["index"], second["index"]) == (1, 2)
    assert first["relevance_score"] > second["relevance_score"]
    assert answer["usage"]["prompt_tokens"] == 8
