"""A JSON request: what is read in it is what ``json.loads`` reads, and an edit changes no more.

Which model it names is what a key is checked against, so an upstream has to read the same one.
"""

import json
import re
from contextlib import suppress
from typing import Any, NamedTuple

from llmsnap.errors import BadRequest
from llmsnap.http.jsonscan import JsonProblem
from llmsnap.http.jsontext import delete_path, json_members, set_path
from llmsnap.proxy import CompiledFilter
from llmsnap.proxy.jsonbody import JsonBody, parse_json

WORDS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b'"model":', b'"model":"a"', b'"m\\u006fdel":',
    b'"Model":"b"', b"null", b"true", b"false", b"NaN", b"-Infinity", b"-0", b"1e999", b"1.50",
    b"123456789012345678901234567890", b'"\\ud83d"', b'"\\ud83d\\ude00"', b"\\u0000", b"\\u0022",
    b'""', b'"":0,', b'"stream":true', b'{"a":{"b":[1,{"c":2}]}}', b" ", b"\n", b"\t", b"\x00",
    b"\xff", b"\xef\xbb\xbf", "é".encode(), b"//", b"/*", b"'a'",
]  # fmt: skip
SEEDS = [
    b'{"model":"a","messages":[{"role":"user","content":"hi"}],"stream":true}',
    b'\xef\xbb\xbf { "a" : {"b": [1, 2.50, "\\ud83d"]} , "m\\u006fdel" : "x" }\r\n',
    b'{"model":1e2,"model":"b","":null,"\\"":"}"}',
]
BEHIND = "".join(map(chr, range(0x21))) + "\xa0\ufeff"
"""What may follow a document, since Go's readers ignore it."""
HALVES = re.compile("[\ud800-\udfff]")
FILTER = CompiledFilter.from_settings(
    strip=["a.b", "messages.0.content"],
    set_params={"a.b.c": 1, "stream.x": [], "messages.-1": {}},
    set_by_name={"x": {"a.1.x": "y"}},
)
OTHER = b'"other"'
DEEP = 200
"""Nesting that both have to bear; what they do beyond is their affair."""


class Pairs(list[tuple[str, Any]]):
    """The members of an object as they stand, repeated ones included."""


class Number(NamedTuple):
    text: str


def check(data: bytes) -> None:
    theirs = read(data)
    ours = our_members(data)
    if ours is not None:
        assert theirs is not None, "json.loads refuses it"
        assert Pairs((whole(name), read_value(raw)) for name, raw in ours) == theirs
        if is_utf8(data):
            check_paths(data, theirs)
    elif theirs is not None and is_utf8(data) and depth(data) < DEEP:
        raise AssertionError("json.loads takes it")
    check_request(data, theirs)


def our_members(data: bytes) -> list[tuple[str, bytes]] | None:
    try:
        return [(name, bytes(value)) for name, value in json_members(data)]
    except JsonProblem:
        return None


def check_request(data: bytes, theirs: Pairs | None) -> None:
    """What goes on names one model, the first, and an edit changes no more than what it names."""
    try:
        request = parse_json(data)
    except BadRequest:
        return
    theirs = read(data.removeprefix(b"\xef\xbb\xbf")) if theirs is None else theirs
    assert theirs is not None
    model = next(value for name, value in theirs if name == "model")
    if isinstance(model, str):
        assert request.model == model
    others = Pairs(pair for pair in theirs if pair[0] == "model" or not means_model(pair[0]))
    after = read(request.raw)
    assert after == once(others, "model", model)
    assert after is not None
    edited = edit(request, {"model": OTHER, "stream": None, "added": b"[1]"})
    expected = once(after, "model", "other")
    expected = Pairs(pair for pair in expected if pair[0] != "stream")
    assert edited == once(expected, "added", [Number("1")])
    with suppress(JsonProblem):  # within a member
        assert read(request.rewrite(FILTER.edits(request, "x")).raw) is not None


def means_model(name: str) -> bool:
    """Whether some upstream takes a member of that name for the model."""
    return name.partition("\0")[0].casefold() == "model"


def edit(request: JsonBody, edits: dict[str, bytes | None]) -> Pairs | None:
    edited = request.rewrite(edits)
    assert edited.model == "other"
    found = read(edited.raw)
    assert [name for name, _ in found or ()] == [
        whole(name) for name, _ in json_members(edited.raw)
    ]
    return found


def once(pairs: Pairs, name: str, value: Any) -> Pairs:
    """*pairs* with *value* where *name* first stands, at the end if it stands nowhere."""
    found = Pairs()
    for key, old in pairs:
        if key != name:
            found.append((key, old))
        elif not any(key == before for before, _ in found):
            found.append((key, value))
    if not any(key == name for key, _ in found):
        found.append((name, value))
    return found


def check_paths(data: bytes, theirs: Pairs) -> None:
    """What is set along a path is there, and goes again."""
    for name, value in theirs[:3]:
        if "\ufffd" in name:
            continue  # perhaps half an emoji
        for path in ([name, "added"], [name, "0"], [name, "-1", "x"]):
            after = set_path(data, path, b"7")
            assert read(after) is not None
            if not isinstance(value, list):
                assert read(delete_path(after, path)) is not None
        assert all(key != name for key, _ in read(delete_path(data, [name])) or ())


def read(data: bytes) -> Pairs | None:
    """The members of an object as ``json.loads`` reads them; None when it is none."""
    try:
        found = read_value(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Pairs) else None


def read_value(data: bytes) -> Any:
    # Bytes that are no UTF-8 may pass within a value, and so may half an emoji.
    text = data.decode("utf-8", "surrogateescape").rstrip(BEHIND)
    found = json.loads(
        text,
        strict=False,
        object_pairs_hook=Pairs,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
    )
    return whole(found)


def whole(value: Any) -> Any:
    """*value* with halves of surrogate pairs replaced, as we read them."""
    match value:
        case str():
            return HALVES.sub("\ufffd", value)
        case Pairs():
            return Pairs((whole(name), whole(one)) for name, one in value)
        case list():
            return [whole(one) for one in value]
    return value


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def depth(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")
