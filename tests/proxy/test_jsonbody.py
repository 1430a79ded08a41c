"""JSON bodies: which model they name, how they are unpacked, and what filters change."""

import gzip
import json
import random
import zlib
from itertools import pairwise
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.config import loads
from llmsnap.errors import BadRequest, TooLarge, UnsupportedEncoding
from llmsnap.http import jsontext
from llmsnap.http.jsontext import MAX_MEMBERS
from llmsnap.proxy.jsonbody import CompiledFilter, model_in_query, parse_json
from llmsnap.proxy.payload import PIECE_BYTES, coding_of, decoded
from tests.parity import parity

MIB = 1 << 20


def test_the_model_is_the_member_as_text() -> None:
    texts = {'"a\\/b \\u00e9"': "a/b é", "5": "5", "-1": "-1", "1.5": "1.5", "1e3": "1000"}
    for value, model in texts.items():
        assert parse_json(f'{{"model": {value} }}'.encode()).model == model


NO_NAMES = [b"null", b'""', b'"\xff"', b"[1]", b'{"a":"b"}', b"true", b" false", b'"%5000d"' % 1]


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"Model":"a","x":{"model":"a"}}', *(b'{"model":%b}' % one for one in NO_NAMES)]
)
def test_a_request_without_a_usable_model_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="model") as raised:
        parse_json(raw)
    assert raised.value.param == "model"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the request has no body"),
        (b'{"model":', r"ends too early at byte 9 \(line 1, column 10\)"),
        (b'{"model":"a"}}', r"expected the end, found '}' at byte 13 \(line 1, column 14\)"),
        (b'{\n "model": nope}', r"at byte 12 \(line 2, column 11\)"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_json(raw)


YES = 'true 1 -2 0.5 "1" "t" "T" "true" "TRUE" "True"'
NO = 'false 0 0.0 "tRUE" "yes" "" null [1] {"a":1} "\xff" "' + "x" * 100 + '"'


@pytest.mark.parametrize(("values", "stream"), [(YES, True), (NO, False)])
def test_when_a_stream_is_asked_for(values: str, stream: bool) -> None:
    for value in values.split():
        assert parse_json(f'{{"model":"a","stream":{value}}}'.encode()).stream is stream, value


def test_a_byte_order_mark_is_dropped_and_all_models_but_the_first() -> None:
    request = parse_json(b'\xef\xbb\xbf{"model":"a", "x":1, "model":"b"}')
    assert (request.model, request.raw) == ("a", b'{"model":"a", "x":1}')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prompt":"two\nlines", "model":"a"}',
        b'{"model":"a"} \v\f\xc2\xa0\n',
        b'{"model":"a","x":"\\ud83d\xff"}',
    ],
)
def test_what_go_accepts_goes_on_as_it_is(raw: bytes) -> None:
    request = parse_json(raw)
    assert (request.model, request.raw) == ("a", raw)
    renamed = request.rewrite({"model": b'"b"'})
    assert renamed.raw == raw.replace(b'"a"', b'"b"')


def test_other_members_are_there_to_read() -> None:
    request = parse_json(b'{"model":"a","n":[1, 2],"x":1,"x":2}')
    assert [request.get(name) for name in ("n", "x", "y")] == [b"[1, 2]", b"2", None]


def test_a_rewrite_can_rename_the_model_and_turn_the_stream_off() -> None:
    request = parse_json(b'{"model":"a", "stream": true}')
    renamed = request.rewrite({"model": b'"up"', "stream": None})
    assert (renamed.raw, renamed.model, renamed.stream) == (b'{"model":"up"}', "up", False)
    assert request.raw == b'{"model":"a", "stream": true}'
    assert renamed.rewrite({"model": b'"x"', "y": b"1"}).raw == b'{"model":"x","y":1}'


def test_the_model_in_an_address() -> None:
    assert model_in_query("x=1&model=author%2Fm+1&model=b") == "author/m 1"
    for query in ("", "model=", "model", "Model=a"):
        with pytest.raises(BadRequest, match="missing required `model` query parameter"):
            model_in_query(query)


# --- what is large in few bytes -----------------------------------------------------------------


@pytest.mark.parametrize("member", ['"":0', '"a":"\\ud83d"', '"model":"m"', '"x":{}', '"x":[[]]'])
def test_a_request_has_a_bounded_number_of_members(member: str) -> None:
    text = '{"model":"m"%s}'
    most = parse_json((text % (f",{member}" * (MAX_MEMBERS - 1))).encode())
    assert most.model == "m"
    for more in (MAX_MEMBERS, 200_000):
        with pytest.raises(BadRequest, match=f"more than {MAX_MEMBERS} members"):
            parse_json((text % (f",{member}" * more)).encode())


def test_no_member_beyond_the_limit_is_looked_at() -> None:
    with pytest.raises(BadRequest, match="more than"):
        parse_json(b'{"model":"m"' + b',"":0' * 100_000 + b"}")
    assert jsontext._ALLOWANCE.left == -1


