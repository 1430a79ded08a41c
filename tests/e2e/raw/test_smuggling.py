"""What two servers in a row may read differently is refused, and nothing hides behind it.

Without our settings gunicorn parses by itself, and has words of its own for it; what it lets pass
is listed.
"""

import pytest

pytestmark = pytest.mark.e2e


def hidden(number: int) -> bytes:
    return b"GET /hidden-%d HTTP/1.1\r\nHost: x\r\n\r\n" % number


def post(*lines: bytes, first: bytes = b"POST /v1/models HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: x", *lines]) + b"\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
ENDED = b"0\r\n\r\n"

# name: what is sent, what our own server says
CASES: dict[str, tuple[bytes, int]] = {
    "length and chunked": (post(b"Content-Length: 4", CHUNKED) + ENDED, 400),
    "chunked and length": (post(CHUNKED, b"Content-Length: 40") + ENDED, 400),
    "two lengths": (post(b"Content-Length: 0", b"Content-Length: 33"), 400),
    "the same length twice": (post(b"Content-Length: 0", b"Content-Length: 0"), 400),
    "a list of lengths": (post(b"Content-Length: 0, 0"), 400),
    "a signed length": (post(b"Content-Length: +0"), 400),
    "another coding": (post(b"Transfer-Encoding: identity"), 400),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked"), 400),
    "two codings": (post(b"Transfer-Encoding: gzip, chunked") + ENDED, 400),
    "chunked twice": (post(CHUNKED, CHUNKED) + ENDED, 400),
    "chunked to HTTP/1.0": (post(CHUNKED, first=b"POST / HTTP/1.0") + ENDED, 400),
    "a blank before the colon": (post(b"Content-Length : 33"), 400),
    "a tab before the colon": (post(b"Transfer-Encoding\t: chunked"), 400),
    "a folded line": (post(b"X-A: 1", b" Content-Length: 33"), 400),
    "a folded first line": (post(b" X-A: 1"), 400),
    "a bare LF": (post(b"X-A: 1\nContent-Length: 33"), 400),
    "a bare CR": (post(b"X-A: 1\rContent-Length: 33"), 400),
    "LF only": (b"GET /v1/models HTTP/1.1\nHost: x\n\n", 400),
    "a NUL": (post(b"X-A: a\0b"), 400),
    "no Host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (post(b"Host: y"), 400),
    "a version to come": (post(first=b"GET / HTTP/2.0"), 505),
    "a fragment": (post(first=b"GET /health#x HTTP/1.1"), 400),
    "another host's name": (post(first=b"GET evil.example:80 HTTP/1.1"), 400),
    "a proxy request": (post(first=b"CONNECT evil.example:80 HTTP/1.1"), 501),
}

LENIENT = {"no Host", "a fragment"}
"""What gunicorn serves all the same: harmless by itself, since the next request stays in place."""


@pytest.mark.parametrize("name", CASES)
def test_what_could_be_misread_is_refused(server, connect, name: str) -> None:
    raw, status = CASES[name]
    number = list(CASES).index(name)
    client = connect()
    client.send(raw + hidden(number))
    answer = client.answer()
    if server.door != "gunicorn without conf":
        assert answer.status == status
    elif name in LENIENT:
        assert answer.status == 200
        return
    assert answer.status >= 400
    if answer.headers["connection"].lower() == "close":
        client.half_close()
        assert client.rest() == b""
        assert server.get("/health").status_code == 200
        assert f"/hidden-{number} " not in server.output


def test_what_stands_in_a_body_is_no_request(server, connect) -> None:
    client = connect()
    body = hidden(999)
    framing = b"Content-Length: %d" % len(body)
    client.send(post(framing, first=b"POST /no-such-path HTTP/1.1") + body)
    client.send(post(first=b"GET /health HTTP/1.1"))
    assert client.answer().status == 404
    assert client.answer().body == b"OK"
    assert "/hidden-999" not in server.output


def test_names_with_underscores_do_not_pass_for_those_with_dashes(server, connect) -> None:
    head = post(b"X_Request_Id: forged", b"X-Other: 1", first=b"GET /health HTTP/1.1")
    answer = connect().ask(head)
    assert answer.headers["x-request-id"] != "forged"
