from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.config import loads
from llmsnap.proxy.jsonbody import CompiledFilter, parse_json


def filtered(raw: str, requested: str = "a", **settings: Any) -> str:
    request = parse_json(raw.encode())
    edits = CompiledFilter.from_settings(**settings).edits(request, requested)
    return request.rewrite(edits).raw.decode()


def test_strip_then_set_leaves_the_rest_as_it_was() -> None:
    assert (
        filtered(
            '{"temperature": 0.5, "model":"a" , "nested":{"x":1,"y":2}, "top_k": 99}',
            strip=["temperature", "nested.x"],
            set_params={"top_k": 5, "deep.key": 1},
        )
        == '{ "model":"a" , "nested":{"y":2}, "top_k": 5,"deep":{"key":1}}'
    )


def test_the_model_and_what_is_absent_are_not_stripped() -> None:
    assert (
        filtered(
            '{"model":"model1", "temperature":0.1, "x_param":"123", "y_param":"abc", '
            '"stream":true}',
            strip=["temperature", "model", "stream", "absent", "x_param.deep"],
        )
        == '{"model":"model1", "x_param":"123", "y_param":"abc"}'
    )


@pytest.mark.parametrize(
    ("strip", "expected"),
    [
        (["a.b"], '{"model":"a","a":{"c":[1,2,3]},"a.b":0}'),
        ([r"a\.b"], '{"model":"a","a":{"b":1,"c":[1,2,3]}}'),
        (["a.c.0"], '{"model":"a","a":{"b":1,"c":[2,3]},"a.b":0}'),
        (["a.c.-1"], '{"model":"a","a":{"b":1,"c":[1,2]},"a.b":0}'),
        (["a.b", "a.c"], '{"model":"a","a":{},"a.b":0}'),
        (["a", "a.b"], '{"model":"a","a.b":0}'),
        ([" a "], '{"model":"a","a.b":0}'),
        (["", "a*", "model.x"], '{"model":"a","a":{"b":1,"c":[1,2,3]},"a.b":0}'),
    ],
)
def test_stripping_by_path(strip: list[str], expected: str) -> None:
    raw = '{"model":"a","a":{"b":1,"c":[1,2,3]},"a.b":0}'
    assert filtered(raw, strip=strip) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"t": 0.7}, '{"model":"a","list":[1],"t":0.7}'),
        ({"list.-1": "x"}, '{"model":"a","list":[1,"x"]}'),
        ({"list.2": True}, '{"model":"a","list":[1,null,true]}'),
        ({"list.name": 1}, '{"model":"a","list":[1]}'),
        ({r"a\.b": {"d": 1, "c": "<"}}, '{"model":"a","list":[1],"a.b":{"c":"\\u003c","d":1}}'),
        ({"o.b": 2, "o.a": 1}, '{"model":"a","list":[1],"o":{"a":1,"b":2}}'),
        ({"model": "b", "model.x": 1, "x?": 1}, '{"model":"a","list":[1]}'),
    ],
)
def test_setting_by_path(params: dict[str, Any], expected: str) -> None:
    assert filtered('{"model":"a","list":[1]}', set_params=params) == expected


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("1e3", "1e3"),
        ("1E+3", "1E+3"),
        ("-1.50", "-1.50"),
        ("1.0", "1.0"),
        ("0.1000", "0.1000"),
        ("1e-7", "1e-7"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("7", "7"),
        ("0x10", "16"),
        ("1_000.5", "1000.5"),
        (".5", "0.5"),
        ("+1.5", "1.5"),
        ("1.", "1.0"),
        ("'1e3'", '"1e3"'),
        ("1e999", '"1e999"'),
        ("${T}", "2e1"),
        ("a${T}", '"a20"'),
        ("[1e3, {b: 2.50, a: ${T}}, ~, yes, 1]", '[1e3,{"a":2e1,"b":2.50},null,"yes",1]'),
    ],
)
def test_numbers_are_set_as_they_are_written(written: str, sent: str) -> None:
    text = f"""
        macros: {{T: 2e1}}
        models:
          a:
            cmd: x
            proxy: http://localhost:1
            filters:
              setParams: {{x: {written}, y.z: {written}}}
              setParamsByID: {{b: {{w: {written}}}}}
        peers:
          p: {{proxy: "http://p", models: [m], filters: {{setParams: {{x: {written}}}}}}}
        """
    config = loads(dedent(text), environ={})
    for owner in (config.models["a"], config.peers["p"]):
        filters = owner.filters
        compiled = CompiledFilter.from_settings(
            filters.strip_params, filters.set_params, filters.set_params_by_id
        )
        edits = compiled.edits(parse_json(b'{"model":"a"}'), "b")
        assert edits["x"] == sent.encode()
        assert compiled.form_edits([], "b")["x"] == sent.strip('"')
        if owner is config.models["a"]:
            assert edits["y"] == b'{"z":%b}' % sent.encode()
            assert edits["w"] == sent.encode()


