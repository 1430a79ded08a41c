"""The bytes that go out for the answer of a WSGI application."""

import pytest

from tests.server.raw import request

LONG = b"x" * 200_000
CLOSED = {"connection": "close", "content-length": "1"}
KEEP, OLD = "Connection: keep-alive", {"version": "1.0"}


def answering(status="200 OK", headers=(), body=(b"hello",)):
    def app(environ, start_response):
        start_response(status, list(headers))
        return body() if callable(body) else list(body)

    return app


def pieces(*data: bytes):
    return lambda: iter(data)


@pytest.mark.parametrize(
    ("said", "asked", "head", "body"),
    [
        ({}, {}, {"content-length": "5"}, b"hello"),
        ({"body": [b"he", b"llo"]}, {}, {"content-length": "5"}, b"hello"),
        ({"body": [LONG]}, {}, {"content-length": "200000"}, LONG),
        ({"body": pieces(b"he", b"", b"llo")}, {}, {"transfer-encoding": "chunked"}, b"hello"),
        ({"body": pieces(LONG)}, {}, {"transfer-encoding": "chunked"}, LONG),
        ({"body": pieces(b"hello")}, OLD, {"connection": "close"}, b"hello"),
        ({}, OLD, {"connection": "keep-alive", "content-length": "5"}, b"hello"),
        ({"status": "204 No Content", "body": pieces(b"lie")}, {}, {}, b""),
        ({"status": "304 Not Modified", "body": pieces(b"lie")}, {}, {}, b""),
        ({"headers": [("Date", "today")]}, {}, {"content-length": "5", "date": "today"}, b"hello"),
        ({"headers": [("connection", "keep-alive")]}, {}, {"content-length": "5"}, b"hello"),
        ({"headers": [("Connection", "Close")], "body": [b"x"]}, {}, CLOSED, b"x"),
    ],
)
def test_the_server_frames_the_body_and_says_if_it_goes_on(serve, said, asked, head, body) -> None:
    client = serve(answering(**said)).connect()
    sent = request("/", "GET", *([KEEP] if asked else []), **asked)
    closes = head.get("connection") == "close"
    for _ in range(1 if closes else 2):
        answer = client.ask(sent)
        date = answer.headers.pop("date")
        assert date.endswith(" GMT") or date == head["date"]
        assert answer.headers == {name: head[name] for name in head if name != "date"}
        assert (answer.body, str(answer.status)) == (body, said.get("status", "200")[:3])
    assert not closes or client.rest() == b""


def test_http_1_0_ends_the_connection_unless_asked_to_keep_it(serve) -> None:
    client = serve(answering()).connect()
    assert client.ask(request(version="1.0")).headers["connection"] == "close"
    assert client.rest() == b""


@pytest.mark.parametrize("body", [(b"hello",), pieces(b"hello")])
def test_head_has_no_body_and_the_next_answer_is_in_place(serve, body) -> None:
    client = serve(answering(headers=[("Content-Length", "5")], body=body)).connect()
    for _ in range(2):
        answer = client.ask(request("/", "HEAD"), "HEAD")
        assert answer.headers["content-length"] == "5"
    assert client.ask(request()).body == b"hello"


BREAKING = ["1\r\nX-B: 2", "1\n", "\r", "\0", "Δ"]


@pytest.mark.parametrize("header", [("X-A\r\nX-B", "2"), *(("X-A", value) for value in BREAKING)])
def test_a_header_that_breaks_out_is_our_bug(serve, header, caplog) -> None:
    answer = serve(answering(headers=[header])).connect().ask(request())
    assert answer.status == 500
    assert "x-b" not in answer.headers
    assert "request failed" in caplog.text


@pytest.mark.parametrize("is_sent", [False, True])
def test_an_application_may_replace_its_head_until_it_is_sent(serve, caplog, is_sent: bool) -> None:
    def app(environ, start_response):
        write = start_response("200 OK", [])
        if is_sent:
            write(b"begun")
        start_response("503 Busy", [], (RuntimeError, RuntimeError("too late"), None))
        return [b"later"]

    answer = serve(app).connect().ask(request())
    found = (answer.status, answer.body, answer.complete, "too late" in caplog.text)
    assert found == ((200, b"begun", False, True) if is_sent else (503, b"later", True, False))
