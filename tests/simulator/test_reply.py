"""What the simulated model says."""

import types

import pytest

from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.reply import (
    Prompt,
    ReplyPart,
    Tool,
    answer_schema,
    compose,
    content_text,
    count_tokens,
    garbage_tokens,
    question,
    sample,
    split_tokens,
    tokens_of_length,
    tools,
)
from llmsnap.simulator.state import SimState

NULL = {"type": "null"}


def test_a_token_is_a_word_and_all_joined_are_the_text():
    counts = {"": 0, "one": 1, " one  two\nthree ": 4, "ünï ¢ode": 2}
    assert {"".join(split_tokens(text)): count_tokens(text) for text in counts} == counts


def test_tokens_of_a_length_are_cut_or_go_on_with_filler():
    assert tokens_of_length("one two", 4) == ["one", " two", " The", " quick"]
    assert tokens_of_length("one two three", 2) == ["one", " two"]
    assert len(garbage_tokens(3)) == 3
    assert not any(character.isalnum() for character in "".join(garbage_tokens(3)))


WEATHER = Tool("weather", {"properties": {"city": {"type": "string"}}})
CLOCK = Tool("clock", {"properties": {}})


class Ask:
    """A request of which only the overrides matter."""

    def __init__(self, **settings):
        self.settings = settings
        self.waits: list[float] = []
        self.client = types.SimpleNamespace(wait=self.waits.append)

    def number(self, name, default=0.0):
        return float(self.settings.get(name, default))

    def text(self, name, default=""):
        return str(self.settings.get(name, default))


def state(**options):
    return SimState(SimOptions(**options), lambda line: None, lambda code: None)


def reply_to(prompt, settings=None, **options):
    return compose(state(**options), Ask(**(settings or {})), prompt)


def test_it_quotes_the_question_unless_a_text_or_length_is_asked_for():
    prompt = Prompt("hello there", "be nice hello there")
    reply = reply_to(prompt, {"model": "m"})
    assert reply.text == "You said: hello there\nI am m, a simulated model."
    assert (reply.prompt_tokens, reply.output_tokens) == (4, 10)
    assert reply_to(prompt, respond="hi").text == "hi"
    for length in (1, 5, 40):
        assert reply_to(prompt, tokens=length).output_tokens == length
        assert reply_to(prompt, {"sim_tokens": length}).output_tokens == length


def test_a_limit_cuts_and_reasoning_comes_first():
    for limit, reasoning, expected in (
        (3, False, ("", 3, True)),
        (300, False, ("", 9, False)),
        (5, True, ("The user said: a", 1, True)),
        (2, True, ("The user", 0, True)),
    ):
        reply = reply_to(Prompt("a", "a", limit=limit, reasoning=reasoning))
        assert (reply.reasoning_text, len(reply.pieces), reply.cut) == expected, limit
        kinds = [*([ReplyPart.REASONING] if reasoning else []), ReplyPart.TEXT]
        assert [part for part, _ in reply.parts] == kinds, limit


def test_speed_becomes_time_per_token_and_timings():
    reply = reply_to(Prompt("a", "a"), tokens_per_second=4, prompt_time=2, tokens=3)
    assert reply.duration_s == pytest.approx(2.75)
    ask = Ask()
    assert list(reply.pace(ask, reply.pieces)) == reply.pieces
    assert ask.waits == [0.25] * 3
    assert reply_to(Prompt("a", "a"), {"sim_tps": 4, "sim_tokens": 2}).duration_s == 0.5
    settings = {"sim_cached": 1}
    reply = reply_to(Prompt("a", "a b c"), settings, tokens_per_second=4, prompt_time=2, tokens=4)
    timings = reply.timings()
    assert (timings["cache_n"], timings["prompt_n"], timings["predicted_n"]) == (1, 2, 4)
    assert (timings["prompt_ms"], timings["prompt_per_second"]) == (2000, 1)
    assert (timings["predicted_ms"], timings["predicted_per_second"]) == (1000, 4)
    assert reply_to(Prompt("", "")).timings()["prompt_per_second"] == 0
    assert reply_to(Prompt("a", "a"), {"sim_cached": 9}).cached_tokens == 1


def test_which_tool_is_called():
    for asked, must_call, corrupted, called in (
        ("what is the Clock?", False, False, CLOCK),
        ("use a tool", False, False, WEATHER),
        ("hello", True, False, WEATHER),
        ("toolbox of a clockmaker", False, False, None),
        ("use a tool", True, True, None),
    ):
        model = state()
        model.corrupted = corrupted
        prompt = Prompt(asked, asked, tools=(WEATHER, CLOCK), must_call=must_call)
        reply = compose(model, Ask(), prompt)
        kinds = [ReplyPart.TOOL if called else ReplyPart.TEXT]
        assert (reply.tool, [part for part, _ in reply.parts]) == (called, kinds), asked
        assert not corrupted or "tool" not in reply.text


def test_a_sample_has_the_form_of_its_schema():
    samples = [
        ({}, "x"),
        ({"type": ["string", "null"]}, "x"),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": "boolean"}, True),
        (NULL, None),
        ({"type": "array", "items": {"type": "number"}}, [1]),
        ({"type": "object"}, {}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 1}),
    ]
    assert [(schema, sample(schema, "x")) for schema, _ in samples] == samples


USER, SYSTEM = {"role": "user", "content": "a"}, {"role": "system", "content": "x"}
FUNCTIONS = [{"name": "f", "parameters": {"type": "object"}}, {"parameters": {}}]


def test_what_is_read_of_a_request():
    texts = [
        ("a", "a"),
        (None, ""),
        (["a", "b"], "a b"),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}], "a "),
        ([1, 2], "1 2"),
        ({"text": "a"}, "a"),
    ]
    assert [(content, content_text(content)) for content, _ in texts] == texts
    answer = {"role": "assistant", "content": "c"}
    assert question([USER, {**USER, "content": "b"}, answer]) == "b"
    assert question([SYSTEM]) == ""
    assert tools(FUNCTIONS, "parameters") == (Tool("f", {"type": "object"}),)
    schemas = [
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_schema", "json_schema": {"schema": NULL}}, NULL),
        ({"type": "json_schema", "schema": NULL}, NULL),
        ({"type": "json_object", "schema": NULL}, NULL),
    ]
    assert [(form, answer_schema(form)) for form, _ in schemas] == schemas
