import json

import pytest

TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"properties": {"city": {"type": "string"}}},
}
TEXT = "You said: hello\nI am m, a simulated model."
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


def test_instructions_count_as_input(sim):
    answer = sim.post("/v1/responses", {**ASK, "instructions": "be nice"})
    assert answer.json["usage"]["input_tokens"] == 3


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
    body = {**ASK, "tools": [TOOL], "tool_choice": "required", "reasoning": {"effort": "low"}}
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


def test_after_the_result_of_a_tool_it_talks(sim):
    items = [
        {"role": "user", "content": "hello"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    body = {"model": "m", "input": items, "tools": [TOOL], "tool_choice": "required"}
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


def test_an_answer_can_have_a_form(sim):
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {}}}}
    answer = sim.post("/v1/responses", {**ASK, "text": {"format": form}}).json
    assert json.loads(answer["output"][0]["content"][0]["text"]) == {"a": TEXT}


def test_without_input_it_is_refused(sim):
    assert sim.post("/v1/responses", {"model": "m"}).status == 400
