"""The APIs for text: answers, streams, tools, reasoning, limits."""

import json
from typing import Any

import pytest

from tests.simulator.conftest import cut

TEXT = "You said: hello\nI am m, a simulated model."
THOUGHT = "The user said: hello"
ARGUMENTS = '{"city": "hello"}'
SCHEMA = {"properties": {"city": {"type": "string"}}}
CHAT, TEXTS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, LLAMA, INFILL = "/v1/messages", "/completion", "/infill"

ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CALL = {**ASK, "tools": [FUNCTION], "tool_choice": "required"}
MESSAGE = {**ASK, "max_tokens": 100}
TOOL = {"name": "weather", "input_schema": SCHEMA}
USE = {**MESSAGE, "tools": [TOOL], "tool_choice": {"type": "any"}}
INPUT = {"model": "m", "input": "hello"}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA}
ACT = {**INPUT, "tools": [WEATHER], "tool_choice": "required"}
PROMPT = {"model": "m", "prompt": "hello"}
SUNNY = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
USER = ASK["messages"][0]  # type: ignore[index]
FORM = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {}}}}


def chosen(finish: str, **message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": finish, "message": message}]}


def spoken(text: str) -> dict[str, Any]:
    return {"output": [{"type": "message", "content": [{"text": text}]}]}


ANSWERS: list[tuple[str, dict[str, Any], Any]] = [
    (CHAT, ASK, {
        "object": "chat.completion",
        "model": "m",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": TEXT},
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10},
    }),
    (f"{CHAT}?timings=1", ASK, {"timings": {"predicted_n": 9}}),
    (CHAT, {**ASK, "max_tokens": 2}, chosen("length", content="You said:")),
    (CHAT, {**ASK, "max_tokens": 2, "max_completion_tokens": 3}, {
        "usage": {"completion_tokens": 3},
    }),
    (CHAT, CALL, chosen("tool_calls", content=None, tool_calls=[
        {"function": {"name": "weather", "arguments": ARGUMENTS}},
    ])),
    (CHAT, {**CALL, "messages": [USER, {"role": "tool", "content": "sunny"}]}, chosen("stop")),
    (CHAT, {**ASK, "sim_reasoning": True}, chosen("stop", reasoning_content=THOUGHT)),
    (CHAT, {**ASK, "response_format": {"type": "json_object"}},
        chosen("stop", content=json.dumps({"answer": TEXT}))),
    (TEXTS, {"model": "m", "prompt": ["hello"]}, {
        "object": "text_completion",
        "choices": [{"text": TEXT}],
        "usage": {"total_tokens": 10},
    }),
    (RESPONSES, INPUT, {
        "status": "completed",
        "usage": {"input_tokens": 1, "output_tokens": 9, "total_tokens": 10},
    }),
    (RESPONSES, {**INPUT, "input": [USER]}, spoken(TEXT)),
    (RESPONSES, {**INPUT, "input": [{**USER, "content": [
        {"type": "input_text", "text": "hello"},
    ]}]}, spoken(TEXT)),
    (RESPONSES, {**ACT, "input": [USER, OUTPUT]}, {
        **spoken(TEXT), "usage": {"input_tokens": 2},
    }),
    (RESPONSES, {**INPUT, "max_output_tokens": 2}, {
        "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
    }),
    (RESPONSES, {**INPUT, "text": {"format": FORM}, "instructions": "be nice"}, {
        **spoken(json.dumps({"a": TEXT})), "usage": {"input_tokens": 3},
    }),
    (MESSAGES, {**MESSAGE, "system": "be nice", "sim_cached": 1}, {
        "type": "message",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1,
            "output_tokens": 9,
        },
    }),
    (MESSAGES, USE, {
        "stop_reason": "tool_use",
        "content": [{"name": "weather", "input": {"city": "hello"}}],
    }),
    (MESSAGES, {**USE, "max_tokens": 1}, {  # cut off: there are no arguments
        "stop_reason": "max_tokens", "content": [{"input": {}}],
    }),
    (MESSAGES, {**USE, "messages": [USER, {"role": "user", "content": SUNNY}]}, {
        "stop_reason": "end_turn",
    }),
    (f"{MESSAGES}/count_tokens", {**MESSAGE, "system": "be"}, {"input_tokens": 2}),
    (LLAMA, PROMPT, {
        "content": TEXT, "stop": True, "timings": {"prompt_n": 1, "predicted_n": 9},
    }),
    (LLAMA, {**PROMPT, "n_predict": 2}, {"tokens_predicted": 2, "stop_type": "limit"}),
    (LLAMA, {**PROMPT, "n_predict": -1}, {"tokens_predicted": 9, "stop_type": "eos"}),
    (INFILL, {"input_prefix": "a", "input_suffix": "b c"}, {"tokens_evaluated": 3}),
    (INFILL, {"input_prefix": "a", "input_suffix": "b", "n_cmpl": 2}, [
        {"index": 0}, {"index": 1, "timings": {"prompt_n": 2}},
    ]),
]  # fmt: skip


def test_an_answer(sim) -> None:
    posts = [(path, body, sim.post(path, body).json, expected) for path, body, expected in ANSWERS]
    assert [(path, body, cut(found, expected)) for path, body, found, expected in posts] == ANSWERS


