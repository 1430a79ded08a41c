"""How answers of upstreams are read, odd ones included."""

from __future__ import annotations

import gc
import weakref

import httptools
import pytest

from llmsnap.proxy.client import MAX_HEAD_BYTES, ResponseParser, mended

FIRST = b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: 1\r\n\r\nhi"
SECOND = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"


def test_answers_one_after_the_other() -> None:
    parser = ResponseParser()
    parser.http.feed_data(FIRST)
    assert (parser.http.get_status_code(), parser.reason) == (200, "Fine")
    assert parser.headers == [("Content-Length", "2"), ("X-A", "1")]
    assert (parser.chunks, parser.complete, parser.keep_alive) == ([b"hi"], True, True)
    taken = parser.headers
    parser.begin()
    assert (parser.headers, parser.chunks, parser.complete) == ([], [], False)
    parser.http.feed_data(SECOND)
    assert taken == [("Content-Length", "2"), ("X-A", "1")], "what one exchange took stays"
    assert (parser.http.get_status_code(), parser.reason) == (404, "Not Found")
    assert parser.headers == [("Transfer-Encoding", "chunked")]
    assert (b"".join(parser.chunks), parser.complete) == (b"no", True)


def test_interim_answers_are_no_answers() -> None:
    parser = ResponseParser()
    parser.http.feed_data(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert not parser.in_body
    assert not parser.complete
    parser.http.feed_data(FIRST)
    assert parser.headers[0] == ("Content-Length", "2")
    assert parser.complete


def test_an_answer_that_nobody_asked_for_is_an_error() -> None:
    parser = ResponseParser()
    with pytest.raises(httptools.HttpParserError):
        parser.http.feed_data(FIRST + SECOND)


# --- answers that are not quite as RFC 9112 wants them -------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
HI = b"2\r\nhi\r\n0\r\n\r\n"
READ_AS = {
    "chunks and a length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nX-A: 1\r\n\r\n"
        + HI,
        [("Transfer-Encoding", "chunked"), ("X-A", "1")],
    ),
    "a length and chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nTransfer-Encoding: Chunked\r\nX-A: 1\r\n\r\n"
        + HI,
        [("Transfer-Encoding", "Chunked"), ("X-A", "1")],
    ),
    "two lengths and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 9\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + HI,
        [("Transfer-Encoding", "chunked")],
    ),
    "a length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nCONTENT-LENGTH:2 \r\n\r\nhi",
        [("Content-Length", "2"), ("X-A", "1")],
    ),
    "a length twice in one line": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        [("Content-Length", "2")],
    ),
    "bare line feeds": (
        b"HTTP/1.1 200 OK\nContent-Length: 2\nX-A: 1\n\nhi",
        [("Content-Length", "2"), ("X-A", "1")],
    ),
    "one bare line feed": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX-A: 1\r\n\r\nhi",
        [("Content-Length", "2"), ("X-A", "1")],
    ),
    "a bare line feed at the end": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\nhi",
        [("Content-Length", "2"), ("X-A", "1")],
    ),
    "bare line feeds around chunks": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n" + HI,
        [("Transfer-Encoding", "chunked")],
    ),
    "a folded header": (
        b"HTTP/1.1 200 OK\r\nX-A: one \r\n\t two\r\n three\r\nContent-Length: 2\r\n\r\nhi",
        [("X-A", "one two three"), ("Content-Length", "2")],
    ),
    "a folded length": (
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nhi",
        [("Content-Length", "2")],
    ),
    "blanks before the colon": (
        b"HTTP/1.1 200 OK\r\nX-A \t: 1\r\nContent-Length : 2\r\n\r\nhi",
        [("X-A", "1"), ("Content-Length", "2")],
    ),
    "a header without a name": (
        b"HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 2\r\n\r\nhi",
        [("Content-Length", "2")],
    ),
    "blanks behind the chunk sizes": (
        CHUNKED + b"\r\n2 \t\r\nhi\r\n0 \r\n\r\n",
        [("Transfer-Encoding", "chunked")],
    ),
    "a chunk extension": (
        CHUNKED + b"\r\n2 ;a=b\r\nhi\r\n0;c\r\n\r\n",
        [("Transfer-Encoding", "chunked")],
    ),
    "trailers": (
        CHUNKED + b"X-A: 1\r\n\r\n2\r\nhi\r\n0\r\nX-B: 2\r\nSet-Cookie: c\r\n\r\n",
        [("Transfer-Encoding", "chunked"), ("X-A", "1")],
    ),
    "trailers that look like framing": (
        CHUNKED + b"\r\n2\r\nhi\r\n0\r\nContent-Length: 7\r\nConnection: close\r\n\r\n",
        [("Transfer-Encoding", "chunked")],
    ),
    "an odd interim answer": (
        b"HTTP/1.1 103 Early Hints\nLink: x\n\r\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        [("Content-Length", "2")],
    ),
    "no reason": (b"HTTP/1.1 200\nContent-Length: 2\n\nhi", [("Content-Length", "2")]),
}


