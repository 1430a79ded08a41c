"""JSON bodies: which model they name, how they are unpacked, and what filters change."""

import gzip
import json
import random
import zlib
from itertools import pairwise
from textwrap import dedent
from typing import Any

import pytest

from llmsnap.config import loads
from llmsnap.errors import BadRequest, TooLarge, UnsupportedEncoding
from llmsnap.http import jsontext
from llmsnap.http.jsontext import MAX_MEMBERS
from llmsnap.proxy.jsonbody import CompiledFilter, model_in_query, parse_json
from llmsnap.proxy.payload import PIECE_BYTES, coding_of, decoded
from tests.drawn import cases
from tests.parity import parity

MIB = 1 << 20


def test_the_model_is_the_member_as_text() -> None:
    texts = {'"a\\/b \\u00e9"': "a/b é", "5": "5", "-1": "-1", "1.5": "1.5", "1e3": "1000"}
    for value, model in texts.items():
        assert parse_json(f'{{"model": {value} }}'.encode()).model == model


NO_NAMES = [b"null", b'""', b'"\xff"', b"[1]", b'{"a":"b"}', b"true", b" false", b'"%5000d"' % 1]


def test_a_request_without_a_usable_model_is_refused() -> None:
    bodies = [b'{"model":%b}' % one for one in NO_NAMES]
    for raw in (b"{}", b'{"Model":"a","x":{"model":"a"}}', *bodies):
        with pytest.raises(BadRequest, match="model") as raised:
            parse_json(raw)
        assert raised.value.param == "model", raw


def test_what_is_not_json_is_refused_with_the_place() -> None:
    for raw, message in (
        (b"", "the request has no body"),
        (b'{"model":', r"ends too early at byte 9 \(line 1, column 10\)"),
        (b'{"model":"a"}}', r"expected the end, found '}' at byte 13 \(line 1, column 14\)"),
        (b'{\n "model": nope}', r"at byte 12 \(line 2, column 11\)"),
    ):
        with pytest.raises(BadRequest, match=message):
            parse_json(raw)


YES = 'true 1 -2 0.5 "1" "t" "T" "true" "TRUE" "True"'
NO = 'false 0 0.0 "tRUE" "yes" "" null [1] {"a":1} "\xff" "' + "x" * 100 + '"'


def test_when_a_stream_is_asked_for() -> None:
    asked = dict.fromkeys(YES.split(), True) | dict.fromkeys(NO.split(), False)
    bodies = {value: f'{{"model":"a","stream":{value}}}'.encode() for value in asked}
    assert {value: parse_json(raw).stream for value, raw in bodies.items()} == asked


def test_a_byte_order_mark_is_dropped_and_all_models_but_the_first() -> None:
    request = parse_json(b'\xef\xbb\xbf{"model":"a", "x":1, "model":"b"}')
    assert (request.model, request.raw) == ("a", b'{"model":"a", "x":1}')


def test_what_go_accepts_goes_on_as_it_is() -> None:
    for raw in (
        b'{"prompt":"two\nlines", "model":"a"}',
        b'{"model":"a"} \v\f\xc2\xa0\n',
        b'{"model":"a","x":"\\ud83d\xff"}',
    ):
        request = parse_json(raw)
        assert (request.model, request.raw) == ("a", raw)
        assert request.rewrite({"model": b'"b"'}).raw == raw.replace(b'"a"', b'"b"')


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


def test_a_request_has_a_bounded_number_of_members() -> None:
    for member in ('"":0', '"a":"\\ud83d"', '"model":"m"', '"x":{}', '"x":[[]]'):
        text = '{"model":"m"%s}'
        assert parse_json((text % (f",{member}" * (MAX_MEMBERS - 1))).encode()).model == "m"
        with pytest.raises(BadRequest, match=f"more than {MAX_MEMBERS} members"):
            parse_json((text % (f",{member}" * MAX_MEMBERS)).encode())


def test_no_member_beyond_the_limit_is_looked_at() -> None:
    with pytest.raises(BadRequest, match="more than"):
        parse_json(b'{"model":"m"' + b',"":0' * 100_000 + b"}")
    assert jsontext._ALLOWANCE.left == -1


