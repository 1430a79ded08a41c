"""Heads and bytes come out as they went in, however the network cut them."""

import pytest

from llmsnap.errors import BadHead
from llmsnap.server.reader import Reader


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


def begun() -> None:
    pass


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_head_in_one_piece() -> None:
    reader = Reader(Pieces(HEAD))
    assert reader.head(begun) == HEAD
    assert reader.head(begun) == b""
    assert repr(reader) == "<Reader, 0 bytes ahead>"


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
def test_a_head_in_two_pieces(cut: int) -> None:
    reader = Reader(Pieces(HEAD[:cut], HEAD[cut:] + b"more"))
    assert reader.head(begun) == HEAD
    assert reader.ahead() == b"more"


def test_a_head_byte_by_byte_tells_once_that_it_has_begun() -> None:
    told: list[int] = []
    reader = Reader(Pieces(*[bytes([code]) for code in HEAD]))
    assert reader.head(lambda: told.append(1)) == HEAD
    assert told == [1]


def test_pipelined_heads_and_what_follows() -> None:
    reader = Reader(Pieces(HEAD + HEAD + b"body"))
    assert reader.head(begun) == HEAD
    assert reader.waiting == len(HEAD) + 4
    assert reader.head(begun) == HEAD
    assert reader.some(3) == b"bod"
    assert reader.some(100) == b"y"
    assert reader.some(100) == b""


@pytest.mark.parametrize("before", [(b"\r\n" + HEAD,), (b"\r\n", HEAD), (b"\r", b"\n" + HEAD)])
def test_one_empty_line_before_a_head_is_no_error(before: tuple[bytes, ...]) -> None:
    assert Reader(Pieces(*before)).head(begun) == HEAD


def test_an_empty_line_alone_is_no_head_that_has_begun() -> None:
    assert Reader(Pieces(b"\r\n")).head(pytest.fail) == b""


def test_two_empty_lines_are_an_error_of_the_head() -> None:
    assert Reader(Pieces(b"\r\n\r\n" + HEAD)).head(begun).startswith(b"\r\n")


def test_the_end_in_the_middle_of_a_head() -> None:
    with pytest.raises(EOFError):
        Reader(Pieces(HEAD[:-1])).head(begun)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"GET /" + b"a" * 4000, b"a" * 5000], 414),
        ([b"GET / HTTP/1.1\r\n", *[b"X-A: " + b"a" * 5000 + b"\r\n"] * 20], 431),
        ([b"GET / HTTP/1.1\nHost: a\n\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n", b"\n"], 400),
    ],
)
def test_a_head_that_cannot_be_one_is_not_read_to_its_end(pieces: list[bytes], status: int) -> None:
    with pytest.raises(BadHead) as caught:
        Reader(Pieces(*pieces)).head(begun)
    assert caught.value.status == status


def test_lines() -> None:
    reader = Reader(Pieces(b"one\r", b"\ntwo\r\n\r\nthree"))
    assert [reader.line(10), reader.line(3), reader.line(0)] == [b"one", b"two", b""]
    with pytest.raises(EOFError):
        reader.line(10)


@pytest.mark.parametrize("pieces", [[b"toolong\r\n"], [b"toolong"], [b"too", b"long", b"er"]])
def test_a_line_that_is_too_long(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match="too long"):
        Reader(Pieces(*pieces)).line(5)
