"""Facts about llmsnap.proxy.parser: one parser reads all answers of a connection."""

from __future__ import annotations

import gc
import weakref

import httptools
import pytest

from llmsnap.proxy.parser import ResponseParser

FIRST = b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: 1\r\n\r\nhi"
SECOND = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"


def test_answers_one_after_the_other() -> None:
    parser = ResponseParser()
    parser.http.feed_data(FIRST)
    assert (parser.http.get_status_code(), parser.reason) == (200, "Fine")
    assert parser.headers == [("Content-Length", "2"), ("X-A", "1")]
    assert (parser.chunks, parser.complete, parser.keep_alive) == ([b"hi"], True, True)
    parser.begin()
    assert (parser.headers, parser.chunks, parser.complete) == ([], [], False)
    parser.http.feed_data(SECOND)
    assert (parser.http.get_status_code(), parser.reason) == (404, "Not Found")
    assert parser.headers == [("Transfer-Encoding", "chunked")]
    assert (b"".join(parser.chunks), parser.complete) == (b"no", True)


def test_what_one_exchange_took_the_next_one_does_not_change() -> None:
    parser = ResponseParser()
    parser.http.feed_data(FIRST)
    taken = parser.headers
    parser.begin()
    parser.http.feed_data(SECOND)
    assert taken == [("Content-Length", "2"), ("X-A", "1")]


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
