"""llama-server's own endpoints: completion and infill, health and properties."""

from __future__ import annotations

from collections.abc import Iterator

from llmsnap.simulator.admission import require_loaded
from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    Request,
    Response,
    event_stream,
    json_response,
    sse,
)
from llmsnap.simulator.prompts import content_text
from llmsnap.simulator.reply import Prompt, Reply, compose, extras
from llmsnap.simulator.route import GET, Route
from llmsnap.simulator.state import State


def completion(state: State, request: Request) -> Response:
    """Answer ``/completion``."""
    if "prompt" not in request.json:
        raise Refusal(400, '"prompt" must be provided')
    return _complete(state, request, content_text(request.json["prompt"]))


def infill(state: State, request: Request) -> Response:
    """Answer ``/infill``."""
    body = request.json
    if "input_prefix" not in body or "input_suffix" not in body:
        raise Refusal(400, '"input_prefix" and "input_suffix" must be provided')
    texts = [body["input_prefix"], body.get("prompt"), body["input_suffix"]]
    return _complete(state, request, " ".join(filter(None, map(content_text, texts))))


def _complete(state: State, request: Request, text: str) -> Response:
    # -1 asks for no limit.
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


def _frames(state: State, request: Request, reply: Reply) -> Iterator[bytes]:
    request.client.wait(reply.prompt_s)
    for number, piece in enumerate(reply.pace(request, reply.pieces), start=1):
        counts = {"tokens_predicted": number, "tokens_evaluated": reply.prompt_tokens}
        yield sse({"index": 0, "content": piece, "tokens": [], "stop": False, **counts})
    yield sse(_result(reply, "") | extras(state, request, reply))


def health(state: State, request: Request) -> Response:
    """Answer ``/health``: 503 until the model is loaded."""
    del request
    require_loaded(state)
    return json_response({"status": "ok"})


def props(state: State, request: Request) -> Response:
    """Answer ``/props``."""
    del request
    options = state.options
    return json_response(
        {
            "default_generation_settings": {"n_ctx": options.n_ctx},
            "total_slots": 1,
            "model_alias": options.model,
            "model_path": f"/simulated/{options.model}",
            "chat_template": "",
            "modalities": {"vision": False, "audio": False},
            "build_info": "llmsnap-simulator",
            "is_sleeping": bool(state.asleep),
        }
    )


def models(state: State, request: Request) -> Response:
    """Answer ``/v1/models`` with the one model there is."""
    del request
    options = state.options
    one = {"id": options.model, "object": "model", "created": 0, "owned_by": "llmsnap"}
    more = {"max_model_len": options.n_ctx, "meta": {"n_ctx_train": options.n_ctx}}
    return json_response({"object": "list", "data": [one | more]})


ROUTES = (
    Route("/completion", completion, inference=True),
    Route("/infill", infill, inference=True),
    Route("/health", health, GET),
    Route("/props", props, GET),
    Route("/v1/models", models, GET),
)
