import json
from itertools import product
from random import Random

import pytest

from llmsnap.http import jsonscan
from llmsnap.http.jsonscan import JsonProblem, Member
from tests.drawn import cases
from tests.http.documents import LAYOUTS, json_object

PLENTY = 1 << 20


def scan_object(text: bytes) -> list[Member]:
    return jsonscan.scan_object(text, PLENTY)


def scan_array(text: bytes) -> list[Member]:
    return jsonscan.scan_array(text, PLENTY)


FAULTS = [
    (b"", "it ends too early", 0),
    (b" ", "it ends too early", 1),
    (b'{"a":1', "it ends too early", 6),
    (b'{"a":"x\\', "it ends too early", 8),
    (b'{"a":[{"b":[1', "it ends too early", 13),
    (b"[1]", "expected an object, found an array", 0),
    (b"5", "expected an object, found a number", 0),
    (b'"x"', "expected an object, found a text", 0),
    (b"null", "expected an object, found null", 0),
    (b"model=a", "expected an object, found 'm'", 0),
    (b"\x00{}", "expected an object, found byte 0x00", 0),
    (b'{"a":1}\x00x', "expected the end, found 'x'", 8),
    (b'{"a":nan}', "expected a value, found 'n'", 5),
    (b'{"a":01}', "expected ',' or '}', found '1'", 6),
    (b'{"a":1.}', "expected ',' or '}', found '.'", 6),
    (b'{"a":[1,]}', "expected a value, found ']'", 8),
    (b'{"a":{"b":1,}}', "expected a name in double quotes, found '}'", 12),
    (b'{"a":1,}', "expected a name in double quotes, found '}'", 7),
    (b'{"a" 1}', "expected ':', found '1'", 5),
    (b'{"a":[1 2]}', "expected ',' or ']', found '2'", 8),
    (b'{"a":[1}', "expected ',' or ']', found '}'", 7),
    (b'{"a":"\\u12x4"}', "an unknown escape in a text", 6),
    (b'{"\\q":1}', "an unknown escape in a text", 2),
    ('{"a": é}'.encode(), "expected a value, found 'é'", 6),
    (b'{"a": \xff}', "expected a value, found byte 0xff", 6),
    (b'{"\xff":1}', "a name that is not UTF-8", 2),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply", 505),
]


def test_a_fault_is_named_with_its_place() -> None:
    for text, what, position in FAULTS:
        _, problem = _scanned(text)
        assert problem is not None, text[:50]
        assert (what in problem.what, problem.position) == (True, position), text[:50]


BEARABLE = [
    b'"line\nbreak\r\n\ttab"',
    b'"\x00\x01\x1f"',
    b'"\\ud83d"',
    b'["\\udc00", "\xff\xfe"]',
    b"NaN",
    b"[Infinity, -Infinity ,NaN]",
    b'{"x":NaN,"y":{"z":"\n"}}',
]
ENDS = [b"", b" \n", b"\x00", b"\v\f\x1a", b"\xc2\xa0", b"\xef\xbb\xbf\n"]


def test_what_changes_no_member_is_bearable() -> None:
    for value, end in product(BEARABLE, ENDS):
        text = b'{ "a" : ' + value + b' , "model":"m"}' + end
        assert scan_object(text) == [("a", value), ("model", b'"m"')]


def test_an_array_is_read_the_same_way() -> None:
    assert scan_array(b'[ 1, {"a":[]}, "\\ud83d" ]') == [
        ("", b"1"),
        ("", b'{"a":[]}'),
        ("", b'"\\ud83d"'),
    ]
    with pytest.raises(JsonProblem, match="expected an array, found an object"):
        scan_array(b"{}")


def test_no_more_members_are_read_than_wanted() -> None:
    assert jsonscan.scan_object(b'{"a":1,"b":2,!', 2) == [("a", b"1"), ("b", b"2")]
    assert jsonscan.scan_array(b"[1,2,!", 2) == [("", b"1"), ("", b"2")]


def test_names_are_decoded_and_values_stay_as_they_are() -> None:
    text = b'{ "\\u0061" : 1.50 ,"b\xc3\xa9":[ 1, {"c":2} ],"":null,"":{ } }\n'
    assert scan_object(text) == [
        ("a", b"1.50"),
        ("bé", b'[ 1, {"c":2} ]'),
        ("", b"null"),
        ("", b"{ }"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"' + b"x" * 2000 + b'"}}',
        b'{"a":[' + b"1," * 1000 + b"]}",
        b'{"a":[' + b"tru," * 1000 + b"1]}",
        b'{"a":' + b" " * 1000 + b"1}}",
        b'{"a":"' + b"\\n" * 1000 + b'"}}',
    ],
)
def test_only_the_beginning_of_a_long_text_is_looked_at(monkeypatch, text) -> None:
    monkeypatch.setattr(jsonscan, "SCAN_LIMIT_BYTES", 100)
    with pytest.raises(JsonProblem) as raised:
        scan_object(text)
    assert raised.value.position <= 100
    for size in range(94, 103):
        monkeypatch.setattr(jsonscan, "SCAN_LIMIT_BYTES", size)
        with pytest.raises(JsonProblem) as raised:
            scan_object(text)
        assert "too early" not in raised.value.what


def test_no_more_containers_are_entered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonscan, "SCAN_LIMIT_CONTAINERS", 50)
    assert scan_object(b'{"a":[' + b"[1]," * 49 + b"1]}")
    with pytest.raises(JsonProblem, match="not valid beyond this point"):
        scan_object(b'{"a":[' + b"[1]," * 50 + b"1]}")


def test_plain_values_cost_no_step_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand of them are passed in one go of the compiled pattern."""
    monkeypatch.setattr(jsonscan, "SCAN_LIMIT_CONTAINERS", 2)
    plain = b'1,"x",null,[],{ },' * 20_000
    assert scan_object(b'{"a":[' + plain + b'{"b":' + b'0,"":' * 100_000 + b"1}]}")


BLANKS = "".join(map(chr, range(33))) + "\u00a0\ufeff"
PIECES = [
    b"",
    *(bytes([one]) for one in b'{}[],:" \n\\u0e-.1tn\x00'),
    b"null",
    b"1e5",
    b"\\ud83d",
    b"NaN",
]


@cases(150)
def test_it_accepts_what_the_standard_library_does(random: Random) -> None:
    document, layout = json_object(random), random.choice(LAYOUTS)
    text = json.dumps(document, separators=layout, ensure_ascii=random.randrange(2) == 0).encode()
    for _ in range(random.randrange(3)):
        start = random.randint(0, len(text))
        text = text[:start] + random.choice(PIECES) + text[start + random.randrange(3) :]
    found, problem = _scanned(text)
    try:
        whole = text.decode()
        expected = json.loads(whole.rstrip(BLANKS), object_pairs_hook=list, strict=False)
    except UnicodeDecodeError:  # that of values is left to the reader
        return
    except ValueError:
        assert problem is not None
        assert 0 <= problem.position <= len(text)
        return
    if whole.lstrip(" \t\r\n").startswith("{"):
        assert problem is None
        pairs = [
            (name, json.loads(value.decode(), object_pairs_hook=list, strict=False))
            for name, value in found
        ]
        assert repr(pairs) == repr(expected)
    else:
        assert problem is not None


def _scanned(text: bytes) -> tuple[list[tuple[str, bytes]], JsonProblem | None]:
    try:
        return list(scan_object(text)), None
    except JsonProblem as problem:
        return [], problem
