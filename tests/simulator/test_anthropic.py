import json

TEXT = "You said: hello\nI am m, a simulated model."
ASK = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"name": "weather", "input_schema": {"properties": {"city": {"type": "string"}}}}
CALL = {**ASK, "tools": [TOOL], "tool_choice": {"type": "any"}}


def test_a_message(sim):
    answer = sim.post("/v1/messages", {**ASK, "system": "be nice", "sim_cached": 1}).json
    assert answer["type"] == "message"
    assert answer["content"] == [{"type": "text", "text": TEXT}]
    assert answer["stop_reason"] == "end_turn"
    assert answer["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1,
        "output_tokens": 9,
    }


def test_the_events_of_a_message(sim):
    events = sim.post("/v1/messages", {**ASK, "stream": True}).events
    assert all(name == data["type"] for name, data in events)
    assert list(dict.fromkeys(name for name, _ in events)) == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [data["delta"]["text"] for name, data in events if name == "content_block_delta"]
    assert "".join(deltas) == TEXT
    assert events[0][1]["message"]["usage"]["input_tokens"] == 1
    assert events[-2][1]["usage"] == {"output_tokens": 9}
    assert events[-2][1]["delta"]["stop_reason"] == "end_turn"


def test_a_tool_is_used(sim):
    answer = sim.post("/v1/messages", CALL).json
    assert answer["stop_reason"] == "tool_use"
    assert answer["content"][0]["name"] == "weather"
    assert answer["content"][0]["input"] == {"city": "hello"}


def test_a_tool_is_used_in_a_stream_after_thinking(sim):
    body = {**CALL, "stream": True, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    events = sim.post("/v1/messages", body).events
    blocks = [data["content_block"] for name, data in events if name == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    thought = [delta["thinking"] for delta in deltas if delta["type"] == "thinking_delta"]
    assert "".join(thought) == "The user said: hello"
    given = [delta["partial_json"] for delta in deltas if delta["type"] == "input_json_delta"]
    assert json.loads("".join(given)) == {"city": "hello"}


def test_a_call_cut_by_the_limit_has_no_arguments(sim):
    answer = sim.post("/v1/messages", {**CALL, "max_tokens": 1}).json
    assert answer["stop_reason"] == "max_tokens"
    assert answer["content"][0]["input"] == {}


def test_after_the_result_of_a_tool_it_talks(sim):
    result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]
    messages = [*ASK["messages"], {"role": "user", "content": result}]
    assert (
        sim.post("/v1/messages", {**CALL, "messages": messages}).json["stop_reason"] == "end_turn"
    )


def test_tokens_are_counted(sim):
    assert sim.post("/v1/messages/count_tokens", {**ASK, "system": "be"}).json == {
        "input_tokens": 2
    }


def test_errors_have_the_form_of_this_api(sim):
    answer = sim.post("/v1/messages", {"messages": []})
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "invalid_request_error"
