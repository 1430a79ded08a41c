"""Facts about llmsnap.http.unstreamed: what client libraries make of the events is the answer."""

import json
from typing import Any

import pytest

from llmsnap.http.sse import SseParser
from llmsnap.http.unstreamed import events_of

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "héllo 🌍\n\n", "reasoning_content": "hm"},
            "logprobs": {"content": []},
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
            "finish_reason": "tool_calls",
        },
    ],
    "usage": USAGE,
    "timings": {"predicted_ms": 1.5},
}
COMPLETION = {"id": "cmpl-1", "choices": [{"index": 0, "text": "hi"}], "usage": USAGE}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, "é"]}},
        {"type": "redacted_thinking", "data": "x"},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def item(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{kind}_1", "type": kind, "status": "completed", **more}


SUMMARY = [{"type": "summary_text", "text": "short"}]
REASONING = [{"type": "reasoning_text", "text": "long"}]
SAID = [
    {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []},
    {"type": "refusal", "refusal": "no"},
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "m",
    "output": [
        item("reasoning", summary=SUMMARY, content=REASONING),
        item("message", role="assistant", content=SAID),
        item("function_call", call_id="c1", name="f", arguments='{"a":1}'),
        item("web_search_call"),
    ],
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def stream(path: str, document: dict[str, Any]) -> bytes:
    return b"".join(events_of(document, path))


def documents(path: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON of the events, whose names are their types where they have one."""
    frames = SseParser().feed(stream(path, document))
    told = [(frame.event, json.loads(frame.data)) for frame in frames if frame.data != "[DONE]"]
    assert all(name in ("", one.get("type")) for name, one in told)
    return [one for _, one in told]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v/chat/completions"])
def test_a_chat_is_one_chunk_with_all_that_the_answer_had(path: str) -> None:
    assert stream(path, CHAT).endswith(b"\n\ndata: [DONE]\n\n")
    (chunk,) = documents(path, CHAT)
    first, second = CHAT["choices"]
    called = {**second["message"], "tool_calls": [{"index": 0, **CALL}, {"index": 1, **CALL}]}
    assert chunk == {
        **CHAT,
        "object": "chat.completion.chunk",
        "choices": [
            {"delta": first["message"], **{k: first[k] for k in first if k != "message"}},
            {"delta": called, "index": 1, "finish_reason": "tool_calls"},
        ],
    }


OF_LLAMA = {"content": "hi", "stop": True, "timings": {}}


@pytest.mark.parametrize(
    ("path", "answer", "done"),
    [
        ("/v1/completions", COMPLETION, True),
        ("/completion", OF_LLAMA, False),
        ("/infill", [{**OF_LLAMA, "index": index} for index in range(2)], False),
    ],
)
def test_some_answers_are_their_own_events(path: str, answer, done: bool) -> None:
    assert documents(path, answer) == (answer if isinstance(answer, list) else [answer])
    assert stream(path, answer).endswith(b"data: [DONE]\n\n") is done


def test_the_events_of_a_message_add_up() -> None:
    told = documents("/v1/messages", MESSAGE)
    blocks = [one["content_block"]["type"] for one in told if one["type"] == "content_block_start"]
    assert blocks == [block["type"] for block in MESSAGE["content"]]
    deltas = [one["delta"] for one in told if one["type"] == "content_block_delta"]
    assert deltas[:3] == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "text_delta", "text": "hello"},
    ]
    assert json.loads(deltas[3]["partial_json"]) == {"a": [1, "é"]}
    assert (told[0]["type"], told[-1]["type"]) == ("message_start", "message_stop")


def test_the_events_of_a_response_add_up() -> None:
    told = documents("/v1/responses", RESPONSE)
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    deltas = {one["type"]: one["delta"] for one in told if one["type"].endswith(".delta")}
    assert deltas == {
        "response.reasoning_summary_text.delta": "short",
        "response.reasoning_text.delta": "long",
        "response.output_text.delta": "hello",
        "response.refusal.delta": "no",
        "response.function_call_arguments.delta": '{"a":1}',
    }
    done = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert done == RESPONSE["output"]
    assert told[0]["response"] | RESPONSE == RESPONSE
    assert (told[0]["response"]["status"], told[0]["response"]["output"]) == ("in_progress", [])
    assert told[-1]["response"] == RESPONSE


def test_a_response_ends_as_its_status_says() -> None:
    for status in ("completed", "incomplete", "failed"):
        last = documents("/v1/responses", {**RESPONSE, "status": status})[-1]
        assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)


NO_ANSWERS = [
    ("/v1/chat/completions", {}),
    ("/v1/chat/completions", {"choices": [1]}),
    ("/v1/completions", {"choices": None}),
    ("/v1/messages", {"content": "text"}),
    ("/v1/responses", CHAT),
    ("/completion", {"error": {}}),
    ("/completion", []),
    ("/v1/messages", None),
    ("/v1/embeddings", {"data": []}),
]


def test_what_is_no_answer_of_its_route_has_no_events() -> None:
    for path, document in NO_ANSWERS:
        assert events_of(document, path) is None


MEMBERS = ("text", "thinking", "input", "citations", "content", "summary", "arguments", "message")
ODD = [None, 1, "x", [], {}, [None], [{}], {"type": "text"}, [{"type": "output_text"}]]


def test_members_of_any_other_kind_do_no_harm() -> None:
    for odd in ODD:
        kinds = ["text", "thinking", "tool_use", "message", "reasoning", "function_call", odd]
        parts = [{"type": kind, **dict.fromkeys(MEMBERS, odd)} for kind in kinds]
        for path in ("chat/completions", "completions", "messages", "responses"):
            named = dict.fromkeys(("choices", "content", "output"), parts)
            assert documents(f"/v1/{path}", {**named, "usage": odd, "status": odd}), (path, odd)
