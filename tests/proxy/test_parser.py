"""How answers of upstreams are read, odd ones included."""

import gc
import weakref

import httptools
import pytest

from llmsnap.proxy.parser import MAX_HEAD_BYTES, ResponseParser

OK, LF = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
HI = b"2\r\nhi\r\n0\r\n\r\n"
LENGTH, CHUNKS, ONE = ("Content-Length", "2"), ("Transfer-Encoding", "chunked"), ("X-A", "1")
READ_AS = {
    "chunks and a length": (CHUNKED + b"Content-Length: 9\r\nX-A: 1\r\n\r\n" + HI, [CHUNKS, ONE]),
    "two lengths and chunks": (
        OK + b"content-length: 9\r\nContent-Length: 9\r\nTransfer-Encoding: Chunked\r\n\r\n" + HI,
        [("Transfer-Encoding", "Chunked")],
    ),
    "a length twice": (
        OK + b"Content-Length: 2\r\nX-A: 1\r\nCONTENT-LENGTH:2 \r\n\r\nhi",
        [LENGTH, ONE],
    ),
    "a length twice in one line": (OK + b"Content-Length: 2, 2\r\n\r\nhi", [LENGTH]),
    "bare line feeds": (LF + b"Content-Length: 2\nX-A: 1\n\nhi", [LENGTH, ONE]),
    "one bare line feed": (OK + b"Content-Length: 2\nX-A: 1\r\n\r\nhi", [LENGTH, ONE]),
    "a bare line feed at the end": (OK + b"Content-Length: 2\r\nX-A: 1\r\n\nhi", [LENGTH, ONE]),
    "bare line feeds around chunks": (LF + b"Transfer-Encoding: chunked\n\n" + HI, [CHUNKS]),
    "a folded header": (
        OK + b"X-A: one \r\n\t two\r\n three\r\nContent-Length: 2\r\n\r\nhi",
        [("X-A", "one two three"), LENGTH],
    ),
    "a folded length": (OK + b"Content-Length:\r\n 2\r\n\r\nhi", [LENGTH]),
    "blanks before the colon": (OK + b"X-A \t: 1\r\nContent-Length : 2\r\n\r\nhi", [ONE, LENGTH]),
    "a header without a name": (OK + b": 1\r\nContent-Length: 2\r\n\r\nhi", [LENGTH]),
    "blanks behind the chunk sizes": (CHUNKED + b"\r\n2 \t\r\nhi\r\n0 \r\n\r\n", [CHUNKS]),
    "a chunk extension": (CHUNKED + b"\r\n2 ;a=b\r\nhi\r\n0;c\r\n\r\n", [CHUNKS]),
    "trailers": (CHUNKED + b"\r\n2\r\nhi\r\n0\r\nX-B: 2\r\nSet-Cookie: c\r\n\r\n", [CHUNKS]),
    "trailers that look like framing": (
        CHUNKED + b"\r\n2\r\nhi\r\n0\r\nContent-Length: 7\r\nConnection: close\r\n\r\n",
        [CHUNKS],
    ),
    "an odd interim answer": (
        b"HTTP/1.1 103 Early Hints\nLink: x\n\r\n\n" + LF + b"Content-Length: 2\n\nhi",
        [LENGTH],
    ),
    "no reason": (b"HTTP/1.1 200\nContent-Length: 2\n\nhi", [LENGTH]),
}
CLEAR = {"blanks behind the chunk sizes", "a chunk extension", "trailers"}


def parsed(answer: bytes, size: int) -> ResponseParser:
    """What a parser has read of *answer*, which came in pieces of *size* bytes."""
    parser = ResponseParser()
    for start in range(0, len(answer), size):
        piece = answer[start : start + size]
        if parser.in_body:
            parser.http.feed_data(piece)
        else:
            parser.feed_head(piece)
    return parser


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_odd_answers_are_read_as_they_are_meant(size: int) -> None:
    for what, (answer, headers) in READ_AS.items():
        parser = parsed(answer, size)
        assert (parser.http.get_status_code(), parser.headers) == (200, headers), what
        assert (b"".join(parser.chunks), parser.complete) == (b"hi", True), what
        assert parser.is_chunked == any(name == "Transfer-Encoding" for name, _ in headers), what
        assert parser.has_length != parser.is_chunked, what
        if size == 1000:  # kept only after an answer without doubt
            assert parser.keep_alive == (what in CLEAR), what


IN_DOUBT = [
    OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    *(LF + b"Content-Length: " + length + b"\n\nhi" for length in (b"2, 3", b"+2", b"2,")),
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    LF + b"Transfer-Encoding: gzip\n\n",
    OK + b"X-A\r\n\r\n",
    *(LF + head + b"\n\n" for head in (b" X-A: 1", b"X-A: 1\rX-B: 2", b"X-A: a\0b", b"X A: 1")),
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/3.0 200 OK\r\n",
    b"HTTP/1.1 2x0 OK\n\n",
    LF + b"X-A: 1\n" * (MAX_HEAD_BYTES // 7 + 1),
]


def is_read(answer: bytes) -> bool:
    try:
        ResponseParser().feed_head(answer)
    except (httptools.HttpParserError, ValueError):
        return False
    return True


def test_what_can_mean_two_things_is_refused() -> None:
    assert [answer[:50] for answer in IN_DOUBT if is_read(answer)] == []


def test_what_one_exchange_took_of_an_answer_stays() -> None:
    parser = ResponseParser()
    parser.feed_head(OK + b"Content-Length: 2\r\n\r\nhi")
    taken = parser.headers
    parser.begin()
    assert (taken, parser.headers, parser.chunks, parser.complete) == ([LENGTH], [], [], False)


def test_an_odd_answer_may_switch_protocols() -> None:
    parser = ResponseParser()
    parser.feed_head(b"HTTP/1.1 101 Switching\nUpgrade: websocket\nConnection: Upgrade\n\nearly")
    assert (parser.switched, parser.early) == (True, b"early")


def test_a_released_parser_is_gone_without_the_collector() -> None:
    class Watched(ResponseParser):
        """One that may be referred to weakly."""

    gc.disable()
    try:
        parser = Watched()
        gone = weakref.ref(parser)
        parser.release()
        del parser
        assert gone() is None
    finally:
        gc.enable()
