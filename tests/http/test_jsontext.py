import json
from random import Random
from typing import NoReturn

import msgspec
import pytest

from llmsnap.http import jsontext
from llmsnap.http.jsonscan import JsonProblem
from llmsnap.http.jsontext import (
    delete_path,
    dump_json,
    json_members,
    path_problem,
    set_path,
    splice_json,
    split_path,
)
from tests.drawn import cases
from tests.http.documents import LAYOUTS, NAMES, json_object, json_value


def pairs(text: bytes) -> list[tuple[str, bytes]]:
    return [(name, bytes(value)) for name, value in json_members(text)]


OBJECTS = {
    b"{}": [],
    b' \n{ "a" : 1.50 , "b":[ 1, {"c":2} ]}\t': [("a", b"1.50"), ("b", b'[ 1, {"c":2} ]')],
    b'{"a":1,"a":2,"\\u0061":3}': [("a", b"1"), ("a", b"2"), ("a", b"3")],
    b'{"":null,"\\"":true}': [("", b"null"), ('"', b"true")],
    b'{"a":123456789012345678901234567890}': [("a", b"123456789012345678901234567890")],
}


def test_an_object_is_names_and_untouched_values() -> None:
    assert {text: pairs(text) for text in OBJECTS} == OBJECTS


@pytest.mark.parametrize("message", ["", "broken (byte 3)"])
def test_no_message_of_the_fast_reader_is_read(monkeypatch, message) -> None:
    class Decoder:
        def decode(self, _: bytes) -> NoReturn:
            raise msgspec.DecodeError(message)

    monkeypatch.setattr(jsontext, "_OBJECT", Decoder())
    with pytest.raises(JsonProblem, match="expected a value, found '!'") as raised:
        json_members(b'{"a": !}')
    assert raised.value.position == 6


HALVES = [
    rb'"\ud83d"',
    rb'"cut \ud83d here"',
    rb'"\ud83d\ud83d\ude00"',
    rb'["\\\ud83d"]',
    rb'"\uD83D\n"',
    rb'"\ud83d\ude00 \\ud83d \\\\ud83d"',
]


def test_half_an_emoji_is_legal_and_keeps_its_place() -> None:
    for value in HALVES:
        text = b'{"a":' + value + b',"b":1}'
        found = json_members(text)
        assert [name for name, _ in found] == ["a", "b"]
        assert splice_json(text, found, {"b": b"2"})[0] == b'{"a":' + value + b',"b":2}'


def test_values_are_written_compactly() -> None:
    assert dump_json({"b": 1, "a": [True, None]}) == b'{"a":[true,null],"b":1}'
    assert dump_json("<a>&\u2028\u2029é") == b'"\\u003ca\\u003e\\u0026\\u2028\\u2029\xc3\xa9"'
    assert dump_json(0.1) == b"0.1"


EDITS = [
    (b'{ "a": 1 , "b": 2 }', {"a": b"9"}, b'{ "a": 9 , "b": 2 }'),
    (b'{ "a": 1 , "b": 2 }', {"a": None}, b'{ "b": 2 }'),
    (b'{ "a": 1 , "b": 2 }', {"b": None}, b'{ "a": 1 }'),
    (b'{ "a": 1 }', {"a": None}, b"{}"),
    (b"{}", {"a": b"1"}, b'{"a":1}'),
    (b" { } ", {"a": b"1"}, b' {"a":1} '),
    (b'{"a":1}', {"b": b"2", "c": None}, b'{"a":1,"b":2}'),
    (b'{"a":1,"b":2,"a":3}', {"a": b"9"}, b'{"a":9,"b":2}'),
    (b'{"\\u0061":1}', {"a": b"2"}, b'{"\\u0061":2}'),
    (b'{"a\\"}":"}{","b":[1]}', {"b": b"2"}, b'{"a\\"}":"}{","b":2}'),
]


def test_edits_leave_the_rest_as_it_was() -> None:
    for text, edits, expected in EDITS:
        edited, left = splice_json(text, json_members(text), edits)
        assert edited == expected
        assert [(name, bytes(value)) for name, value in left] == pairs(edited)


def test_members_of_another_text_are_noticed() -> None:
    with pytest.raises(JsonProblem, match="a member was expected"):
        splice_json(b"[1]", json_members(b'{"a":1}'), {"a": None})


