"""Anthropic's messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    SimRequest,
    SimResponse,
    event_stream,
    json_response,
    mapping,
    mappings,
    sse,
)
from llmsnap.simulator.reply import (
    Prompt,
    Reply,
    ReplyPart,
    compose,
    content_text,
    count_tokens,
    extras,
    limit,
    question,
    tools,
)
from llmsnap.simulator.routes import Route
from llmsnap.simulator.state import SimState


def messages(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/messages``."""
    reply = compose(state, request, _prompt(request))
    head = _head(state, reply)
    if request.wants_stream:
        return event_stream(_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    content = [_block(reply, part, "".join(pieces)) for part, pieces in reply.parts]
    body = {**head, "content": content, "stop_reason": _stop_reason(reply)}
    body["usage"] = _usage(reply, reply.output_tokens)
    return json_response(body | extras(state, request, reply))


def count_message_tokens(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/messages/count_tokens``."""
    del state
    return json_response({"input_tokens": count_tokens(_prompt(request).text)})


def _prompt(request: SimRequest) -> Prompt:
    body = request.json
    turns = mappings(body.get("messages"))
    if not turns:
        raise Refusal(400, "messages: at least one message is required")
    texts = [content_text(body.get("system"))]
    texts += [content_text(turn.get("content")) for turn in turns]
    last = mappings(turns[-1].get("content"))
    answers_tool = any(part.get("type") == "tool_result" for part in last)
    return Prompt(
        question=question(turns),
        text=" ".join(filter(None, texts)),
        limit=limit(request, "max_tokens"),
        tools=() if answers_tool else tools(mappings(body.get("tools")), "input_schema"),
        must_call=mapping(body.get("tool_choice")).get("type") in {"any", "tool"},
        reasoning=mapping(body.get("thinking")).get("type") in {"enabled", "adaptive"}
        or request.flag("sim_reasoning"),
    )


def _head(state: SimState, reply: Reply) -> Json:
    return {
        "id": f"msg_{state.requests}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(reply, 0),
    }


def _usage(reply: Reply, output_tokens: int) -> Json:
    return {
        "input_tokens": reply.prompt_tokens - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": output_tokens,
    }


def _stop_reason(reply: Reply) -> str:
    if reply.cut:
        return "max_tokens"
    return "tool_use" if reply.tool else "end_turn"


def _block(reply: Reply, part: ReplyPart, text: str) -> Json:
    match part:
        case ReplyPart.REASONING:
            return {"type": "thinking", "thinking": text, "signature": ""}
        case ReplyPart.TEXT:
            return {"type": "text", "text": text}
        case ReplyPart.TOOL:
            name = reply.tool.name if reply.tool else ""
            return {"type": "tool_use", "id": "toolu_1", "name": name, "input": _arguments(text)}


def _arguments(text: str) -> Json:
    try:
        return mapping(json.loads(text))
    except ValueError:  # not started, or cut off by the token limit
        return {}


def _delta(part: ReplyPart, piece: str) -> Json:
    match part:
        case ReplyPart.REASONING:
            return {"type": "thinking_delta", "thinking": piece}
        case ReplyPart.TEXT:
            return {"type": "text_delta", "text": piece}
        case ReplyPart.TOOL:
            return {"type": "input_json_delta", "partial_json": piece}


def _frames(state: SimState, request: SimRequest, reply: Reply, head: Json) -> Iterator[bytes]:
    def emit(kind: str, **members: object) -> bytes:
        return sse({"type": kind, **members}, event=kind)

    request.client.wait(reply.prompt_s)
    yield emit("message_start", message=head)
    yield emit("ping")
    for index, (part, pieces) in enumerate(reply.parts):
        block = _block(reply, part, "")
        yield emit("content_block_start", index=index, content_block=block)
        for piece in reply.pace(request, pieces):
            yield emit("content_block_delta", index=index, delta=_delta(part, piece))
        yield emit("content_block_stop", index=index)
    stop = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    usage = {"output_tokens": reply.output_tokens}
    yield emit("message_delta", delta=stop, usage=usage, **extras(state, request, reply))
    yield emit("message_stop")


ROUTES = (
    Route("/v1/messages", messages, inference=True),
    Route("/v1/messages/count_tokens", count_message_tokens, inference=True),
)
