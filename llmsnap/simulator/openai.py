"""OpenAI's chat completions and completions."""

from __future__ import annotations

from collections.abc import Iterator
from time import time

from llmsnap.simulator.exchange import (
    DONE,
    Json,
    Refusal,
    Request,
    Response,
    event_stream,
    json_response,
    mapping,
    mappings,
    sse,
)
from llmsnap.simulator.prompts import answer_schema, content_text, limit, question, tools
from llmsnap.simulator.reply import Part, Prompt, Reply, compose, extras
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State


def chat(state: State, request: Request) -> Response:
    """Answer ``/v1/chat/completions``."""
    reply = compose(state, request, chat_prompt(request))
    head = {"id": f"chatcmpl-{state.requests}", "created": int(time()), "model": reply.model}
    if request.wants_stream:
        return event_stream(_chat_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    choice = {"index": 0, "message": _message(reply), "finish_reason": _finish(reply)}
    body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage(reply)}
    return json_response(body | extras(state, request, reply))


def completions(state: State, request: Request) -> Response:
    """Answer ``/v1/completions``."""
    if "prompt" not in request.json:
        raise Refusal(400, "prompt is missing")
    text = content_text(request.json["prompt"])
    reply = compose(state, request, Prompt(text, text, limit(request, "max_tokens")))
    head = {"id": f"cmpl-{state.requests}", "created": int(time()), "model": reply.model}
    head["object"] = "text_completion"
    if request.wants_stream:
        return event_stream(_completion_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    choice = {"index": 0, "text": reply.text, "logprobs": None, "finish_reason": _finish(reply)}
    body = {**head, "choices": [choice], "usage": usage(reply)}
    return json_response(body | extras(state, request, reply))


def chat_prompt(request: Request) -> Prompt:
    """Return what a chat request asks. Raises Refusal 400 without messages."""
    body = request.json
    messages = mappings(body.get("messages"))
    if not messages:
        raise Refusal(400, "messages is missing or empty")
    functions = [mapping(tool.get("function")) for tool in mappings(body.get("tools"))]
    template = mapping(body.get("chat_template_kwargs"))
    thinks = request.flag("reasoning_effort") or bool(template.get("enable_thinking"))
    return Prompt(
        question=question(messages),
        text=" ".join(content_text(message.get("content")) for message in messages),
        limit=limit(request, "max_completion_tokens", "max_tokens"),
        tools=tools(functions, "parameters") if messages[-1].get("role") == "user" else (),
        must_call=body.get("tool_choice") not in (None, "none", "auto"),
        reasoning=thinks or request.flag("sim_reasoning"),
        schema=answer_schema(mapping(body.get("response_format"))),
    )


def usage(reply: Reply) -> Json:
    """Return the token counts as chat and completions name them."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _finish(reply: Reply) -> str:
    if reply.cut:
        return "length"
    return "tool_calls" if reply.tool else "stop"


def _message(reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": None if reply.tool else reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning_text
    if reply.tool:
        function = {"name": reply.tool.name, "arguments": reply.text}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return message


def _chat_frames(state: State, request: Request, reply: Reply, head: Json) -> Iterator[bytes]:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    request.client.wait(reply.prompt_s)
    yield sse(chunk({"role": "assistant", "content": None if reply.tool else ""}))
    for part, pieces in reply.parts:
        if part is Part.TOOL and reply.tool:
            yield sse(chunk(_tool_delta("", reply.tool.name)))
        for piece in reply.pace(request, pieces):
            yield sse(chunk(_delta(part, piece)))
    yield from _closing_frames(state, request, reply, chunk({}, _finish(reply)))


def _completion_frames(state: State, request: Request, reply: Reply, head: Json) -> Iterator[bytes]:
    def chunk(text: str, finish: str | None = None) -> Json:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}

    request.client.wait(reply.prompt_s)
    for piece in reply.pace(request, reply.pieces):
        yield sse(chunk(piece))
    yield from _closing_frames(state, request, reply, chunk("", _finish(reply)))


def _closing_frames(state: State, request: Request, reply: Reply, last: Json) -> Iterator[bytes]:
    """End a stream: the finishing chunk, the usage if it was asked for, and the end mark."""
    if mapping(request.json.get("stream_options")).get("include_usage"):
        yield sse(last)
        last = {**last, "choices": [], "usage": usage(reply)}
    yield sse(last | extras(state, request, reply))
    yield DONE


def _delta(part: Part, piece: str) -> Json:
    match part:
        case Part.REASONING:
            return {"reasoning_content": piece}
        case Part.TEXT:
            return {"content": piece}
        case Part.TOOL:
            return _tool_delta(piece)


def _tool_delta(arguments: str, name: str = "") -> Json:
    call: Json = {"index": 0, "function": {"arguments": arguments}}
    if name:
        call |= {"id": "call_1", "type": "function"}
        call["function"]["name"] = name
    return {"tool_calls": [call]}


ROUTES = (
    Route("/v1/chat/completions", chat, inference=True),
    Route("/v1/completions", completions, inference=True),
)