@pytest.mark.parametrize("opener", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [600, 5_000, 200_000])
def test_deep_nesting_is_passed_on_or_refused(opener: str, depth: int) -> None:
    """How deep msgspec goes depends on Python's version and on who calls."""
    closer = "]" if opener == "[" else "}"
    nested = f"{opener * depth}1{closer * depth}"
    try:
        request = parse_json(f'{{"model":"m","a":{nested}}}'.encode())
    except BadRequest as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - either is fine
    else:
        assert request.model == "m"
    with pytest.raises(BadRequest):
        parse_json(f'{{"model":{nested}}}'.encode()[:-1])


@pytest.mark.parametrize("encoding", ["br", "gzip,deflate", "gzip;q=1", "x" * 9000])
def test_other_codings_and_codings_within_each_other_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="use gzip") as raised:
        coding_of(encoding)
    assert len(str(raised.value)) < 200


def largest_step(sizes: list[int]) -> int:
    return max(after - before for before, after in pairwise(sizes))


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * MIB])
def test_bodies_of_any_size_are_unpacked_in_small_pieces(size: int) -> None:
    body, sizes = random.Random(size).randbytes(size // 2 + 1).hex().encode()[:size], [0]
    assert decoded(zlib.compress(body, 1), "deflate", 4 * MIB, sizes.append) == body
    assert sizes[-1] == size
    assert largest_step(sizes) <= PIECE_BYTES


def test_little_that_unpacks_to_much_is_refused_at_once() -> None:
    assert len(decoded(gzip.compress(b" " * MIB), "gzip", 64 * MIB, int)) == MIB, "a short body"
    bomb, sizes = gzip.compress(b" " * (50 * MIB)), [0]
    with pytest.raises(TooLarge, match="more than 100 times its size"):
        decoded(bomb, "gzip", 1024 * MIB, sizes.append)
    assert sizes[-1] <= 100 * len(bomb) < 9 * MIB
    assert largest_step(sizes) <= PIECE_BYTES
    block = random.Random(1).randbytes(600_000)
    with pytest.raises(TooLarge, match="maxDecompressedBody"):
        decoded(gzip.compress(block * 6), "gzip", 2 * MIB, sizes.append)
    assert sizes[-1] <= 2 * MIB


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "ends too early"),
        (b"{}", "is not gzip"),
        (gzip.compress(b"x")[:-1], "ends too early"),
        (gzip.compress(b"x") + b"{}", "more follows the end"),
        (gzip.compress(b"x") + b"\0" * 200_000, "more follows the end"),
    ],
)
def test_what_is_not_one_compressed_body_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decoded(body, "gzip", MIB, int)


def filtered(raw: str, requested: str = "a", **settings: Any) -> str:
    request = parse_json(raw.encode())
    edits = CompiledFilter.from_settings(**settings).edits(request, requested)
    return request.rewrite(edits).raw.decode()


MIXED = '{"temperature": 0.5, "model":"a" , "nested":{"x":1,"y":2}, "top_k": 99, "stream":true}'
STRIPPED = ["temperature", "nested.x", "model", "stream", "absent", "top_k.deep"]
MIXED_LEFT = '{ "model":"a" , "nested":{"y":2}, "top_k": 5,"deep":{"key":1}}'
DEEP = '{"model":"a","a":{"b":1,"c":[1,2,3]},"a.b":0}'
LIST = '{"model":"a","list":[1]}'
ESCAPED = ',"a.b":{"c":"\\u003c","d":1}}'
REPEATED = '{"model":"a","t":1,"t":2}'
HIGH = '{"model":"a:high"}'
NAMED = {"set_params": {"effort": "low", "k": 1}, "set_by_name": {"a:high": {"effort": "high"}}}


@pytest.mark.parametrize(
    ("raw", "filters", "expected"),
    [
        (MIXED, {"strip": STRIPPED, "set_params": {"top_k": 5, "deep.key": 1}}, MIXED_LEFT),
        (DEEP, {"strip": [r"a\.b", "a.c.-1"]}, '{"model":"a","a":{"b":1,"c":[1,2]}}'),
        (DEEP, {"strip": ["a.b", "a.c"]}, '{"model":"a","a":{},"a.b":0}'),
        (DEEP, {"strip": ["a", "a.b"]}, '{"model":"a","a.b":0}'),
        (DEEP, {"strip": [" a "]}, '{"model":"a","a.b":0}'),
        (DEEP, {"strip": ["", "a*", "model.x"]}, DEEP),
        (LIST, {"set_params": {"t": 0.7, "list.2": True}}, LIST[:-2] + ',null,true],"t":0.7}'),
        (LIST, {"set_params": {r"a\.b": {"d": 1, "c": "<"}}}, LIST[:-1] + ESCAPED),
        (LIST, {"set_params": {"o.b": 2, "o.a": 1}}, LIST[:-1] + ',"o":{"a":1,"b":2}}'),
        (LIST, {"set_params": {"model": "b", "model.x": 1, "x*": 1}}, LIST),
        (REPEATED, {"strip": ["t"]}, '{"model":"a"}'),
        (REPEATED, {"set_params": {"t": 0}}, '{"model":"a","t":0}'),
        (REPEATED, {"strip": ["t"], "set_params": {"t.y": 2}}, '{"model":"a","t":{"y":2}}'),
        (HIGH, {"requested": "a:high", **NAMED}, HIGH[:-1] + ',"effort":"high","k":1}'),
        (HIGH, {"requested": "a", **NAMED}, HIGH[:-1] + ',"effort":"low","k":1}'),
    ],
)
def test_what_filters_strip_and_then_set(raw: str, filters: dict[str, Any], expected: str) -> None:
    assert filtered(raw, **filters) == expected


