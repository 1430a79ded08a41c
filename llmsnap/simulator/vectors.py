"""Embeddings and reranking: vectors that are equal for equal texts, and close for similar ones."""

from __future__ import annotations

import base64
import math
import struct
from zlib import crc32

from llmsnap.simulator import tokens
from llmsnap.simulator.admission import require_model, think
from llmsnap.simulator.exchange import Refusal, Request, Response, json_response
from llmsnap.simulator.prompts import content_text
from llmsnap.simulator.reply import extras
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State


def embed(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 for *text*: each word pushes it in a direction of its own."""
    dimensions = max(dimensions, 1)
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        mark = crc32(word.encode("utf-8", "replace"))
        vector[mark % dimensions] += 1.0 if mark & 0x10000000 else -1.0
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def likeness(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def embeddings(state: State, request: Request) -> Response:
    """Answer ``/v1/embeddings``."""
    model = request.text("model") or state.options.model
    require_model(state, model)
    texts = _texts(request.json.get("input"))
    dimensions = int(request.number("dimensions", state.options.dimensions))
    think(state, request)
    as_base64 = request.text("encoding_format") == "base64"
    vectors = [embed(text, dimensions) for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(each) if as_base64 else each}
        for index, each in enumerate(vectors)
    ]
    used = sum(map(tokens.count, texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    body = {"object": "list", "model": model, "data": data, "usage": usage}
    return json_response(body | extras(state, request))


def rerank(state: State, request: Request) -> Response:
    """Answer ``/v1/rerank``: the documents most like the query first."""
    model = request.text("model") or state.options.model
    require_model(state, model)
    documents = request.json.get("documents")
    if "query" not in request.json or not isinstance(documents, list):
        raise Refusal(400, "query or documents is missing")
    think(state, request)
    query = request.text("query")
    aim = embed(query, state.options.dimensions)
    texts = [content_text(document) for document in documents]
    scores = [likeness(aim, embed(text, state.options.dimensions)) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
    results = [
        {"index": index, "relevance_score": scores[index], "document": {"text": texts[index]}}
        for index in order[: int(request.number("top_n", len(texts)))]
    ]
    used = sum(map(tokens.count, [query, *texts]))
    usage = {"prompt_tokens": used, "total_tokens": used}
    body = {"object": "list", "model": model, "results": results, "usage": usage}
    return json_response(body | extras(state, request))


def _texts(value: object) -> list[str]:
    """Return the inputs of an embedding request: texts, or token numbers standing for one."""
    match value:
        case str() | [int(), *_]:
            return [content_text(value)]
        case list() if value:
            return [content_text(each) for each in value]
    raise Refusal(400, "input is missing or empty")


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_RERANK = ("/v1/rerank", "/v1/reranking", "/rerank", "/reranking")
ROUTES = (
    Route("/v1/embeddings", embeddings, inference=True),
    *(Route(path, rerank, inference=True) for path in _RERANK),
)
