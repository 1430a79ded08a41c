"""Converts a complete JSON response into the equivalent event stream of the same API.

For clients that were promised a stream before the server answered with a single document. Members
that have no event of their own are kept where the API repeats the whole object: in the chunk, the
block, the output item or the final response.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from llmsnap.http.lookup import stream_of
from llmsnap.http.routes import Stream
from llmsnap.http.sse import sse_event

Json = dict[str, Any]
Emit = Callable[..., bytes]

DONE = b"data: [DONE]\n\n"
FINAL_STATUSES = frozenset({"completed", "incomplete", "failed"})
"""Final statuses of a response; each has its own event."""
TEXTS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
}
"""Parts of an output item: the events of their text, and the member that holds it."""


def events_of(answer: object, path: str) -> list[bytes] | None:
    """Return the JSON *answer* of the route *path* as events; None if it is not of that API."""
    stream = stream_of(path)
    if stream is Stream.LLAMA:  # a list is several completions, whose events have an index
        return _results(answer)
    return _events_of_object(answer, stream) if isinstance(answer, dict) else None


def _events_of_object(answer: Json, stream: Stream | None) -> list[bytes] | None:
    match stream:
        case Stream.MESSAGE if _are_objects(answer.get("content")):
            return list(_message(answer))
        case Stream.RESPONSE if _are_objects(answer.get("output")):
            return list(_response(answer))
        case Stream.CHAT if _are_objects(answer.get("choices")):
            return [_event({**answer, **_chat_chunk(answer["choices"])}), DONE]
        case Stream.COMPLETION if _are_objects(answer.get("choices")):
            return [_event(answer), DONE]
    return None


def _results(answer: object) -> list[bytes] | None:
    results: list[Any] = answer if isinstance(answer, list) else [answer]
    if not results or not _are_objects(results):
        return None
    if not all(isinstance(one.get("content"), str) for one in results):
        return None
    return [_event(one) for one in results]


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _event(document: Json, event: str = "") -> bytes:
    return sse_event(json.dumps(document, separators=(",", ":")), event)


# --- chat completions ---------------------------------------------------------------------------


def _chat_chunk(choices: list[Json]) -> Json:
    return {
        "object": "chat.completion.chunk",
        "choices": [_choice(number, choice) for number, choice in enumerate(choices)],
    }


def _choice(number: int, choice: Json) -> Json:
    rest = {name: value for name, value in choice.items() if name != "message"}
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    if calls := _objects(delta.get("tool_calls")):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return {"index": number, "delta": delta, **rest}


# --- messages -----------------------------------------------------------------------------------


def _message(document: Json) -> Iterator[bytes]:
    def emit(kind: str, **members: object) -> bytes:
        return _event({"type": kind, **members}, kind)

    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    begun: Json = {"content": [], "stop_reason": None, "stop_sequence": None}
    yield emit(
        "message_start", message={**document, **begun, "usage": {**usage, "output_tokens": 0}}
    )
    for index, block in enumerate(document["content"]):
        start, deltas = _block(block)
        yield emit("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield emit("content_block_delta", index=index, delta=delta)
        yield emit("content_block_stop", index=index)
    stop = {name: document.get(name) for name in ("stop_reason", "stop_sequence")}
    yield emit("message_delta", delta=stop, usage={"output_tokens": 0, **usage})
    yield emit("message_stop")


def _block(block: Json) -> tuple[Json, list[Json]]:
    """Return a content block as it starts, and the deltas that complete it."""
    match block:
        case {"type": "text", "text": str(text)}:
            cited = _objects(block.get("citations"))
            deltas = [{"type": "citations_delta", "citation": one} for one in cited]
            start = {**block, "text": ""} | ({"citations": []} if cited else {})
            return start, [{"type": "text_delta", "text": text}, *deltas]
        case {"type": "thinking", "thinking": str(text)}:
            start = {**block, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": text}]
            if signature := block.get("signature"):
                deltas.append({"type": "signature_delta", "signature": signature})
            return start, deltas
        case {"type": "tool_use" | "server_tool_use", "input": given}:
            written = json.dumps(given)
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]
    return block, []


# --- responses ----------------------------------------------------------------------------------


def _response(document: Json) -> Iterator[bytes]:
    numbers = count()

    def emit(kind: str, **members: object) -> bytes:
        return _event({"type": kind, "sequence_number": next(numbers), **members}, kind)

    begun: Json = {"status": "in_progress", "output": [], "usage": None}
    begun |= {"error": None, "incomplete_details": None}
    yield emit("response.created", response={**document, **begun})
    yield emit("response.in_progress", response={**document, **begun})
    for index, item in enumerate(document["output"]):
        yield from _item(emit, index, item)
    status = str(document.get("status"))
    yield emit(f"response.{status if status in FINAL_STATUSES else 'completed'}", response=document)


def _item(emit: Emit, index: int, item: Json) -> Iterator[bytes]:
    begun = {**item, "status": "in_progress"}
    match item.get("type"):
        case "message" | "reasoning":
            begun |= {name: [] for name in ("content", "summary") if item.get(name) is not None}
        case "function_call":
            begun["arguments"] = ""
    yield emit("response.output_item.added", output_index=index, item=begun)
    place = {"item_id": item.get("id", ""), "output_index": index}
    for number, part in enumerate(_objects(item.get("summary"))):
        yield from _summary(emit, {**place, "summary_index": number}, part)
    for number, part in enumerate(_objects(item.get("content"))):
        yield from _part(emit, {**place, "content_index": number}, part)
    if item.get("type") == "function_call":
        written, name = item.get("arguments") or "", item.get("name", "")
        kind = "response.function_call_arguments"
        yield emit(f"{kind}.delta", **place, delta=written)
        yield emit(f"{kind}.done", **place, name=name, arguments=written)
    yield emit("response.output_item.done", output_index=index, item=item)


def _part(emit: Emit, place: Json, part: Json) -> Iterator[bytes]:
    name, member = TEXTS.get(str(part.get("type")), ("", ""))
    text = part.get(member) or ""
    # Reasoning has no events for the start and end of its parts.
    is_framed = name != "response.reasoning_text"
    begun = {**part, member: ""} if name else part
    if "annotations" in part:
        begun["annotations"] = []
    if is_framed:
        yield emit("response.content_part.added", **place, part=begun)
    if name:
        probabilities = (
            {"logprobs": part.get("logprobs") or []} if member == "text" and is_framed else {}
        )
        yield emit(f"{name}.delta", **place, **probabilities, delta=text)
        yield emit(f"{name}.done", **place, **probabilities, **{member: text})
    if is_framed:
        yield emit("response.content_part.done", **place, part=part)


def _summary(emit: Emit, place: Json, part: Json) -> Iterator[bytes]:
    kind = "response.reasoning_summary"
    text = part.get("text") or ""
    yield emit(f"{kind}_part.added", **place, part={**part, "text": ""})
    yield emit(f"{kind}_text.delta", **place, delta=text)
    yield emit(f"{kind}_text.done", **place, text=text)
    yield emit(f"{kind}_part.done", **place, part=part)