PATHS = {
    "a.b.0": ["a", "b", "0"],
    r"a\.b.c": ["a.b", "c"],
    r"a\\.b": ["a\\", "b"],
    r"a\*": ["a*"],
    "a\\": ["a"],
    "": [""],
}


def test_a_path_is_cut_at_its_dots() -> None:
    assert {path: split_path(path) for path in PATHS} == PATHS


def test_patterns_and_blanks_are_no_paths() -> None:
    assert all(map(path_problem, ["a*", "a?b", "#", "a|b", "@this", "", "a..b", ".a", "a."]))
    assert not any(map(path_problem, ["a", "a.b", "arr.-1", r"a\*b", r"a\.b", "a-b_c:d"]))


DELETED = {
    (b'{"a":{"x":1, "y":2}}', "a.x"): b'{"a":{ "y":2}}',
    (b'{"a.b":1,"c":2}', r"a\.b"): b'{"c":2}',
    (b"[1, 2, 3]", "0"): b"[ 2, 3]",
    (b"[1, 2, 3]", "-1"): b"[1, 2]",
    (b'[{"x":1}]', "0.x"): b"[{}]",
    (b'{"0":1}', "0"): b"{}",
    (rb'["\ud83d", 1]', "0"): b"[ 1]",
    (b'{"x":1}', "x.y"): None,
    (b'{"x":{"y":1}}', "x.z"): None,
    (b"[1]", "1"): None,
    (b"[1]", "00"): None,
    (b"[]", "-1"): None,
    (b"null", "0"): None,
}


def test_deleting_along_a_path() -> None:
    for (text, path), expected in DELETED.items():
        left = delete_path(text, split_path(path))
        assert left is text if expected is None else left == expected


SET = {
    (b'{"a":1}', "a"): b'{"a":7}',
    (b'{"a": {"x": 1}}', "a.y"): b'{"a": {"x": 1,"y":7}}',
    (b'{"a":1}', "a.b.c"): b'{"a":{"b":{"c":7}}}',
    (b'{"a":null}', "a.b"): b'{"a":{"b":7}}',
    (b"{}", "a.2"): b'{"a":[null,null,7]}',
    (b"{}", "a.-1"): b'{"a":[7]}',
    (b"[1, 2]", "0"): b"[7, 2]",
    (b"[1, 2]", "-1"): b"[1, 2,7]",
    (b"[1, 2]", "4"): b"[1, 2,null,null,7]",
    (b"[1, 2]", "-1.x"): b'[1, 2,{"x":7}]',
    (b"[1, 2]", "name"): b"[1, 2]",
    (b'{"0":1}', "0"): b'{"0":7}',
    (b'{"x":1,"x":2}', "x"): b'{"x":7}',
    (b'"scalar"', "a"): b'{"a":7}',
    (rb'["\ud83d", 1]', "1"): rb'["\ud83d", 7]',
}


def test_setting_along_a_path() -> None:
    assert {(text, path): set_path(text, split_path(path), b"7") for text, path in SET} == SET


@cases(100)
def test_splicing_is_what_a_dictionary_does(random: Random) -> None:
    document, layout = json_object(random), random.choice(LAYOUTS)
    text = json.dumps(document, separators=layout, ensure_ascii=random.randrange(2) == 0).encode()
    values = [None, *(dump_json(json_value(random)) for _ in range(3))]
    edits = {random.choice(NAMES): random.choice(values) for _ in range(random.randrange(5))}
    expected = {**document, **{n: new and json.loads(new) for n, new in edits.items()}}
    for name, new in edits.items():
        if new is None:
            del expected[name]
    assert splice_json(text, json_members(text), {})[0] == text, "no edit changes no byte"
    edited, left = splice_json(text, json_members(text), edits)
    assert json.loads(edited) == expected
    assert list(json.loads(edited)) == list(expected)
    assert [(name, bytes(value)) for name, value in left] == pairs(edited)


@cases(100)
def test_what_is_set_is_found_and_can_be_taken_out(random: Random) -> None:
    value, path = json_value(random), random.choices(NAMES[1:], k=random.randint(1, 3))
    text = json.dumps(json_object(random)).encode()
    after = set_path(text, path, dump_json(value))
    place = json.loads(after)
    for piece in path:
        if isinstance(place, list) and not piece.isdigit():
            assert after == text
            return
        place = place[int(piece) if isinstance(place, list) else piece]
    assert place == value
    assert delete_path(after, path) != after
