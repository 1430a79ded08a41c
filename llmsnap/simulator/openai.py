"""OpenAI's text APIs: chat completions and completions."""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

from llmsnap.simulator.exchange import (
    DONE,
    Json,
    Refusal,
    Request,
    Response,
    event_stream,
    json_response,
    sse,
)
from llmsnap.simulator.reply import Part, Prompt, Reply, Tool, compose
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State


def chat(state: State, request: Request) -> Response:
    """Answer ``/v1/chat/completions``."""
    reply = compose(state, request, chat_prompt(request.json))
    head = {"id": f"chatcmpl-{state.requests}", "created": int(time()), "model": reply.model}
    if request.flag("stream"):
        return event_stream(_chat_chunks(state, request, reply, head))
    request.client.wait(reply.duration_s)
    choice = {"index": 0, "message": _message(reply), "finish_reason": _finish(reply)}
    body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage(reply)}
    return json_response(body | extras(state, request, reply))


def chat_prompt(body: Json) -> Prompt:
    """Return what a chat request asks. Raises Refusal 400 without messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages is missing or empty")
    texts = [message_text(message) for message in messages]
    asked = [text for message, text in zip(messages, texts, strict=True) if is_user(message)]
    return Prompt(
        question=asked[-1] if asked else "",
        text=" ".join(texts),
        limit=int(body.get("max_completion_tokens") or body.get("max_tokens") or 0),
        tools=_tools(body) if is_user(messages[-1]) else (),
        must_call=body.get("tool_choice") not in {None, "none", "auto"}
        if not isinstance(body.get("tool_choice"), dict)
        else True,
        reasoning=bool(body.get("sim_reasoning")),
    )


def is_user(message: object) -> bool:
    """Tell whether *message* is the user's."""
    return isinstance(message, dict) and message.get("role") == "user"


def message_text(message: Any) -> str:
    """Return the text of *message*: its content, or the text parts of it."""
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def usage(reply: Reply) -> Json:
    """Return the token counts as chat and completions name them."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def extras(state: State, request: Request, reply: Reply) -> Json:
    """Return what was asked for beyond the API: timings, and the request as it arrived."""
    more: Json = {}
    if state.options.timings or request.flag("timings") or request.flag("timings_per_token"):
        more["timings"] = reply.timings()
    if state.options.echo_requests or request.flag("sim_echo"):
        more["sim_request"] = request.describe()
    return more


def _tools(body: Json) -> tuple[Tool, ...]:
    functions = [tool.get("function", {}) for tool in body.get("tools") or []]
    return tuple(Tool(each.get("name", ""), each.get("parameters") or {}) for each in functions)


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


def _chat_chunks(state: State, request: Request, reply: Reply, head: Json) -> Iterator[bytes]:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    request.client.wait(reply.prompt_s)
    yield sse(chunk({"role": "assistant", "content": None if reply.tool else ""}))
    if reply.tool:
        yield sse(chunk(_tool_delta("", name=reply.tool.name)))
    for part, piece in reply.play(request):
        yield sse(chunk(_delta(part, piece)))
    last = chunk({}, _finish(reply))
    if (request.json.get("stream_options") or {}).get("include_usage"):
        yield sse(last)
        last = {**head, "choices": [], "usage": usage(reply)}
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


ROUTES = (Route("/v1/chat/completions", chat, inference=True),)
