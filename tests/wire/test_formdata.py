from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.wire import formdata
from llmsnap.wire.formdata import FormParser, FormProblem, PartHead

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


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--XX--", []),
        (b"--XX--\r\n", []),
        (b"--XX\r\nA: 1\r\n\r\ndata\r\n--XX--\r\n", [(b"A: 1\r\n", b"data")]),
        (b"--XX\r\nA: 1\r\nB: 2\r\n\r\n\r\n--XX--", [(b"A: 1\r\nB: 2\r\n", b"")]),
        (b"--XX\r\n\r\nno head\r\n--XX--", [(b"", b"no head")]),
        (
            b"--XX \t\r\nA: 1\r\n\r\nx\r\n--XX  \r\n\r\ny\r\n--XX--",
            [(b"A: 1\r\n", b"x"), (b"", b"y")],
        ),
        (b"before\r\n--XX\r\n\r\nx\r\n--XX--after\r\n--XX\r\n", [(b"", b"x")]),
        (b"\r\n--XX\r\n\r\nx\r\n--XX--", [(b"", b"x")]),
        (b"no--XX\r\n\r\n--XX\r\n\r\nx\r\n--XX--", [(b"", b"x")]),
        (b"--XXY\r\n\r\n--XX\r\n\r\nx\r\n--XX--", [(b"", b"x")]),
        (
            b"--XX\r\n\r\nx\r\n--XXY\r\n--XX -\r\n--XX-x\r\n--XX--",
            [(b"", b"x\r\n--XXY\r\n--XX -\r\n--XX-x")],
        ),
        (b"--XX\r\n\r\n\r\n\r\n--X\r\n--\r\n\r\n--XX--", [(b"", b"\r\n\r\n--X\r\n--\r\n")]),
        (b"--XX\r\n\r\n--XX\n\r\r\n--XX--", [(b"", b"--XX\n\r")]),
    ],
)
def test_parts_are_found_however_the_body_is_cut(body: bytes, parts: Parts, size: int) -> None:
    assert parsed(body, size) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--XX",
        b"--XX-",
        b"--XX\r\nA: 1\r\n",
        b"--XX\r\n\r\nx",
        b"--XX\r\n\r\nx\r\n--XX\r\n",
    ],
)
def test_a_body_that_stops_short_is_no_form(body: bytes) -> None:
    with pytest.raises(FormProblem, match="ends before"):
        parsed(body)


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


def test_blanks_without_end_are_no_delimiter() -> None:
    assert (
        parsed(b"--XX\r\n\r\nx\r\n--XX" + b" " * 100 + b"\r\n--XX--", 1)[0][1][:7] == b"x\r\n--XX"
    )


@pytest.mark.parametrize("size", [1, 16])
def test_little_is_held_back(size: int) -> None:
    parser = FormParser(b"XX")
    parser.feed(b"--XX\r\n\r\n")
    for _ in range(100):
        parser.feed(b"\r\n--X" * size)
        assert len(parser._buffer) - parser._at < len(b"\r\n--XX")


NOISE = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"--X", b"X", b"--XX", b"x", b" "]),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(NOISE, max_size=4), st.integers(1, 30))
def test_data_survives_whatever_it_looks_like(data: list[bytes], size: int) -> None:
    data = [piece.replace(b"\r\n--XX", b"") for piece in data]
    body = b"".join(b"--XX\r\nA: 1\r\n\r\n" + piece + b"\r\n" for piece in data) + b"--XX--"
    if body.count(b"\r\n--XX") == len(data):
        assert parsed(body, size) == [(b"A: 1\r\n", piece) for piece in data]
