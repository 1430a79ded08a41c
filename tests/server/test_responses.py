"""The bytes that go out for the answer of a WSGI application."""

import pytest

from tests.server.raw import request


def answering(status="200 OK", headers=(), body=(b"hello",)):
    def app(environ, start_response):
        start_response(status, list(headers))
        return body() if callable(body) else list(body)

    return app


@pytest.mark.parametrize("pieces", [(b"he", b"llo"), (b"x" * 200_000,)])
def test_a_list_gets_its_length(serve, pieces) -> None:
    answer = serve(answering(body=pieces)).connect().ask(request())
    assert (answer.status, answer.body) == (200, b"".join(pieces))
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "connection" not in answer.headers


@pytest.mark.parametrize("pieces", [[b"he", b"", b"llo"], [b"x" * 200_000]])
def test_an_iterator_goes_out_in_chunks_and_the_connection_goes_on(serve, pieces) -> None:
    client = serve(answering(body=lambda: iter(pieces))).connect()
    for _ in range(2):
        answer = client.ask(request())
        assert answer.body == b"".join(pieces)
        assert answer.headers["transfer-encoding"] == "chunked"


def test_to_http_1_0_it_ends_with_the_connection(serve) -> None:
    client = serve(answering(body=lambda: iter([b"hello"]))).connect()
    answer = client.ask(request("/", "GET", "Connection: keep-alive", version="1.0"))
    assert answer.headers["connection"] == "close"
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"hello"


def test_http_1_0_keeps_the_connection_when_asked_to_and_possible(serve) -> None:
    client = serve(answering()).connect()
    for _ in range(2):
        answer = client.ask(request("/", "GET", "Connection: keep-alive", version="1.0"))
        assert answer.headers["connection"] == "keep-alive"
    assert client.ask(request(version="1.0")).headers["connection"] == "close"
    assert client.rest() == b""


@pytest.mark.parametrize("body", [(b"hello",), lambda: iter([b"hello"])])
def test_head_has_no_body_and_the_next_answer_is_in_place(serve, body) -> None:
    client = serve(answering(headers=[("Content-Length", "5")], body=body)).connect()
    for _ in range(2):
        answer = client.ask(request("/", "HEAD"), "HEAD")
        assert answer.headers["content-length"] == "5"
    assert client.ask(request()).body == b"hello"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_some_answers_have_no_body(serve, status: str) -> None:
    client = serve(answering(status, body=lambda: iter([b"lie"]))).connect()
    for _ in range(2):
        answer = client.ask(request())
        assert answer.status == int(status[:3])
        assert not {"content-length", "transfer-encoding"} & set(answer.headers)


def test_the_server_adds_date_unless_the_application_has_one(serve) -> None:
    client = serve(answering(headers=[("Date", "today")])).connect()
    assert client.ask(request()).headers["date"] == "today"
    assert serve(answering()).connect().ask(request()).headers["date"].endswith(" GMT")


def test_connection_is_the_servers_word_but_close_is_obeyed(serve) -> None:
    client = serve(answering(headers=[("connection", "keep-alive")])).connect()
    assert "connection" not in client.ask(request()).headers
    client = serve(answering(headers=[("Connection", "Close")])).connect()
    assert client.ask(request()).headers["connection"] == "close"
    assert client.rest() == b""


BREAKING = ["1\r\nX-B: 2", "1\n", "\r", "\0", "Δ"]


@pytest.mark.parametrize("header", [("X-A\r\nX-B", "2"), *(("X-A", value) for value in BREAKING)])
def test_a_header_that_breaks_out_is_our_bug(serve, header, caplog) -> None:
    answer = serve(answering(headers=[header])).connect().ask(request())
    assert answer.status == 500
    assert "x-b" not in answer.headers
    assert "request failed" in caplog.text


def test_an_application_may_replace_its_head_before_it_is_sent(serve) -> None:
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("503 Busy", [], (RuntimeError, RuntimeError("busy"), None))
        return [b"later"]

    answer = serve(app).connect().ask(request())
    assert (answer.status, answer.body) == (503, b"later")


def test_and_not_after_it_was_sent(serve, caplog) -> None:
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"begun")
        start_response("503 Busy", [], (RuntimeError, RuntimeError("too late"), None))
        return []

    answer = serve(app).connect().ask(request())
    assert (answer.status, answer.body, answer.complete) == (200, b"begun", False)
    assert "too late" in caplog.text
