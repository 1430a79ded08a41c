"""Heads and bodies read from one connection: as they were sent, however the network cut them."""

from functools import partial

import pytest

from llmsnap.errors import BadHead, BadRequest, ClientGone
from llmsnap.server.connection import ConnectionReader
from llmsnap.server.http1 import RequestBody


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


def test_a_head_in_pieces_is_reported_once_as_begun() -> None:
    halves = [[HEAD[:cut], HEAD[cut:] + b"more"] for cut in range(1, len(HEAD))]
    for pieces in (*halves, [bytes([code]) for code in HEAD + b"more"]):
        told: list[int] = []
        reader = ConnectionReader(Pieces(*pieces))
        assert reader.read_head(partial(told.append, 1)) == HEAD
        assert (told, reader.read_some(1)) == ([1], b"m")


def test_pipelined_heads_and_what_follows() -> None:
    reader = ConnectionReader(Pieces(HEAD + HEAD + b"body"))
    assert reader.read_head(begun) == HEAD
    assert reader.buffered == len(HEAD) + 4
    assert reader.read_head(begun) == HEAD
    assert reader.read_some(3) == b"bod"
    assert reader.read_some(100) == b"y"
    assert reader.read_some(100) == reader.read_head(begun) == b""


def test_one_empty_line_before_a_head_is_no_error_and_no_head() -> None:
    for before in ((b"\r\n" + HEAD,), (b"\r\n", HEAD), (b"\r", b"\n" + HEAD)):
        assert ConnectionReader(Pieces(*before)).read_head(begun) == HEAD
    assert ConnectionReader(Pieces(b"\r\n\r\n" + HEAD)).read_head(begun).startswith(b"\r\n")
    assert ConnectionReader(Pieces(b"\r\n")).read_head(pytest.fail) == b""
    with pytest.raises(EOFError):
        ConnectionReader(Pieces(HEAD[:-1])).read_head(begun)


def test_a_head_that_cannot_be_one_is_not_read_to_its_end() -> None:
    for pieces, status in (
        ([b"GET /" + b"a" * 4000, b"a" * 5000], 414),
        ([b"GET / HTTP/1.1\r\n", *[b"X-A: " + b"a" * 5000 + b"\r\n"] * 20], 431),
        ([b"GET / HTTP/1.1\nHost: a\n\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n", b"\n"], 400),
    ):
        with pytest.raises(BadHead) as caught:
            ConnectionReader(Pieces(*pieces)).read_head(begun)
        assert caught.value.status == status, pieces[0][:20]


def test_lines() -> None:
    reader = ConnectionReader(Pieces(b"one\r", b"\ntwo\r\n\r\nthree"))
    assert [reader.read_line(10), reader.read_line(3), reader.read_line(0)] == [b"one", b"two", b""]
    with pytest.raises(EOFError):
        reader.read_line(10)
    for pieces in ([b"toolong\r\n"], [b"toolong"], [b"too", b"long", b"er"]):
        with pytest.raises(ValueError, match="too long"):
            ConnectionReader(Pieces(*pieces)).read_line(5)


def sized(length: int | None, *pieces: bytes, **facts) -> RequestBody:
    return RequestBody(ConnectionReader(Pieces(*pieces)), length, **facts)


def chunked(*pieces: bytes) -> RequestBody:
    return sized(None, *pieces)


def test_a_body_of_known_length_leaves_what_follows() -> None:
    reader = ConnectionReader(Pieces(b"hel", b"loGET"))
    body = RequestBody(reader, 5)
    assert not body.is_complete
    assert [body.read(2), body.read(0), body.read()] == [b"he", b"", b"llo"]
    assert body.is_complete
    assert body.read(10) == body.read() == b""
    assert reader.read_some(100) == b"GET"


def test_reading_what_has_come() -> None:
    body = sized(5, b"he", b"l", b"loGET")
    assert [body.read1(10) for _ in range(4)] == [b"he", b"l", b"lo", b""]
    body = sized(5, b"hello")
    assert [body.read1(2), body.read1(2), body.read1(0), body.read1(2)] == [b"he", b"ll", b"", b"o"]
    body = chunked(b"1\r\nh\r\n2\r\nel\r\n", b"2\r\nlo", b"\r\n0\r\n\r\n")
    assert [body.read1(10) for _ in range(4)] == [b"h", b"el", b"lo", b""]
    with pytest.raises(BadRequest):
        chunked(b"5\r\nhel").read1(10) and chunked(b"5\r\n").read1(10)


def test_chunks_extensions_and_trailers() -> None:
    reader = ConnectionReader(Pieces(b"5;a=b\r\nhello\r\n1 \r\n!\r", b"\n00\r\nX: 1\r\n\r\nGET"))
    body = RequestBody(reader, None)
    assert chunked(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n").read() == b"x" * 5000
    assert body.read(3) == b"hel"
    assert body.read() == b"lo!"
    assert body.is_complete
    assert reader.read_some(100) == b"GET"


def test_a_body_is_read_line_by_line() -> None:
    body = sized(13, b"one\ntwo\nthree")
    assert body.readline() == b"one\n"
    assert body.readline(2) == b"tw"
    assert body.readlines() == [b"o\n", b"three"]
    assert list(body) == []


IN_DOUBT = [
    b"x\r\n",
    b"\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    b"f" * 16 + b"\r\n",
    b"0\r\nno trailer\r\n\r\n",
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\n folded: 1\r\n\r\n",
    b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    b"0\r\nX: " + b"a" * 10000 + b"\r\n\r\n",
]


def test_chunks_that_could_be_read_in_two_ways_are_refused() -> None:
    for data in IN_DOUBT:
        body = chunked(data)
        for _ in range(2):
            with pytest.raises(BadRequest):
                body.read()
            assert (body.is_broken, body.is_complete) == (True, False), data[:30]


def test_half_a_body_is_never_taken_for_a_whole_one() -> None:
    whole = b"5\r\nhello\r\n0\r\n\r\n"
    halves = [chunked(whole[:end]) for end in range(len(whole))]
    for body in (*halves, sized(5, b"hel")):
        with pytest.raises(BadRequest, match="ended"):
            body.read()


def test_a_client_that_resets_has_left() -> None:
    class Broken:
        def recv(self, size: int) -> bytes:
            raise ConnectionResetError

    with pytest.raises(ClientGone):
        RequestBody(ConnectionReader(Broken()), 5).read()


def test_a_client_is_asked_once_and_only_if_it_waits() -> None:
    for length, pieces, data in ((5, [b"hel", b"lo"], b"hello"), (None, [b"0\r\n\r\n"], b"")):
        asked: list[int] = []
        body = sized(length, *pieces, send_continue=partial(asked.append, 1))
        assert body.awaits_continue
        assert (body.read(), asked) == (data, [1])
    reader = ConnectionReader(Pieces(HEAD + b"hello"))
    reader.read_head(begun)
    assert RequestBody(reader, 5, pytest.fail).read() == b"hello", "it did not wait"
    assert sized(0, send_continue=pytest.fail).read() == b""


def test_how_much_is_left() -> None:
    rooms = [(0, 0), (5, 5), (5, 4), (None, 10**9)]
    assert [sized(size).fits(room) for size, room in rooms] == [True, True, False, False]
