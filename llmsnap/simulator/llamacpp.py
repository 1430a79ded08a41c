"""llama-server's endpoints: completion, infill, health, properties, embeddings and reranking."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator, Sequence
from zlib import crc32

from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    SimRequest,
    SimResponse,
    event_stream,
    json_response,
    mappings,
    sse,
)
from llmsnap.simulator.reply import (
    Prompt,
    Reply,
    compose,
    content_text,
    count_tokens,
    extras,
    split_tokens,
)
from llmsnap.simulator.routes import GET, Route, require_loaded, require_model, think
from llmsnap.simulator.state import SimState


def completion(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/completion``."""
    if "prompt" not in request.json:
        raise Refusal(400, '"prompt" must be provided')
    return _complete(state, request, content_text(request.json["prompt"]))


def infill(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/infill``."""
    body = request.json
    if "input_prefix" not in body or "input_suffix" not in body:
        raise Refusal(400, '"input_prefix" and "input_suffix" must be provided')
    texts = [body["input_prefix"], body.get("prompt"), body["input_suffix"]]
    return _complete(state, request, " ".join(filter(None, map(content_text, texts))))


def _complete(state: SimState, request: SimRequest, text: str) -> SimResponse:
    # -1 means no limit.
    given = request.json.get("n_predict")
    limit = given if isinstance(given, int) and given > 0 else 0
    reply = compose(state, request, Prompt(text, text, limit))
    if request.wants_stream:
        return event_stream(_frames(state, request, reply))
    request.client.wait(reply.duration_s)
    result = _result(reply, reply.text) | extras(state, request, reply)
    copies = int(request.number("n_cmpl", 1))
    answers = [{**result, "index": index} for index in range(copies)]
    return json_response(answers[0] if copies == 1 else answers)


def _result(reply: Reply, content: str) -> Json:
    return {
        "index": 0,
        "content": content,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": reply.model,
        "tokens_predicted": reply.output_tokens,
        "tokens_evaluated": reply.prompt_tokens,
        "tokens_cached": reply.prompt_tokens + reply.output_tokens,
        "truncated": False,
        "stop_type": "limit" if reply.cut else "eos",
        "stopping_word": "",
        "timings": reply.timings(),
    }


def _frames(state: SimState, request: SimRequest, reply: Reply) -> Iterator[bytes]:
    request.client.wait(reply.prompt_s)
    for number, piece in enumerate(reply.pace(request, reply.pieces), start=1):
        counts = {"tokens_predicted": number, "tokens_evaluated": reply.prompt_tokens}
        yield sse({"index": 0, "content": piece, "tokens": [], "stop": False, **counts})
    yield sse(_result(reply, "") | extras(state, request, reply))


def health(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/health``: 503 until the model is loaded."""
    del request
    require_loaded(state)
    return json_response({"status": "ok"})


def props(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/props``."""
    del request
    options = state.options
    return json_response(
        {
            "default_generation_settings": {"n_ctx": options.n_ctx},
            "total_slots": len(state.slots),
            "model_alias": options.model,
            "model_path": f"/simulated/{options.model}",
            "chat_template": "",
            "modalities": {"vision": False, "audio": False},
            "build_info": "llmsnap-simulator",
            "is_sleeping": bool(state.asleep),
        }
    )


def models(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/models`` with the simulated model."""
    del request
    options = state.options
    one = {"id": options.model, "object": "model", "created": 0, "owned_by": "llmsnap"}
    more = {"max_model_len": options.n_ctx, "meta": {"n_ctx_train": options.n_ctx}}
    return json_response({"object": "list", "data": [one | more]})


_LLAMA_ROUTES = (
    Route("/completion", completion, inference=True),
    Route("/infill", infill, inference=True),
    Route("/health", health, GET),
    Route("/props", props, GET),
    Route("/v1/models", models, GET),
)


def embed(text: str, dimensions: int) -> list[float]:
    """Return a unit vector for *text*: the normalized sum of one vector per word."""
    dimensions = max(dimensions, 1)
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        mark = crc32(word.encode("utf-8", "replace"))
        vector[mark % dimensions] += 1.0 if mark & 0x10000000 else -1.0
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def likeness(one: list[float], other: list[float]) -> float:
    """Return the cosine similarity of two unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def embeddings(state: SimState, request: SimRequest) -> SimResponse:
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
    used = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    body = {"object": "list", "model": model, "data": data, "usage": usage}
    return json_response(body | extras(state, request))


def rerank(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/rerank``: documents by descending similarity to the query."""
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
    used = sum(map(count_tokens, [query, *texts]))
    usage = {"prompt_tokens": used, "total_tokens": used}
    body = {"object": "list", "model": model, "results": results, "usage": usage}
    return json_response(body | extras(state, request))


def score(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/score``: the similarity of each pair of texts."""
    body = request.json
    ones = _texts(body.get("text_1") or body.get("queries"))
    others = _texts(body.get("text_2") or body.get("documents"))
    ones = ones * len(others) if len(ones) == 1 else ones
    think(state, request)
    size = state.options.dimensions
    scores = [likeness(embed(a, size), embed(b, size)) for a, b in zip(ones, others, strict=False)]
    return _list_response(state, request, "score", scores)


def pooling(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/pooling``: a vector for each text."""
    texts = _texts(request.json.get("input"))
    think(state, request)
    return _list_response(
        state, request, "pooling", [embed(text, state.options.dimensions) for text in texts]
    )


def classify(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/classify``: the class depends on the text's length."""
    texts = _texts(request.json.get("input"))
    think(state, request)
    return _list_response(
        state, request, "classify", [{"label": f"LABEL_{len(text) % 2}"} for text in texts]
    )


def _list_response(
    state: SimState, request: SimRequest, kind: str, found: Sequence[object]
) -> SimResponse:
    model = request.text("model") or state.options.model
    require_model(state, model)
    data = [{"index": index, "object": kind, "data": one} for index, one in enumerate(found)]
    body = {"object": "list", "model": model, "data": data}
    return json_response(body | extras(state, request))


def tokenize(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/tokenize``: tokens are numbered in the order they first occur."""
    text = content_text(request.json.get("content") or request.json.get("prompt"))
    pieces = split_tokens(text)
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return json_response({"tokens": [numbers[one] for one in pieces]} | extras(state, request))


def detokenize(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/detokenize`` with a word for each token."""
    tokens = request.json.get("tokens")
    if not isinstance(tokens, list):
        raise Refusal(400, "tokens is missing")
    text = " ".join(f"token{number}" for number in tokens)
    return json_response({"content": text} | extras(state, request))


def apply_template(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/apply-template`` with the prompt of a chat."""
    turns = mappings(request.json.get("messages"))
    lines = [f"{turn.get('role')}: {content_text(turn.get('content'))}\n" for turn in turns]
    return json_response({"prompt": "".join(lines)} | extras(state, request))


def _texts(value: object) -> list[str]:
    """Return the inputs of an embedding request: texts, or one list of token numbers."""
    match value:
        case str() | [int(), *_]:
            return [content_text(value)]
        case list() if value:
            return [content_text(each) for each in value]
    raise Refusal(400, "input is missing or empty")


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_RERANK = ("/v1/rerank", "/v1/reranking", "/rerank", "/reranking", "/v2/rerank")
_VECTOR_ROUTES = (
    Route("/v1/embeddings", embeddings, inference=True),
    *(Route(path, rerank, inference=True) for path in _RERANK),
    Route("/score", score, inference=True),
    Route("/pooling", pooling, inference=True),
    Route("/classify", classify, inference=True),
    Route("/tokenize", tokenize, inference=True),
    Route("/detokenize", detokenize, inference=True),
    Route("/apply-template", apply_template, inference=True),
)

ROUTES = (*_LLAMA_ROUTES, *_VECTOR_ROUTES)
