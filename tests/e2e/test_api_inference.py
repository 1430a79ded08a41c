"""What becomes of a request on its way to a model, and of the answer on its way back."""

import json

import pytest
import requests
from gevent import socket

from tests.e2e.api import arrived, error_of, raw, serving
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
healthCheckTimeout: 15
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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api"), CONFIG) as running:
        yield running


# --- which model --------------------------------------------------------------------------------

JSON_ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/embeddings": {"input": "hi"},
    "/v1/rerank": {"query": "a", "documents": ["a", "b"]},
    "/v1/reranking": {"query": "a", "documents": ["a", "b"]},
    "/rerank": {"query": "a", "documents": ["a", "b"]},
    "/reranking": {"query": "a", "documents": ["a", "b"]},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
    "/completion": {"prompt": "hi"},
    "/v1/audio/speech": {"input": "hi", "voice": "x"},
    "/v1/audio/voices": {},
    "/v1/images/generations": {"prompt": "a cat"},
    "/sdapi/v1/txt2img": {"prompt": "a cat"},
    "/sdapi/v1/img2img": {"prompt": "a cat", "init_images": [""]},
}


@pytest.mark.parametrize("path", JSON_ROUTES)
def test_each_json_route_reaches_the_model_by_id_and_alias(server: Running, path: str) -> None:
    for name in ("model1", "first"):
        answer = server.post(path, {"model": name, **JSON_ROUTES[path]})
        assert answer.status_code == 200, answer.text
    unknown = server.post(path, {"model": "modell", **JSON_ROUTES[path]})
    assert unknown.status_code == 404
    assert "did you mean model1" in error_of(unknown)["message"]


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/sdapi/v1/loras"])
def test_routes_that_name_the_model_in_the_query(server: Running, path: str) -> None:
    assert server.get(f"{path}?model=model1").status_code == 200
    head = requests.head(f"{server.url}{path}?model=nope", timeout=20)
    assert (head.status_code, head.content) == (404, b"")
    assert server.get(f"{path}?model=nope").status_code == 404


def test_without_a_model_some_are_answered_here_and_others_refused(server: Running) -> None:
    server.chat("model1")
    assert server.get("/v1/audio/voices").json() == {"voices": ["voice1", "voice2"]}
    listed = server.get("/v1/audio/models").json()
    assert "model1" in [record["id"] for record in listed["data"]]
    missing = server.get("/sdapi/v1/loras")
    assert (missing.status_code, error_of(missing)["param"]) == (400, "model")


def test_a_slash_too_many_does_not_matter(server: Running) -> None:
    for path in ("/v1/embeddings/", "//v1/embeddings"):
        answer = server.post(path, {"model": "model1", "input": "x", "sim_echo": 1})
        assert arrived(answer)["target"] == "/v1/embeddings"


# --- what the model gets ------------------------------------------------------------------------


def test_a_request_that_nothing_applies_to_arrives_byte_for_byte(server: Running) -> None:
    body = b'{ "model":"first" ,"messages":[{"role":"user","content":"\\u00fc"}], "x":1.50}  '
    answer = requests.post(f"{server.url}/v1/chat/completions?a=1&b=%20", data=body, timeout=20)
    request = arrived(answer)
    assert request["body"] == body.decode()
    assert request["headers"]["content-length"] == str(len(body))
    assert request["target"] == "/v1/chat/completions?a=1&b=%20"


# --- uploads ------------------------------------------------------------------------------------


def upload(server: Running, path: str = "/v1/audio/transcriptions", size: int = 1000, **fields):
    sound = ("speech.mp3", b"\x00\xff" * (size // 2), "audio/mpeg")
    return requests.post(
        server.url + path,
        files=[*((name, (None, value)) for name, value in fields.items()), ("file", sound)],
        timeout=20,
    )


def test_an_upload_arrives_whole_with_its_name_and_type(server: Running) -> None:
    document = upload(server, model="first", language="de").json()
    assert document["fields"] == [["model", "first"], ["language", "de"]]
    facts = ("filename", "file_bytes", "file_content_type")
    assert [document[fact] for fact in facts] == ["speech.mp3", 1000, "audio/mpeg"]


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


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(server: Running, status: int) -> None:
    got, headers, body = raw(server, f"GET /upstream/model1/status/{status} HTTP/1.1")
    assert (got, body) == (status, b"")
    assert "transfer-encoding" not in headers


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
