"""OpenAI's responses API, with the events of its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from time import time

from llmsnap.simulator.exchange import (
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

_EVENT = {
    Part.REASONING: "response.reasoning_text",
    Part.TEXT: "response.output_text",
    Part.TOOL: "response.function_call_arguments",
}
Emit = Callable[..., bytes]


def responses(state: State, request: Request) -> Response:
    """Answer ``/v1/responses``."""
    reply = compose(state, request, _prompt(request))
    head = _head(state, request, reply)
    if request.wants_stream:
        return event_stream(_frames(state, request, reply, head))
    request.client.wait(reply.duration_s)
    return json_response(_completed(head, reply) | extras(state, request, reply))


def _prompt(request: Request) -> Prompt:
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


def _head(state: State, request: Request, reply: Reply) -> Json:
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


def _completed(head: Json, reply: Reply) -> Json:
    reason = {"reason": "max_output_tokens"} if reply.cut else None
    return {
        **head,
        "status": "incomplete" if reply.cut else "completed",
        "incomplete_details": reason,
        "output": [_item(reply, part, "".join(pieces)) for part, pieces in reply.parts],
        "usage": {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached_tokens},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": len(reply.reasoning)},
            "total_tokens": reply.prompt_tokens + reply.output_tokens,
        },
    }


def _item(reply: Reply, part: Part, text: str | None) -> Json:
    """Return the output item of *part* with *text*, or one just begun when it is None."""
    status = {"status": "in_progress" if text is None else "completed"}
    match part:
        case Part.REASONING:
            content = [] if text is None else [{"type": "reasoning_text", "text": text}]
            kind = {"id": "rs_1", "type": "reasoning", "summary": []}
            return {**kind, "content": content, **status}
        case Part.TEXT:
            content = [] if text is None else [_text_part(text)]
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": content,
            } | status
        case Part.TOOL:
            call = {"call_id": "call_1", "name": _tool_name(reply), "arguments": text or ""}
            return {"id": "fc_1", "type": "function_call", **call, **status}


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _frames(state: State, request: Request, reply: Reply, head: Json) -> Iterator[bytes]:
    numbers = count()

    def emit(kind: str, **members: object) -> bytes:
        return sse({"type": kind, "sequence_number": next(numbers), **members}, event=kind)

    yield emit("response.created", response=head)
    yield emit("response.in_progress", response=head)
    request.client.wait(reply.prompt_s)
    for index, (part, pieces) in enumerate(reply.parts):
        yield emit("response.output_item.added", output_index=index, item=_item(reply, part, None))
        yield from _part_frames(emit, reply, index, reply.pace(request, pieces))
        item = _item(reply, part, "".join(pieces))
        yield emit("response.output_item.done", output_index=index, item=item)
    done = _completed(head, reply) | extras(state, request, reply)
    yield emit(f"response.{done['status']}", response=done)


def _part_frames(emit: Emit, reply: Reply, index: int, paced: Iterator[str]) -> Iterator[bytes]:
    part, pieces = reply.parts[index]
    place: Json = {"item_id": _item(reply, part, None)["id"], "output_index": index}
    if part is not Part.TOOL:
        place["content_index"] = 0
    if part is Part.TEXT:
        yield emit("response.content_part.added", **place, part=_text_part(""))
    for piece in paced:
        yield emit(f"{_EVENT[part]}.delta", **place, **_logprobs(part), delta=piece)
    text = "".join(pieces)
    if part is Part.TOOL:
        yield emit(f"{_EVENT[part]}.done", **place, name=_tool_name(reply), arguments=text)
    else:
        yield emit(f"{_EVENT[part]}.done", **place, **_logprobs(part), text=text)
    if part is Part.TEXT:
        yield emit("response.content_part.done", **place, part=_text_part(text))


def _tool_name(reply: Reply) -> str:
    return reply.tool.name if reply.tool else ""


def _logprobs(part: Part) -> Json:
    return {"logprobs": []} if part is Part.TEXT else {}


ROUTES = (Route("/v1/responses", responses, inference=True),)