USAGE = {"stream_options": {"include_usage": True}}
TOLD = {"choices": [], "usage": {"completion_tokens": 9}}


STREAMS: list[tuple[str, dict[str, Any], str, str, Any]] = [
    (CHAT, ASK, "choices.0.delta.content", TEXT, {"choices": [{"finish_reason": "stop"}]}),
    (CHAT, ASK, "choices.0.delta.role", "assistant", {}),
    (CHAT, {**ASK, **USAGE, "sim_cached": 1}, "", "", {
        **TOLD, "usage": {"prompt_tokens_details": {"cached_tokens": 1}},
    }),
    (f"{CHAT}?timings_per_token=true", ASK, "", "", {"timings": {"predicted_n": 9}}),
    (CHAT, CALL, "choices.0.delta.tool_calls.0.function.arguments", ARGUMENTS, {
        "choices": [{"finish_reason": "tool_calls"}],
    }),
    (CHAT, CALL, "choices.0.delta.tool_calls.0.function.name", "weather", {}),
    (CHAT, {**ASK, "reasoning_effort": "low"},
        "choices.0.delta.reasoning_content", THOUGHT, {}),
    (CHAT, {**ASK, "chat_template_kwargs": {"enable_thinking": True}},
        "choices.0.delta.reasoning_content", THOUGHT, {}),
    (TEXTS, {**PROMPT, **USAGE}, "choices.0.text", TEXT, TOLD),
    (RESPONSES, INPUT, "delta", TEXT, {
        "response": {**spoken(TEXT), "usage": {"output_tokens": 9}},
    }),
    (RESPONSES, {**INPUT, "max_output_tokens": 2}, "delta", "You said:", {
        "type": "response.incomplete",
    }),
    (RESPONSES, {**ACT, "reasoning": {"effort": "low"}}, "delta", THOUGHT + ARGUMENTS, {
        "response": {
            "output": [
                {"type": "reasoning"}, {"type": "function_call", "arguments": ARGUMENTS},
            ],
            "usage": {"output_tokens_details": {"reasoning_tokens": 4}},
        },
    }),
    (MESSAGES, MESSAGE, "delta.text", TEXT, {}),
    (MESSAGES, MESSAGE, "delta.stop_reason", "end_turn", {}),
    (MESSAGES, {**USE, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "delta.thinking", THOUGHT, {}),
    (MESSAGES, USE, "delta.partial_json", ARGUMENTS, {}),
    (LLAMA, PROMPT, "content", TEXT, {"stop": True, "timings": {"predicted_n": 9}}),
]  # fmt: skip


def test_a_stream(sim) -> None:
    found = []
    for path, body, place, _, last in STREAMS:
        answer = sim.post(path, {**body, "stream": True})
        documents = [data for _, data in answer.events if data != "[DONE]"]
        found.append((path, body, place, answer.collected(place), cut(documents[-1], last)))
        assert (answer.events[-1][1] == "[DONE]") is (path.partition("?")[0] in {CHAT, TEXTS})
    assert found == STREAMS


@pytest.mark.parametrize(
    ("path", "body", "kinds"),
    [
        (RESPONSES, INPUT, (
            "response.created response.in_progress response.output_item.added"
            " response.content_part.added response.output_text.delta response.output_text.done"
            " response.content_part.done response.output_item.done response.completed"
        )),
        (RESPONSES, {**ACT, "reasoning": {"effort": "low"}}, (
            "response.created response.in_progress response.output_item.added"
            " response.reasoning_text.delta response.reasoning_text.done"
            " response.output_item.done response.function_call_arguments.delta"
            " response.function_call_arguments.done response.completed"
        )),
        (MESSAGES, MESSAGE, (
            "message_start ping content_block_start content_block_delta content_block_stop"
            " message_delta message_stop"
        )),
    ],
)  # fmt: skip
def test_the_kinds_of_events_of_a_stream(sim, path: str, body: Any, kinds: str) -> None:
    events = sim.post(path, {**body, "stream": True}).events
    assert " ".join(dict.fromkeys(name for name, _ in events)) == kinds
    numbers = [data.get("sequence_number") for _, data in events]
    assert numbers == ([None] * len(events) if path == MESSAGES else list(range(len(events))))
    if path == MESSAGES:
        assert events[0][1]["message"]["usage"]["input_tokens"] == 1
        assert events[-2][1]["usage"] == {"output_tokens": 9}


def test_what_was_not_asked_for_is_not_told(sim, serve) -> None:
    answer = sim.post(CHAT, ASK)
    assert "timings" not in answer.json
    streamed = sim.post(f"{CHAT}?stream=true", ASK)
    assert streamed.collected("usage") == ""
    assert "timings" in serve(timings=True).post(TEXTS, {"prompt": "a"}).json


def test_it_shows_the_request_when_asked_to(sim) -> None:
    shown = sim.post(f"{CHAT}?sim_echo=1", ASK).json["sim_request"]
    assert (json.loads(shown["body"]), shown["target"]) == (ASK, f"{CHAT}?sim_echo=1")


def test_errors_have_the_form_of_the_api(sim) -> None:
    answer = sim.post(MESSAGES, {"messages": []})
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "invalid_request_error"
