"""Where a request ends and the next one begins; where an answer does."""

import json

import pytest

from tests.server.raw import post, request

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"


def chat(text: str = "hi", **members: object) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "alpha", "messages": messages, **members}).encode()


def said(answer) -> str:
    return json.loads(answer.body)["choices"][0]["message"]["content"]


JSON = "Content-Type: application/json"


def test_requests_follow_each_other_however_they_are_framed(server, connect) -> None:
    client, body = connect(), chat("in pieces")
    client.send(post(chat("one"), JSON, path=CHAT) + request("/health") + post(body, path=CHAT))
    assert "You said: one" in said(client.answer())
    assert client.answer().body == b"OK"
    assert "You said: in pieces" in said(client.answer())
    client.send(request(CHAT, "POST", JSON, "Transfer-Encoding: chunked"))
    for start in range(0, len(body), 7):
        piece = body[start : start + 7]
        client.send(b"%x;name=value\r\n%b\r\n" % (len(piece), piece))
    answer = client.ask(b"0\r\nX-Trailer: 1\r\n\r\n" + request("/health"))
    assert "You said: in pieces" in said(answer)
    assert client.answer().body == b"OK"
    client.send(post(body, JSON, "Expect: 100-continue", path=CHAT)[: -len(body)])
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
    assert "You said: in pieces" in said(client.ask(body))
    answer = client.ask(post(chat(stream=True), JSON, path=CHAT))
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.rstrip().endswith(b"data: [DONE]")
    assert client.ask(request("/health")).body == b"OK"


def test_a_stream_to_http_1_0_ends_with_the_connection(server, connect) -> None:
    body = chat(stream=True)
    client = connect()
    head = request(CHAT, "POST", f"Content-Length: {len(body)}", version="1.0")
    answer = client.ask(head + body)
    assert "transfer-encoding" not in answer.headers
    assert answer.body.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize(
    "bad", [b"zz\r\n", b"5\r\nhello!\r\n", b"-1\r\n", b"5\nhello\r\n", b"0\r\nno trailer\r\n\r\n"]
)
def test_broken_chunks_are_a_bad_request_and_the_end(server, connect, bad: bytes) -> None:
    client = connect()
    client.send(request(CHAT, "POST", JSON, "Transfer-Encoding: chunked", body=bad))
    assert client.answer().status == 400
    client.half_close()
    assert client.rest() == b""


def test_a_large_body_nobody_wants_does_not_cost_the_answer(server, connect) -> None:
    client = connect()
    answer = client.ask(post(b"x" * 3_000_000, path="/no-such-path"))
    assert answer.status == 404
    if answer.headers.get("connection", "").lower() != "close":
        assert client.ask(request("/health")).body == b"OK"


def test_too_much(server, connect) -> None:
    for raw in (
        request("/" + "a" * 9000),
        request("/health", "GET", *[f"X-{n}: 1" for n in range(150)]),
        request("/health", "GET", "X-Long: " + "a" * 70_000),
    ):
        client = connect()
        client.send(raw)
        answer = client.answer()
        assert answer.status in (400, 414, 431)
        assert answer.headers["connection"].lower() == "close"
        client.close()