@pytest.mark.parametrize("depth", [600, 5_000, 200_000])
@pytest.mark.parametrize(("opener", "closer"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_passed_on_or_refused(depth: int, opener: str, closer: str) -> None:
    """How deep msgspec goes depends on Python's version and on who calls."""
    nested = f"{opener * depth}1{closer * depth}"
    try:
        request = parse_json(f'{{"model":"m","a":{nested}}}'.encode())
    except BadRequest as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - either is fine
    else:
        assert request.model == "m"
    with pytest.raises(BadRequest):
        parse_json(f'{{"model":{nested}}}'.encode()[:-1])


def test_other_codings_and_codings_within_each_other_are_refused() -> None:
    for encoding in ("br", "gzip,deflate", "gzip;q=1", "x" * 9000):
        with pytest.raises(UnsupportedEncoding, match="use gzip") as raised:
            coding_of(encoding)
        assert len(str(raised.value)) < 200


def largest_step(sizes: list[int]) -> int:
    return max(after - before for before, after in pairwise(sizes))


def test_bodies_of_any_size_are_unpacked_in_small_pieces() -> None:
    chance = random.Random(1)
    longest = b"".join(chance.randbytes(100) + bytes(1900) for _ in range(3 * MIB // 2000))
    for size in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, len(longest)):
        body, sizes = longest[:size], [0]
        assert decoded(zlib.compress(body, 1), "deflate", 4 * MIB, sizes.append) == body
        assert sizes[-1] == size
        assert largest_step(sizes) <= PIECE_BYTES


def test_little_that_unpacks_to_much_is_refused_at_once() -> None:
    assert len(decoded(gzip.compress(b" " * MIB), "gzip", 64 * MIB, int)) == MIB, "a short body"
    bomb, sizes = gzip.compress(b" " * (16 * MIB), 1), [0]
    with pytest.raises(TooLarge, match="more than 100 times its size"):
        decoded(bomb, "gzip", 1024 * MIB, sizes.append)
    assert sizes[-1] <= 100 * len(bomb) < 9 * MIB
    assert largest_step(sizes) <= PIECE_BYTES
    block = random.Random(1).randbytes(600_000)
    with pytest.raises(TooLarge, match="maxDecompressedBody"):
        decoded(gzip.compress(block * 6, 0), "gzip", 2 * MIB, sizes.append)
    assert sizes[-1] <= 2 * MIB


def test_what_is_not_one_compressed_body_is_refused() -> None:
    for body, message in (
        (b"", "ends too early"),
        (b"{}", "is not gzip"),
        (gzip.compress(b"x")[:-1], "ends too early"),
        (gzip.compress(b"x") + b"{}", "more follows the end"),
        (gzip.compress(b"x") + b"\0" * 200_000, "more follows the end"),
    ):
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


FILTERED = [
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
]


def test_what_filters_strip_and_then_set() -> None:
    found = [filtered(raw, **filters) for raw, filters, _ in FILTERED]
    assert found == [expected for _, _, expected in FILTERED]


NUMBERS = "1e3 1E+3 -1.50 1.0 0.1000 1e-7 12345678901234567890123 7"


SENT_AS = {number: number for number in NUMBERS.split()} | {
    "0x10": "16",
    "1_000.5": "1000.5",
    ".5": "0.5",
    "+1.5": "1.5",
    "1.": "1.0",
    "'1e3'": '"1e3"',
    "1e999": '"1e999"',
    "${T}": "2e1",
    "a${T}": '"a20"',
    "[1e3, {b: 2.50, a: ${T}}, ~, yes, 1]": '[1e3,{"a":2e1,"b":2.50},null,"yes",1]',
}


def test_numbers_are_set_as_they_are_written() -> None:
    def named(name: str) -> str:
        return ", ".join(f"{name % n}: {written}" for n, written in enumerate(SENT_AS))

    by_name = f"setParamsByID: {{b: {{{named('w%d')}}}}}"
    filters = f"{{setParams: {{{named('x%d')}, {named('y%d.z')}}}, {by_name}}}"
    text = f"""
        macros: {{T: 2e1}}
        models: {{a: {{cmd: x, proxy: "http://localhost:1", filters: {filters}}}}}
        peers: {{p: {{proxy: "http://p", models: [m], filters: {filters}}}}}
        """
    config = loads(dedent(text), environ={})
    expected = {}
    for n, value in enumerate(sent.encode() for sent in SENT_AS.values()):
        expected |= {f"x{n}": value, f"y{n}": b'{"z":%b}' % value, f"w{n}": value}
    for found in (config.models["a"].filters, config.peers["p"].filters):
        compiled = CompiledFilter.from_settings(
            found.strip_params, found.set_params, found.set_params_by_id
        )
        assert compiled.edits(parse_json(b'{"model":"a"}'), "b") == expected
        fields = compiled.form_edits([], "b")
        sent = [fields[f"x{n}"] for n in range(len(SENT_AS))]
        assert sent == [value.strip('"') for value in SENT_AS.values()]


VARIANT = {"set_params": {"t": 1, "k?": 1}, "set_by_name": {"a:v": {"t?": 2, "k": 2}}}


SOFT = [
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
]


@parity(
    "Newer keys",
    "a parameter whose name ends in `?` is set only if the request lacks it",
    "the same, in forms too",
)
def test_a_soft_parameter_is_set_where_the_request_lacks_it() -> None:
    raws = [(json.dumps({"model": "a:v", **sent}), filters) for sent, filters, _ in SOFT]
    found = [json.loads(filtered(raw, "a:v", **filters)) for raw, filters in raws]
    assert found == [{"model": "a:v", **result} for _, _, result in SOFT]


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


SCALARS = [None, 0, 7, -1, 1 << 70, True, False, "", "x<", "yz"]


def any_members(chance: random.Random) -> dict[str, Any]:
    return {name: chance.choice(SCALARS) for name in chance.choices("abcde", k=chance.randrange(6))}


@cases(60)
def test_top_level_filters_are_what_a_dictionary_does(chance: random.Random) -> None:
    document, params = any_members(chance), any_members(chance)
    strip = chance.choices("abcde", k=chance.randrange(6))
    raw = json.dumps({"model": "m", **document})
    kept = {name: value for name, value in document.items() if name not in strip or name in params}
    result = json.loads(filtered(raw, strip=strip, set_params=params))
    assert result == {"model": "m", **kept, **params}
