from __future__ import annotations

import pytest

from llmsnap.errors import BadRequest
from llmsnap.proxy.body import model_in_query, parse_json


@pytest.mark.parametrize(
    ("value", "model"),
    [
        ('"llama"', "llama"),
        ('"a\\/b \\u00e9"', "a/b é"),
        ("5", "5"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("1e3", "1000"),
        ("true", "true"),
        ("false", "false"),
        ('[1, "x"]', '[1, "x"]'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_the_model_is_the_member_as_text(value: str, model: str) -> None:
    assert parse_json(f'{{"model": {value} }}'.encode()).model == model


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"model":null}',
        b'{"model":""}',
        b'{"Model":"a"}',
        b'{"nested":{"model":"a"}}',
        b'{"model":"\xff"}',
        b'{"model":"' + b"x" * 5000 + b'"}',
    ],
)
def test_a_request_without_a_usable_model_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="model") as raised:
        parse_json(raw)
    assert raised.value.param == "model"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "ends too early at byte 0 "),
        (b"[1]", "expected an object, found an array at byte 0 "),
        (b'{"model":"a"}}', r"expected the end, found '}' at byte 13 \(line 1, column 14\)"),
        (b'{\n "model": nope}', r"at byte 12 \(line 2, column 11\)"),
        (b"model=a", "expected an object, found 'm' at byte 0"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_json(raw)


@pytest.mark.parametrize(
    ("value", "stream"),
    [
        ("true", True),
        ("false", False),
        ("1", True),
        ("0", False),
        ("0.0", False),
        ("-2", True),
        ("0.5", True),
        ('"1"', True),
        ('"t"', True),
        ('"T"', True),
        ('"true"', True),
        ('"TRUE"', True),
        ('"True"', True),
        ('"tRUE"', False),
        ('"yes"', False),
        ('""', False),
        ("null", False),
        ("[1]", False),
        ('{"a":1}', False),
        ('"' + "x" * 100 + '"', False),
    ],
)
def test_when_a_stream_is_asked_for(value: str, stream: bool) -> None:
    assert parse_json(f'{{"model":"a","stream":{value}}}'.encode()).stream is stream


def test_no_stream_unless_asked() -> None:
    assert not parse_json(b'{"model":"a"}').stream
    assert not parse_json(b'{"model":"a","stream":"\xff"}').stream


def test_a_byte_order_mark_is_dropped() -> None:
    assert parse_json(b'\xef\xbb\xbf{"model":"a"}').raw == b'{"model":"a"}'


def test_of_two_models_the_first_counts_for_all() -> None:
    request = parse_json(b'{"model":"a", "x":1, "model":"b"}')
    assert (request.model, request.raw) == ("a", b'{"model":"a", "x":1}')


def test_other_members_are_there_to_read() -> None:
    request = parse_json(b'{"model":"a","n":[1, 2],"x":1,"x":2}')
    assert request.get("n") == b"[1, 2]"
    assert request.get("x") == b"2"
    assert request.get("y") is None
    assert repr(request) == "<JsonRequest for 'a', 36 bytes>"


def test_a_request_that_nothing_applies_to_is_the_same_request() -> None:
    request = parse_json(b'{ "model" : "a" }')
    assert request.rewrite({}) is request
    assert request.rewrite({"absent": None}) is request


def test_a_rewrite_can_rename_the_model_and_turn_the_stream_off() -> None:
    request = parse_json(b'{"model":"a", "stream": true}')
    renamed = request.rewrite({"model": b'"up"', "stream": None})
    assert (renamed.raw, renamed.model, renamed.stream) == (b'{"model":"up"}', "up", False)
    assert request.raw == b'{"model":"a", "stream": true}'
    assert renamed.rewrite({"model": b'"x"', "y": b"1"}).raw == b'{"model":"x","y":1}'


@pytest.mark.parametrize(
    ("query", "model"),
    [("model=a", "a"), ("x=1&model=author%2Fm+1", "author/m 1"), ("model=a&model=b", "a")],
)
def test_the_model_in_an_address(query: str, model: str) -> None:
    assert model_in_query(query) == model


@pytest.mark.parametrize("query", ["", "model=", "model", "Model=a"])
def test_an_address_without_a_model_is_refused(query: str) -> None:
    with pytest.raises(BadRequest, match="missing required `model` query parameter"):
        model_in_query(query)