def test_what_is_stripped_can_be_set_again() -> None:
    raw = '{"model":"a","t":{"x":1},"u":1}'
    assert filtered(raw, strip=["t"], set_params={"t.y": 2}) == '{"model":"a","t":{"y":2},"u":1}'


def test_a_repeated_parameter_cannot_slip_through() -> None:
    raw = '{"model":"a","t":1,"t":2}'
    assert filtered(raw, strip=["t"]) == '{"model":"a"}'
    assert filtered(raw, set_params={"t": 0}) == '{"model":"a","t":0}'


def test_parameters_set_by_name_come_last_and_for_that_name_only() -> None:
    settings = {
        "set_params": {"effort": "low", "k": 1},
        "set_by_name": {"a:high": {"effort": "high"}},
    }
    raw = '{"model":"a:high"}'
    assert filtered(raw, "a:high", **settings) == '{"model":"a:high","effort":"high","k":1}'
    assert filtered(raw, "a", **settings) == '{"model":"a:high","effort":"low","k":1}'


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strip": ["model", "", " ", "a*"]},
        {"set_params": {"model": "x", "@": 1}},
        {"set_by_name": {"a": {}, "b": {"model": 1}}},
    ],
)
def test_filters_that_do_nothing_are_false(settings: dict[str, Any]) -> None:
    assert not CompiledFilter.from_settings(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"strip": ["a"]}, {"set_params": {"a": 1}}, {"set_by_name": {"m": {"a": 1}}}],
)
def test_filters_that_may_do_something_are_true(settings: dict[str, Any]) -> None:
    assert CompiledFilter.from_settings(**settings)


def test_a_request_that_nothing_applies_to_stays_the_same_object() -> None:
    request = parse_json(b'{ "model" : "a" , "x" : {"y": 1} }')
    compiled = CompiledFilter.from_settings(["z", "x.z"], set_by_name={"b": {"k": 1}})
    assert request.rewrite(compiled.edits(request, "a")) is request


def test_a_form_has_its_fields_stripped_and_set() -> None:
    compiled = CompiledFilter.from_settings(
        ["temperature", "absent", "deep.path", "model"],
        {"language": "en", "n": 2, "f": True, "deep.key": 1, "obj": {"a": 1}, "model": "x"},
        {"whisper:fast": {"n": 1}},
    )
    names = ["model", "temperature", "language"]
    assert compiled.form_edits(names, "whisper:fast") == {
        "temperature": None,
        "language": "en",
        "n": "1",
        "f": "true",
        "obj": '{"a":1}',
    }


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
SCALARS = st.none() | st.integers() | st.booleans() | st.text("xyz<", max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, SCALARS), st.lists(NAMES), st.dictionaries(NAMES, SCALARS))
def test_top_level_filters_are_what_a_dictionary_does(
    document: dict[str, Any], strip: list[str], params: dict[str, Any]
) -> None:
    raw = json.dumps({"model": "m", **document})
    kept = {name: value for name, value in document.items() if name not in strip or name in params}
    result = json.loads(filtered(raw, strip=strip, set_params=params))
    assert result == {"model": "m", **kept, **params}
