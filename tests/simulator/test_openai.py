"""OpenAI's APIs of the simulator."""

from __future__ import annotations

import json

import pytest

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
}
TEXT = "You said: hello\nI am m, a simulated model."


def chunks(answer):
    assert answer.headers["Content-Type"] == "text/event-stream"
    *frames, end = [data for _, data in answer.events]
    assert end == "[DONE]"
    return frames


def deltas(answer, member):
    found = [choice["delta"] for chunk in chunks(answer) for choice in chunk["choices"]]
    return [delta[member] for delta in found if delta.get(member)]


def test_chat(sim):
    answer = sim.post("/v1/chat/completions", CHAT).json
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "m"
    message = {"role": "assistant", "content": TEXT}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert answer["usage"]["prompt_tokens"] == 1
    assert answer["usage"]["completion_tokens"] == 9
    assert answer["usage"]["total_tokens"] == 10
    assert "timings" not in answer


@pytest.mark.parametrize("path", ["/v1/chat/completions?stream=true", "/v1/chat/completions"])
def test_chat_streamed(sim, path):
    answer = sim.post(path, CHAT if "?" in path else {**CHAT, "stream": True})
    assert "".join(deltas(answer, "content")) == TEXT
    assert chunks(answer)[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks(answer)[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in chunks(answer))


def test_usage_in_a_stream_is_told_when_asked_for(sim):
    options = {"stream": True, "stream_options": {"include_usage": True}, "sim_cached": 1}
    last = chunks(sim.post("/v1/chat/completions", {**CHAT, **options}))[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 9
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


@pytest.mark.parametrize("asked", ["timings=1", "timings_per_token=true"])
@pytest.mark.parametrize("stream", [0, 1])
def test_timings_are_told_when_asked_for(sim, asked, stream):
    answer = sim.post(f"/v1/chat/completions?{asked}&stream={stream}", CHAT)
    last = chunks(answer)[-1] if stream else answer.json
    assert last["timings"]["predicted_n"] == 9


def test_a_limit_is_a_reason_to_finish(sim):
    answer = sim.post("/v1/chat/completions", {**CHAT, "max_tokens": 2}).json
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] == "You said:"


def test_a_tool_is_called(sim):
    body = {**CHAT, "tools": [TOOL], "tool_choice": "required"}
    choice = sim.post("/v1/chat/completions", body).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    call = choice["message"]["tool_calls"][0]["function"]
    assert call == {"name": "weather", "arguments": '{"city": "hello"}'}


def test_a_tool_is_called_in_a_stream(sim):
    body = {**CHAT, "tools": [TOOL], "tool_choice": "required", "stream": True}
    answer = sim.post("/v1/chat/completions", body)
    calls = [call[0]["function"] for call in deltas(answer, "tool_calls")]
    assert calls[0]["name"] == "weather"
    assert json.loads("".join(call["arguments"] for call in calls)) == {"city": "hello"}
    assert chunks(answer)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_after_the_result_of_a_tool_it_talks(sim):
    messages = [*CHAT["messages"], {"role": "tool", "content": "sunny"}]
    body = {"messages": messages, "tools": [TOOL], "tool_choice": "required"}
    answer = sim.post("/v1/chat/completions", body)
    assert answer.json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "asked",
    [
        {"sim_reasoning": True},
        {"reasoning_effort": "low"},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ],
)
def test_it_thinks_aloud_when_asked_to(sim, asked):
    answer = sim.post("/v1/chat/completions", {**CHAT, **asked})
    assert answer.json["choices"][0]["message"]["reasoning_content"] == "The user said: hello"
    answer = sim.post("/v1/chat/completions", {**CHAT, **asked, "stream": True})
    assert "".join(deltas(answer, "reasoning_content")) == "The user said: hello"


def test_it_shows_the_request_when_asked_to(sim):
    answer = sim.post("/v1/chat/completions?sim_echo=1", CHAT).json
    assert json.loads(answer["sim_request"]["body"]) == CHAT
    assert answer["sim_request"]["target"] == "/v1/chat/completions?sim_echo=1"


