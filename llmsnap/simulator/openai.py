"""OpenAI's chat completions, completions and responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from time import time

from llmsnap.simulator.exchange import (
    DONE,
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
    answer_schema,
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


def chat(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/chat/completions``."""
    reply = compose(state, request, chat_prompt(request))
    head = {"id": f"chatcmpl-{state.requests}", "created": int(time()), "model": reply.model}
    if request.wants_stream:
        return event_stream(_chat_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    choice = {"index": 0, "message": _message(reply), "finish_reason": _finish(reply)}
    body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage(reply)}
    return json_response(body | extras(state, request, reply))


def completions(state: SimState, request: SimRequest) -> SimResponse:
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


def chat_prompt(request: SimRequest) -> Prompt:
    """Return the prompt of a chat request. Raises Refusal 400 without messages."""
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
    """Return the token counts in the format of chat and text completions."""
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


def _chat_frames(state: SimState, request: SimRequest, reply: Reply, head: Json) -> Iterator[bytes]:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    request.client.wait(reply.prompt_s)
    yield sse(chunk({"role": "assistant", "content": None if reply.tool else ""}))
    for part, pieces in reply.parts:
        if part is ReplyPart.TOOL and reply.tool:
            yield sse(chunk(_tool_delta("", reply.tool.name)))
        for piece in reply.pace(request, pieces):
            yield sse(chunk(_delta(part, piece)))
    yield from _closing_frames(state, request, reply, chunk({}, _finish(reply)))


def _completion_frames(
    state: SimState, request: SimRequest, reply: Reply, head: Json
) -> Iterator[bytes]:
    def chunk(text: str, finish: str | None = None) -> Json:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}

    request.client.wait(reply.prompt_s)
    for piece in reply.pace(request, reply.pieces):
        yield sse(chunk(piece))
    yield from _closing_frames(state, request, reply, chunk("", _finish(reply)))


def _closing_frames(
    state: SimState, request: SimRequest, reply: Reply, last: Json
) -> Iterator[bytes]:
    """Yield the end of a stream: the final chunk, the usage if requested, and ``[DONE]``."""
    if mapping(request.json.get("stream_options")).get("include_usage"):
        yield sse(last)
        last = {**last, "choices": [], "usage": usage(reply)}
    yield sse(last | extras(state, request, reply))
    yield DONE


def _delta(part: ReplyPart, piece: str) -> Json:
    match part:
        case ReplyPart.REASONING:
            return {"reasoning_content": piece}
        case ReplyPart.TEXT:
            return {"content": piece}
        case ReplyPart.TOOL:
            return _tool_delta(piece)


def _tool_delta(arguments: str, name: str = "") -> Json:
    call: Json = {"index": 0, "function": {"arguments": arguments}}
    if name:
        call |= {"id": "call_1", "type": "function"}
        call["function"]["name"] = name
    return {"tool_calls": [call]}


_CHAT_ROUTES = (
    Route("/v1/chat/completions", chat, inference=True),
    Route("/v1/completions", completions, inference=True),
)


_EVENT = {
    ReplyPart.REASONING: "response.reasoning_text",
    ReplyPart.TEXT: "response.output_text",
    ReplyPart.TOOL: "response.function_call_arguments",
}


