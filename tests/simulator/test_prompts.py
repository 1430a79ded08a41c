import pytest

from llmsnap.simulator import prompts
from llmsnap.simulator.reply import Tool


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        (None, ""),
        (["a", "b"], "a b"),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}], "a "),
        ([1, 2], "1 2"),
        ({"text": "a"}, "a"),
    ],
)
def test_the_text_of_a_content(content, text):
    assert prompts.content_text(content) == text


def test_the_question_is_what_the_user_said_last():
    said = [("user", "a"), ("user", "b"), ("assistant", "c")]
    messages = [{"role": role, "content": text} for role, text in said]
    assert prompts.question(messages) == "b"
    assert prompts.question([{"role": "system", "content": "x"}]) == ""


def test_tools_without_a_name_are_left_out():
    functions = [{"name": "f", "parameters": {"type": "object"}}, {"parameters": {}}]
    assert prompts.tools(functions, "parameters") == (Tool("f", {"type": "object"}),)


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}, {"type": "null"}),
        ({"type": "json_schema", "schema": {"type": "null"}}, {"type": "null"}),
        ({"type": "json_object", "schema": {"type": "null"}}, {"type": "null"}),
    ],
)
def test_the_schema_of_a_response_format(form, schema):
    assert prompts.answer_schema(form) == schema


def test_any_json_object_is_one_with_an_answer():
    assert "answer" in prompts.answer_schema({"type": "json_object"})["properties"]


def test_the_first_limit_given_counts(sim):
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    answer = sim.post("/v1/chat/completions", {**body, "max_completion_tokens": 3})
    assert answer.json["usage"]["completion_tokens"] == 3
    answer = sim.post("/v1/chat/completions", body)
    assert answer.json["usage"]["completion_tokens"] == 2
