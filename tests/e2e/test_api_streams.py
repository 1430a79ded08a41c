"""Answers that arrive piece by piece, and how they end when something ends them."""

import json

import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running
from tests.server.raw import RawClient

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
macros:
  sim: {sim}
models:
  alpha: {{cmd: "${{sim}}"}}
  cut: {{cmd: "${{sim}} --break-stream-after 3"}}
groups:
  all: {{swap: false, members: [alpha, cut]}}
"""
HI = [{"role": "user", "content": "hi"}]
STREAMS = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 50},
}


@pytest.fixture(scope="module", params=["llmsnap", "gunicorn"])
def server(tmp_path_factory, request):
    with serving(tmp_path_factory.mktemp("api"), CONFIG, door=request.param) as running:
        yield running


def received(server: Running, path: str, body: dict, version: str = "1.1") -> tuple[bytes, bool]:
    """Everything the server sends for a request, and whether it ended with a reset."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    client = RawClient(("127.0.0.1", server.port))
    data = b""
    with client.sock as sock:
        sock.sendall(head.encode() + content)
        try:
            while not data.endswith(b"\r\n0\r\n\r\n") and (piece := sock.recv(65536)):
                data += piece
        except ConnectionResetError:
            return data, True
    return data, False


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """The body of a chunked answer, and whether its last chunk came."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"chunked" in head, head
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body, False


def last_event(body: bytes) -> dict:
    assert body.endswith(b"\n\n")
    return json.loads(body.strip().rpartition(b"data: ")[2])


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_that_breaks_ends_with_an_error_in_its_own_shape(server, path: str) -> None:
    data, _ = received(server, path, {"model": "cut", "stream": True, **STREAMS[path]})
    body, complete = dechunked(data)
    assert complete, "or clients report the missing last chunk instead of the error"
    assert b"[DONE]" not in body
    assert b'"finish_reason":"' not in body.replace(b" ", b"")
    error = last_event(body)
    message = error["error"]["message"]
    assert "ended its answer too early" in message
    assert "localhost" not in message
    match path:
        case "/v1/messages":
            assert b"\nevent: error\ndata: " in body
            assert (error["type"], error["error"]["type"]) == ("error", "api_error")
        case "/v1/responses":
            assert b"\nevent: error\ndata: " in body
            assert error["type"] == "error"
            assert error["sequence_number"] == body.count(b"sequence_number") - 1
        case _:
            assert error["error"]["type"] == "server_error"


def test_an_http_1_0_client_gets_the_error_and_no_reset(server: Running) -> None:
    body = {"model": "cut", "stream": True, "messages": HI}
    data, was_reset = received(server, "/v1/chat/completions", body, "1.0")
    assert b"chunked" not in data
    assert "ended its answer too early" in last_event(data)["error"]["message"]
    assert not was_reset, "it could discard what has not been read"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_without_room_for_an_event_is_broken_off(server: Running, version: str) -> None:
    body = {"model": "cut", "stream": True, "messages": HI, "sim_encoding": "gzip"}
    data, was_reset = received(server, "/v1/chat/completions", body, version)
    assert was_reset if version == "1.0" else not dechunked(data)[1]


def test_an_answer_that_is_no_stream_just_breaks_off(server: Running) -> None:
    server.chat("alpha")
    with RawClient(("127.0.0.1", server.port)).sock as sock:
        sock.sendall(b"GET /upstream/alpha/slow-respond?delay=1s HTTP/1.1\r\nHost: x\r\n\r\n")
        data = sock.recv(65536)  # a minute before the last piece
        server.post("/api/models/unload/alpha")
        while piece := sock.recv(65536):
            data += piece
    body, complete = dechunked(data)
    assert not complete
    assert b"error" not in body


def test_unload_ends_a_stream_with_an_error(server: Running) -> None:
    server.chat("alpha")
    stream = server.chat("alpha", stream=True, sim_tps=5, sim_tokens=500)
    server.post("/api/models/unload/alpha")
    content = stream.content  # which raises where the last chunk is missing
    assert "alpha was unloaded while it answered" in last_event(content)["error"]["message"]


def test_an_idle_event_stream_begins_at_once_and_stays_open(server: Running) -> None:
    """What wakes machines over the network (wol-proxy) takes the first 200 as "it is up"."""
    with RawClient(("127.0.0.1", server.port)).sock as sock:
        sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = sock.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert b"text/event-stream" in head
        while b'"type":"metrics"' not in stream.readline():  # the last of what there is to tell
            pass
        # Nothing more is said while nothing happens, and then it is said here.
        server.post("/api/models/load/alpha")
        while b'"type":"modelStatus"' not in stream.readline():
            pass
        server.post("/api/models/unload/alpha")