def test_an_answer_can_have_a_form(sim):
    form = {"response_format": {"type": "json_object"}}
    answer = sim.post("/v1/chat/completions", {**CHAT, **form}).json
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"answer": TEXT}


def test_completions(sim):
    body = {"model": "m", "prompt": ["hello"]}
    answer = sim.post("/v1/completions", body).json
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == TEXT
    assert answer["usage"]["total_tokens"] == 10
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *frames, last = chunks(sim.post("/v1/completions", body | options))
    assert "".join(frame["choices"][0]["text"] for frame in frames) == TEXT
    assert last["usage"]["completion_tokens"] == 9


def test_timings_are_told_with_the_option(serve):
    answer = serve(timings=True).post("/v1/completions", {"prompt": "a"})
    assert answer.json["timings"]["prompt_n"] == 1


RESPONSE_TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"properties": {"city": {"type": "string"}}},
}
ASK = {"model": "m", "input": "hello"}


def kinds(answer):
    assert all(name == data["type"] for name, data in answer.events)
    return list(dict.fromkeys(name for name, _ in answer.events))


@pytest.mark.parametrize(
    "given",
    [
        "hello",
        [{"role": "user", "content": "hello"}],
        [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    ],
)
def test_an_answer(sim, given):
    answer = sim.post("/v1/responses", {"model": "m", "input": given}).json
    assert answer["status"] == "completed"
    assert answer["output"][0]["content"][0]["text"] == TEXT
    assert answer["usage"]["input_tokens"] == 1
    assert answer["usage"]["output_tokens"] == 9
    assert answer["usage"]["total_tokens"] == 10


def test_the_events_of_a_text(sim):
    answer = sim.post("/v1/responses", {**ASK, "stream": True})
    assert kinds(answer) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    events = [data for _, data in answer.events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"].endswith("delta")]
    assert "".join(deltas) == TEXT
    assert events[-1]["response"]["usage"]["output_tokens"] == 9
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == TEXT


def test_the_events_of_a_call_after_reasoning(sim):
    body = {
        **ASK,
        "tools": [RESPONSE_TOOL],
        "tool_choice": "required",
        "reasoning": {"effort": "low"},
    }
    answer = sim.post("/v1/responses", {**body, "stream": True})
    assert kinds(answer)[2:] == [
        "response.output_item.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.output_item.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
    ]
    last = answer.events[-1][1]["response"]
    assert [item["type"] for item in last["output"]] == ["reasoning", "function_call"]
    assert json.loads(last["output"][1]["arguments"]) == {"city": "hello"}
    assert last["usage"]["output_tokens_details"]["reasoning_tokens"] == 4
    assert sim.post("/v1/responses", body).json["output"] == last["output"]


def test_a_response_after_the_result_of_a_tool_is_text(sim):
    items = [
        {"role": "user", "content": "hello"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    body = {"model": "m", "input": items, "tools": [RESPONSE_TOOL], "tool_choice": "required"}
    answer = sim.post("/v1/responses", body).json
    assert answer["output"][0]["type"] == "message"
    assert answer["usage"]["input_tokens"] == 2


def test_a_limit_makes_it_incomplete(sim):
    body = {**ASK, "max_output_tokens": 2}
    answer = sim.post("/v1/responses", body).json
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    streamed = sim.post("/v1/responses", {**body, "stream": True})
    assert streamed.events[-1][0] == "response.incomplete"


def test_a_response_can_have_a_form_and_instructions_that_count(sim):
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {}}}}
    body = {**ASK, "text": {"format": form}, "instructions": "be nice"}
    answer = sim.post("/v1/responses", body).json
    assert json.loads(answer["output"][0]["content"][0]["text"]) == {"a": TEXT}
    assert answer["usage"]["input_tokens"] == 3
