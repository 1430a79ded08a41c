"""What becomes of a request on its way to a model, and of the answer on its way back."""

import json

import pytest
import requests
from gevent import socket

from tests.e2e.api import arrived, error_of, raw
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
maxRequestBody: 1
maxUpload: 2
maxBodyMemory: 3
macros:
  sim: {sim} --echo-requests
models:
  model1:
    cmd: ${{sim}}
    aliases: [first]
  author/model:
    cmd: ${{sim}}
  author:
    cmd: ${{sim}}
groups:
  all: {{swap: false, members: [model1, author/model, author]}}
"""


# --- what the model gets ------------------------------------------------------------------------


def test_a_request_that_nothing_applies_to_arrives_byte_for_byte(server: Running) -> None:
    body = b'{ "model":"first" ,"messages":[{"role":"user","content":"\\u00fc"}], "x":1.50}  '
    answer = requests.post(f"{server.url}/v1/chat/completions?a=1&b=%20", data=body, timeout=20)
    request = arrived(answer)
    assert request["body"] == body.decode()
    assert request["headers"]["content-length"] == str(len(body))
    assert request["target"] == "/v1/chat/completions?a=1&b=%20"


# --- limits -------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/chat/completions", MIB),
        ("/v1/audio/transcriptions", 2 * MIB),
        ("/upstream/model1/echo", 2 * MIB),
    ],
)
def test_too_large_a_body_is_refused_before_it_is_read(server: Running, path, limit) -> None:
    head = f"POST {path} HTTP/1.1\nContent-Length: {limit + 1}"
    head += "\nContent-Type: multipart/form-data; boundary=b"
    status, headers, body = raw(server, head)
    assert status == 413
    assert json.loads(body)["error"]["code"] == "body_too_large"
    assert headers["connection"] == "close"


# --- below /upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/upstream/author/model/echo/model", "/echo/model"),
        ("/upstream/author%2Fmodel/echo", "/echo"),
        ("/upstream/model1/echo/%41%2f%20?q=%2F&r", "/echo/%41%2f%20?q=%2F&r"),
        ("/upstream/model1/echo//a/../b/", "/echo//a/../b/"),
    ],
)
def test_the_rest_of_the_path_goes_on_as_it_was_written(server, path: str, target: str) -> None:
    status, _, body = raw(server, f"GET {path} HTTP/1.1")
    assert (status, json.loads(body)["target"]) == (200, target)


def test_bodies_that_others_owe_the_end_of_leave_no_room_and_give_it_back(server: Running) -> None:
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n\r\n"

    def ask() -> requests.Response:
        return server.chat("model1", "hi" * 150_000)

    owing = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    try:
        for sock in owing:
            sock.sendall(head.encode() + b" " * (MIB - 1))
        server.wait_for(lambda: ask().status_code == 503)
        answer = ask()
        assert error_of(answer)["code"] == "no_room_for_body"
        assert "maxBodyMemory" in error_of(answer)["message"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert server.get("/v1/models").status_code == 200
        assert server.get("/upstream/model1/health").status_code == 200
    finally:
        for sock in owing:
            sock.close()
    server.wait_for(lambda: ask().status_code == 200)


# --- half a request -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/embeddings", "/upstream/model1/echo"])
@pytest.mark.parametrize("size", [1000, 1_900_000])
def test_a_body_that_ends_early_is_the_clients_fault(server: Running, path, size: int) -> None:
    server.chat("model1")
    size = min(size, MIB - 1) if path.startswith("/v1") else size
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode() + b" " * 100)
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


def test_a_client_that_leaves_while_it_uploads_is_logged_as_gone(server: Running) -> None:
    server.chat("model1")
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = "PUT /upstream/model1/echo?gone HTTP/1.1\r\nHost: x\r\nContent-Length: 1900000\r\n"
    sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert sock.recv(65536).startswith(b"HTTP/1.1 100 "), "it waits for the body"
    sock.sendall(b" " * 70_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()
    server.wait_output(r'"PUT /upstream/model1/echo HTTP/1.1" (499|400)')