NUMBERS = "1e3 1E+3 -1.50 1.0 0.1000 1e-7 12345678901234567890123 7"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        *((as_it_is, as_it_is) for as_it_is in NUMBERS.split()),
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
    filters = f"setParams: {{x: {written}, y.z: {written}}}, setParamsByID: {{b: {{w: {written}}}}}"
    text = f"""
        macros: {{T: 2e1}}
        models: {{a: {{cmd: x, proxy: "http://localhost:1", filters: {{{filters}}}}}}}
        peers: {{p: {{proxy: "http://p", models: [m], filters: {{{filters}}}}}}}
        """
    config = loads(dedent(text), environ={})
    for found in (config.models["a"].filters, config.peers["p"].filters):
        compiled = CompiledFilter.from_settings(
            found.strip_params, found.set_params, found.set_params_by_id
        )
        edits = compiled.edits(parse_json(b'{"model":"a"}'), "b")
        value = sent.encode()
        assert edits == {"x": value, "y": b'{"z":%b}' % value, "w": value}
        assert compiled.form_edits([], "b")["x"] == sent.strip('"')


VARIANT = {"set_params": {"t": 1, "k?": 1}, "set_by_name": {"a:v": {"t?": 2, "k": 2}}}


@parity(
    "Newer keys",
    "a parameter whose name ends in `?` is set only if the request lacks it",
    "the same, in forms too",
)
@pytest.mark.parametrize(
    ("sent", "filters", "result"),
    [
        ({}, {"set_params": {"t?": 1}}, {"t": 1}),
        ({"t": None}, {"set_params": {"t?": 1}}, {"t": None}),
        ({"t": 0}, {"set_params": {"t?": 1}, "strip": ["t"]}, {"t": 1}),
        ({}, {"set_params": {"t?": 1, "t": 2}}, {"t": 2}),
        ({}, {"set_params": {"a.b?": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 5}}, {"set_params": {"a.b?": 1, "a.d?": 2}}, {"a": {"b": 5, "d": 2}}),
        ({"a": 5}, {"set_params": {"a.b?": 1}}, {"a": 5}),
        ({}, {"set_params": {"a\\?": 1}}, {"a?": 1}),
        ({}, {"set_params": {"t": 1}, "set_by_name": {"x": {"t?": 2}}}, {"t": 1}),
        ({}, VARIANT, {"k": 2, "t": 2}),
        ({"t": 9, "k": 9}, VARIANT, {"t": 9, "k": 2}),
    ],
)
def test_a_soft_parameter_is_set_where_the_request_lacks_it(sent, filters, result) -> None:
    raw = json.dumps({"model": "a:v", **sent})
    assert json.loads(filtered(raw, "a:v", **filters)) == {"model": "a:v", **result}


def test_filters_that_do_nothing_are_false_and_leave_the_same_object() -> None:
    patterns, by_name = ["model", "", " ", "a*"], {"a": {}, "b": {"model": 1}}
    assert not CompiledFilter.from_settings(patterns, {"model": "x", "@": 1}, by_name)
    request = parse_json(b'{ "model" : "a" , "x" : {"y": 1} }')
    compiled = CompiledFilter.from_settings(["z", "x.z"], set_by_name={"b": {"k": 1}})
    assert request.rewrite(compiled.edits(request, "a")) is request


def test_a_form_has_its_fields_stripped_and_set() -> None:
    compiled = CompiledFilter.from_settings(
        ["temperature", "absent", "deep.path", "model"],
        {"language": "en", "n": 2, "f": True, "deep.key": 1, "obj": {"a": 1}, "model": "x"},
        {"whisper:fast": {"n": 1}},
    )
    soft = CompiledFilter.from_settings(["b"], {"a?": 1, "b?": 1, "c?": 1, "d": 2, "d?": 1})
    assert soft.form_edits(["a", "b"], "m") == {"b": "1", "c": "1", "d": "2"}
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
def test_top_level_filters_are_what_a_dictionary_does(document, strip, params) -> None:
    raw = json.dumps({"model": "m", **document})
    kept = {name: value for name, value in document.items() if name not in strip or name in params}
    result = json.loads(filtered(raw, strip=strip, set_params=params))
    assert result == {"model": "m", **kept, **params}
