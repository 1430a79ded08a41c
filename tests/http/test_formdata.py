import re
from itertools import product
from random import Random

import pytest

from llmsnap.http import formdata
from llmsnap.http.formdata import FormParser, FormProblem, PartHead
from tests.drawn import cases

Parts = list[tuple[bytes, bytes]]


def parsed(body: bytes, size: int = 1000) -> Parts:
    """Heads and data of the parts of *body*, fed *size* bytes at a time."""
    parser = FormParser(b"XX")
    parts: Parts = []
    for start in range(0, len(body), size):
        for event in parser.feed(body[start : start + size]):
            if isinstance(event, PartHead):
                parts.append((event.text, b""))
            else:
                assert event.data
                parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
    parser.finish()
    return parts


BODIES = {
    b"--XX--": [],
    b"--XX--\r\n": [],
    b"--XX\r\nA: 1\r\n\r\ndata\r\n--XX--\r\n": [(b"A: 1\r\n", b"data")],
    b"--XX\r\nA: 1\r\nB: 2\r\n\r\n\r\n--XX--": [(b"A: 1\r\nB: 2\r\n", b"")],
    b"--XX\r\n\r\nno head\r\n--XX--": [(b"", b"no head")],
    b"--XX \t\r\nA: 1\r\n\r\nx\r\n--XX  \r\n\r\ny\r\n--XX--": [(b"A: 1\r\n", b"x"), (b"", b"y")],
    b"before\r\n--XX\r\n\r\nx\r\n--XX--after\r\n--XX\r\n": [(b"", b"x")],
    b"no--XX\r\n\r\n--XX\r\n\r\nx\r\n--XX--": [(b"", b"x")],
    b"--XXY\r\n\r\n--XX\r\n\r\nx\r\n--XX--": [(b"", b"x")],
    b"--XX\r\n\r\nx\r\n--XXY\r\n--XX -\r\n--XX-x\r\n--XX--": [
        (b"", b"x\r\n--XXY\r\n--XX -\r\n--XX-x")
    ],
    b"--XX\r\n\r\n--XXY\n--XXY\r--XXY\r\n--XX--": [(b"", b"--XXY\n--XXY\r--XXY")],
    b"--XX\r\nA: 1\r\n\tb\r\n c\r\nB:\r\n\r\nx\r\n--XX--": [(b"A: 1\r\n\tb\r\n c\r\nB:\r\n", b"x")],
}


def test_parts_are_found_however_the_body_is_cut() -> None:
    for size in (1, 2, 3, 5, 8, 1000):
        assert {body: parsed(body, size) for body in BODIES} == BODIES, size


def test_a_body_that_stops_short_is_no_form() -> None:
    body = b"x--XX\r\nA: 1\r\n\r\nx\r\n--XX--"
    for end in range(len(body)):
        with pytest.raises(FormProblem, match="ends before"):
            parsed(body[:end])


@pytest.mark.parametrize("size", [1, 100])
def test_a_head_has_a_limit(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formdata, "MAX_HEAD_BYTES", 10)
    assert parsed(b"--XX\r\nA: 4567\r\n\r\n\r\n--XX--", size) == [(b"A: 4567\r\n", b"")]
    with pytest.raises(FormProblem, match="longer than 10 bytes"):
        parsed(b"--XX\r\nA: 456789\r\n\r\n\r\n--XX--", size)
    with pytest.raises(FormProblem, match="longer than 10 bytes"):
        FormParser(b"XX").feed(b"--XX\r\nA: 456789abc")


def test_the_number_of_parts_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formdata, "MAX_PARTS", 2)
    assert len(parsed(b"--XX\r\n\r\nx\r\n" * 2 + b"--XX--")) == 2
    with pytest.raises(FormProblem, match="more than 2 parts"):
        parsed(b"--XX\r\n\r\nx\r\n" * 3 + b"--XX--")


INNER = b"Content-Disposition: form-data; name=model\r\n\r\nother"

LENIENT = [
    *(b"x" + line_end + b"--XX\r\n" + INNER for line_end in (b"\n", b"\r", b"\n\r", b"\r\r")),
    b"x\r--XX--\r\n",
    b"x\n--XX \t\r\n" + INNER,
    b"x\n--XX\n" + INNER,
    b"x\r\n--XX\n" + INNER,
    b"x\r\n--XX\r" + INNER,
    b"x\r\n--XX\v\r\n" + INNER,
    b"x\r\n--XX" + b" " * 100 + b"\r\n" + INNER,
    b"--XX\n" + INNER,
]


def test_what_lenient_parsers_take_for_a_delimiter_is_refused() -> None:
    ends = (b"", b"\r\n--XX--", b"\r\n--XX\r\n\r\ny\r\n--XX--")
    for data, end, size in product(LENIENT, ends, (1, 2, 3, 7, 1000)):
        with pytest.raises(FormProblem, match="a line within a part begins with the boundary"):
            parsed(b"--XX\r\nA: 1\r\n\r\n" + data + end, size)


HEADS = [
    *(b"A: 1\nB: 2\r\n", b"A: 1\rB: 2\r\n", b"A: 1\r\r\n", b"A: \0\r\n", b"A\r\n"),
    *(b"A: 1\r\n--XX\r\n", b" A: 1\r\n", b"A : 1\r\n", b": 1\r\n", b"\xff: 1\r\n", b"A B: 1\r\n"),
]


def test_a_head_that_parsers_read_differently_is_refused() -> None:
    for head, size in product(HEADS, (1, 1000)):
        with pytest.raises(FormProblem, match="a part has a line that is no header"):
            parsed(b"--XX\r\n" + head + b"\r\nx\r\n--XX--", size)


def test_a_boundary_within_lines_does_not_cut_the_data() -> None:
    parser = FormParser(b"XX")
    parser.feed(b"--XX\r\nA: 1\r\n\r\n")
    assert len(parser.feed(b"x--XX" * 1000)) == 1


def test_little_is_held_back() -> None:
    for size in (1, 16):
        parser = FormParser(b"XX")
        parser.feed(b"--XX\r\n\r\n")
        for _ in range(100):
            parser.feed(b"\r\n--X" * size)
            assert len(parser._buffer) - parser._at < len(b"\r\n--XX")


NOISE = [b"\r", b"\n", b"\r\n", b"-", b"--", b"--X", b"X", b"--XX", b"x", b" "]


@cases(100)
def test_data_survives_whatever_it_looks_like(random: Random) -> None:
    noise = (
        b"".join(random.choices(NOISE, k=random.randrange(13))) for _ in range(random.randrange(5))
    )
    data = [re.sub(rb"(?:^|[\r\n])--XX", b"", piece) for piece in noise]
    body = b"".join(b"--XX\r\nA: 1\r\n\r\n" + piece + b"\r\n" for piece in data) + b"--XX--"
    if not any(re.search(rb"(?:^|[\r\n])--XX", piece) for piece in data):
        assert parsed(body, random.randint(1, 30)) == [(b"A: 1\r\n", piece) for piece in data]