def count_chat_tokens(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/chat/completions/input_tokens``."""
    return _token_count(state, request, "chat.completion.input_tokens", chat_prompt(request))


def _token_count(state: SimState, request: SimRequest, kind: str, prompt: Prompt) -> SimResponse:
    counted = {"object": kind, "input_tokens": count_tokens(prompt.text)}
    return json_response(counted | extras(state, request))


Emit = Callable[..., bytes]


def count_response_tokens(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/responses/input_tokens``."""
    return _token_count(state, request, "response.input_tokens", _response_prompt(request))


def responses(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/responses``."""
    reply = compose(state, request, _response_prompt(request))
    head = _response_head(state, request, reply)
    if request.wants_stream:
        return event_stream(_response_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    return json_response(_response_completed(head, reply) | extras(state, request, reply))


def _response_prompt(request: SimRequest) -> Prompt:
    body = request.json
    if not body.get("input"):
        raise Refusal(400, "input is missing or empty")
    items = mappings(body["input"])
    asked = question(items) if items else content_text(body["input"])
    texts = [content_text(body.get("instructions"))]
    texts += [content_text(item.get("content") or item.get("output")) for item in items] or [asked]
    answers_tool = bool(items) and items[-1].get("type") == "function_call_output"
    return Prompt(
        question=asked,
        text=" ".join(filter(None, texts)),
        limit=limit(request, "max_output_tokens"),
        tools=() if answers_tool else tools(mappings(body.get("tools")), "parameters"),
        must_call=body.get("tool_choice") not in (None, "none", "auto"),
        reasoning=bool(mapping(body.get("reasoning")).get("effort"))
        or request.flag("sim_reasoning"),
        schema=answer_schema(mapping(mapping(body.get("text")).get("format"))),
    )


def _response_head(state: SimState, request: SimRequest, reply: Reply) -> Json:
    body = request.json
    return {
        "id": f"resp_{state.requests}",
        "object": "response",
        "created_at": int(time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": body.get("temperature", 1.0),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "usage": None,
    }


def _response_completed(head: Json, reply: Reply) -> Json:
    reason = {"reason": "max_output_tokens"} if reply.cut else None
    return {
        **head,
        "status": "incomplete" if reply.cut else "completed",
        "incomplete_details": reason,
        "output": [_response_item(reply, part, "".join(pieces)) for part, pieces in reply.parts],
        "usage": {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached_tokens},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": len(reply.reasoning)},
            "total_tokens": reply.prompt_tokens + reply.output_tokens,
        },
    }


def _response_item(reply: Reply, part: ReplyPart, text: str | None) -> Json:
    """Return the output item of *part* with *text*; None stands for an item just started."""
    status = {"status": "in_progress" if text is None else "completed"}
    match part:
        case ReplyPart.REASONING:
            content = [] if text is None else [{"type": "reasoning_text", "text": text}]
            kind = {"id": "rs_1", "type": "reasoning", "summary": []}
            return {**kind, "content": content, **status}
        case ReplyPart.TEXT:
            content = [] if text is None else [_text_part(text)]
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": content,
            } | status
        case ReplyPart.TOOL:
            call = {"call_id": "call_1", "name": _tool_name(reply), "arguments": text or ""}
            return {"id": "fc_1", "type": "function_call", **call, **status}


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _response_frames(
    state: SimState, request: SimRequest, reply: Reply, head: Json
) -> Iterator[bytes]:
    numbers = count()

    def emit(kind: str, **members: object) -> bytes:
        return sse({"type": kind, "sequence_number": next(numbers), **members}, event=kind)

    yield emit("response.created", response=head)
    yield emit("response.in_progress", response=head)
    request.client.wait(reply.prompt_s)
    for index, (part, pieces) in enumerate(reply.parts):
        yield emit(
            "response.output_item.added", output_index=index, item=_response_item(reply, part, None)
        )
        yield from _part_frames(emit, reply, index, reply.pace(request, pieces))
        item = _response_item(reply, part, "".join(pieces))
        yield emit("response.output_item.done", output_index=index, item=item)
    done = _response_completed(head, reply) | extras(state, request, reply)
    yield emit(f"response.{done['status']}", response=done)


def _part_frames(emit: Emit, reply: Reply, index: int, paced: Iterator[str]) -> Iterator[bytes]:
    part, pieces = reply.parts[index]
    place: Json = {"item_id": _response_item(reply, part, None)["id"], "output_index": index}
    if part is not ReplyPart.TOOL:
        place["content_index"] = 0
    if part is ReplyPart.TEXT:
        yield emit("response.content_part.added", **place, part=_text_part(""))
    for piece in paced:
        yield emit(f"{_EVENT[part]}.delta", **place, **_logprobs(part), delta=piece)
    text = "".join(pieces)
    if part is ReplyPart.TOOL:
        yield emit(f"{_EVENT[part]}.done", **place, name=_tool_name(reply), arguments=text)
    else:
        yield emit(f"{_EVENT[part]}.done", **place, **_logprobs(part), text=text)
    if part is ReplyPart.TEXT:
        yield emit("response.content_part.done", **place, part=_text_part(text))


def _tool_name(reply: Reply) -> str:
    return reply.tool.name if reply.tool else ""


def _logprobs(part: ReplyPart) -> Json:
    return {"logprobs": []} if part is ReplyPart.TEXT else {}


_RESPONSE_ROUTES = (
    Route("/v1/responses", responses, inference=True),
    Route("/v1/responses/input_tokens", count_response_tokens, inference=True),
    Route("/v1/chat/completions/input_tokens", count_chat_tokens, inference=True),
)

ROUTES = (*_CHAT_ROUTES, *_RESPONSE_ROUTES)
