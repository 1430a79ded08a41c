"""Bodies end where they say they end; nothing else is taken for a body."""

import pytest

from llmsnap.errors import BadRequest, ClientGone
from llmsnap.server.body import Body, SocketBody
from llmsnap.server.reader import Reader
from tests.server.test_reader import HEAD, Pieces, begun


def chunked(*pieces: bytes) -> Body:
    return Body(Reader(Pieces(*pieces)), None)


def test_a_body_of_known_length_leaves_what_follows() -> None:
    reader = Reader(Pieces(b"hel", b"loGET"))
    body = Body(reader, 5)
    assert not body.done
    assert body.read() == b"hello"
    assert body.done
    assert body.read() == b""
    assert reader.some(100) == b"GET"


def test_reading_in_parts() -> None:
    body = Body(Reader(Pieces(b"hello")), 5)
    assert [body.read(2), body.read(0), body.read(10), body.read(10)] == [b"he", b"", b"llo", b""]


def test_reading_what_has_come() -> None:
    body = Body(Reader(Pieces(b"he", b"l", b"loGET")), 5)
    assert [body.read1(10) for _ in range(4)] == [b"he", b"l", b"lo", b""]
    body = Body(Reader(Pieces(b"hello")), 5)
    assert [body.read1(2), body.read1(2), body.read1(0), body.read1(2)] == [b"he", b"ll", b"", b"o"]
    body = chunked(b"1\r\nh\r\n2\r\nel\r\n", b"2\r\nlo", b"\r\n0\r\n\r\n")
    assert [body.read1(10) for _ in range(4)] == [b"h", b"el", b"lo", b""]
    with pytest.raises(BadRequest):
        chunked(b"5\r\nhel").read1(10) and chunked(b"5\r\n").read1(10)


def test_no_body_asks_for_nothing() -> None:
    assert Body(Reader(Pieces()), 0, pytest.fail).read() == b""


def test_chunks_extensions_and_trailers() -> None:
    reader = Reader(
        Pieces(b"5;name=value\r\nhello\r\n1 \r\n!\r", b"\n00\r\nX-Trailer: 1\r\n\r\nGET")
    )
    body = Body(reader, None)
    assert body.read(3) == b"hel"
    assert body.read() == b"lo!"
    assert body.done
    assert reader.some(100) == b"GET"


def test_many_small_chunks() -> None:
    assert chunked(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n").read() == b"x" * 5000


def test_lines_for_those_who_want_them() -> None:
    body = Body(Reader(Pieces(b"one\ntwo\nthree")), 13)
    assert body.readline() == b"one\n"
    assert body.readline(2) == b"tw"
    assert body.readlines() == [b"o\n", b"three"]
    assert list(body) == []


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
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
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(data: bytes) -> None:
    body = chunked(data)
    with pytest.raises(BadRequest):
        body.read()
    assert body.broken
    assert not body.done
    with pytest.raises(BadRequest):
        body.read()


@pytest.mark.parametrize(
    "body",
    [
        Body(Reader(Pieces(b"hel")), 5),
        chunked(b"5\r\nhel"),
        chunked(b"5\r\nhello"),
        chunked(b"5\r\nhello\r\n"),
        chunked(b"0\r\n"),
        chunked(),
    ],
    ids=range(6),
)
def test_half_a_body_is_never_taken_for_a_whole_one(body: Body) -> None:
    with pytest.raises(BadRequest, match="ended"):
        body.read()


def test_a_client_that_resets_has_left() -> None:
    class Broken:
        def recv(self, size: int) -> bytes:
            raise ConnectionResetError

    with pytest.raises(ClientGone):
        Body(Reader(Broken()), 5).read()


def test_a_client_is_asked_once_and_only_if_it_waits() -> None:
    asked: list[int] = []
    body = Body(Reader(Pieces(b"hel", b"lo")), 5, lambda: asked.append(1))
    assert body.may_not_come
    assert body.read() == b"hello"
    assert asked == [1]
    reader = Reader(Pieces(HEAD + b"hello"))
    reader.head(begun)
    assert Body(reader, 5, pytest.fail).read() == b"hello", "it did not wait"
    asked.clear()
    body = Body(Reader(Pieces(b"0\r\n\r\n")), None, lambda: asked.append(1))
    assert body.read() == b""
    assert asked == [1]


def test_how_much_is_left() -> None:
    assert Body(Reader(Pieces()), 0).is_within(0)
    assert Body(Reader(Pieces()), 5).is_within(5)
    assert not Body(Reader(Pieces()), 5).is_within(4)
    assert not chunked().is_within(10**9)


def test_repr() -> None:
    assert repr(Body(Reader(Pieces()), 5)) == "<Body 5 left>"
    assert repr(Body(Reader(Pieces()), 0)) == "<Body done>"
    assert repr(chunked()) == "<Body chunked, 0 left>"


def test_an_upgrade_shows_its_socket_where_simple_websocket_looks() -> None:
    sock = object()
    assert SocketBody(Reader(Pieces()), 0, None, sock).raw._sock is sock