CLEAR = {"blanks behind the chunk sizes", "a chunk extension", "trailers"}


@pytest.mark.parametrize("what", READ_AS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_odd_answers_are_read_as_they_are_meant(what: str, size: int) -> None:
    answer, headers = READ_AS[what]
    parser = ResponseParser()
    for start in range(0, len(answer), size):
        piece = answer[start : start + size]
        if parser.in_body:
            parser.http.feed_data(piece)
        else:
            parser.feed_head(piece)
    assert (parser.http.get_status_code(), parser.headers) == (200, headers)
    assert (b"".join(parser.chunks), parser.complete) == (b"hi", True)
    assert parser.is_chunked == any(name == "Transfer-Encoding" for name, _ in headers)
    assert parser.has_length != parser.is_chunked
    if size == 1000:
        assert parser.keep_alive == (what in CLEAR), "kept only after an answer without doubt"


REFUSED = {
    "lengths that differ": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "lengths that differ in one line": b"HTTP/1.1 200 OK\nContent-Length: 2, 3\n\nhi",
    "a length that is none": b"HTTP/1.1 200 OK\nContent-Length: +2\n\nhi",
    "an empty length": b"HTTP/1.1 200 OK\nContent-Length: 2,\n\nhi",
    "a coding within the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n",
    "a line without a colon": b"HTTP/1.1 200 OK\r\nX-A\r\n\r\n",
    "a fold of nothing": b"HTTP/1.1 200 OK\n X-A: 1\n\n",
    "a bare carriage return": b"HTTP/1.1 200 OK\nX-A: 1\rX-B: 2\n\n",
    "a control character": b"HTTP/1.1 200 OK\nX-A: a\0b\n\n",
    "a name with a blank": b"HTTP/1.1 200 OK\nX A: 1\n\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "another version": b"HTTP/3.0 200 OK\r\n",
    "a status that is none": b"HTTP/1.1 2x0 OK\n\n",
    "a head too long": b"HTTP/1.1 200 OK\n" + b"X-A: 1\n" * (MAX_HEAD_BYTES // 7 + 1),
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
def test_what_can_mean_two_things_is_refused(answer: bytes) -> None:
    with pytest.raises((httptools.HttpParserError, ValueError)):
        ResponseParser().feed_head(answer)


def test_what_is_mended_stays_so() -> None:
    head = b"HTTP/1.1 200 OK\nX-A : one\n  two\nContent-Length: 2\nContent-Length: 2\n"
    once = mended(head.removesuffix(b"\n"))
    assert once == b"HTTP/1.1 200 OK\r\nX-A: one two\r\nContent-Length: 2\r\n\r\n"
    assert mended(once.removesuffix(b"\r\n\r\n")) == once


def test_an_odd_answer_may_switch_protocols() -> None:
    parser = ResponseParser()
    parser.feed_head(b"HTTP/1.1 101 Switching\nUpgrade: websocket\nConnection: Upgrade\n\nearly")
    assert (parser.switched, parser.early) == (True, b"early")


class Watched(ResponseParser):
    """One that may be referred to weakly."""


def test_a_released_parser_is_gone_without_the_collector() -> None:
    gc.disable()
    try:
        parser = Watched()
        gone = weakref.ref(parser)
        parser.release()
        del parser
        assert gone() is None
    finally:
        gc.enable()
