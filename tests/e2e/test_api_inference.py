"""What becomes of a request on its way to a model, and of the answer on its way back."""

import gzip
import json
import zlib

import gevent
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
    concurrencyLimit: 1
  renamed:
    cmd: ${{sim}}
    useModelName: upstreamModel
  filtered:
    cmd: ${{sim}}
    filters:
      stripParams: "temperature, stream, nested.x"
      setParams: {{top_k: 5, "deep.key": 1}}
      setParamsByID:
        filtered: {{think: false}}
        "filtered:think": {{think: true}}
  author/model:
    cmd: ${{sim}}
  author:
    cmd: ${{sim}}
  slow:
    cmd: ${{sim}} --load-time 2
groups:
  all:
    swap: false
    members: [model1, renamed, filtered, author/model, author, slow]
profiles:
  desk:
    pins: {{gpt: author, model1: filtered:think, slow: }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api"), CONFIG) as running:
        yield running


def chat(model: str, **members) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **members}


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


def test_a_route_without_its_version_goes_on_without_one(server: Running) -> None:
    answer = server.post("/v/embeddings", {"model": "model1", "input": "x"})
    assert answer.status_code == 404, "the simulator has no /embeddings"
    assert answer.json()["error"]["message"] == "no such path: /embeddings"


def test_a_slash_too_many_does_not_matter(server: Running) -> None:
    for path in ("/v1/embeddings/", "//v1/embeddings"):
        answer = server.post(path, {"model": "model1", "input": "x", "sim_echo": 1})
        assert arrived(answer)["target"] == "/v1/embeddings"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"messages": []}', "missing or invalid `model`"),
        (b'{"model": null}', "missing or invalid `model`"),
        (b'{"model": ""}', "missing or invalid `model`"),
        (b"[]", "expected an object"),
        (b"", "ends too early"),
        (b'{"model": "model1",}', "at byte 19 (line 1, column 20)"),
        (b'junk {"model": "model1"}', "at byte 0"),
        (b'{"model": "model1"} junk', "invalid JSON"),
    ],
)
def test_a_body_that_names_no_model_is_400(server: Running, body: bytes, says: str) -> None:
    answer = requests.post(f"{server.url}/v1/chat/completions", data=body, timeout=20)
    assert answer.status_code == 400
    assert says in error_of(answer)["message"]


def test_anthropic_routes_get_errors_in_anthropics_shape(server: Running) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v/messages"):
        document = server.post(path, {"model": "nope"}).json()
        assert document["type"] == "error"
        assert document["error"]["type"] == "not_found_error"


# --- what the model gets ------------------------------------------------------------------------


def test_a_request_that_nothing_applies_to_arrives_byte_for_byte(server: Running) -> None:
    body = b'{ "model":"first" ,"messages":[{"role":"user","content":"\\u00fc"}], "x":1.50}  '
    answer = requests.post(f"{server.url}/v1/chat/completions?a=1&b=%20", data=body, timeout=20)
    request = arrived(answer)
    assert request["body"] == body.decode()
    assert request["headers"]["content-length"] == str(len(body))
    assert request["target"] == "/v1/chat/completions?a=1&b=%20"


def test_use_model_name_replaces_the_name_and_nothing_else(server: Running) -> None:
    request = arrived(server.post("/v1/embeddings", {"model": "renamed", "input": "x"}))
    assert json.loads(request["body"]) == {"model": "upstreamModel", "input": "x"}
    assert request["headers"]["content-length"] == str(len(request["body"]))
    request = arrived(server.get("/v1/audio/voices?a=%20b&model=renamed&c="))
    assert request["query"] == {"model": "upstreamModel", "a": " b", "c": ""}


def test_filters_strip_then_set(server: Running) -> None:
    sent = b"""{"temperature": 0.5, "model":"filtered" , "nested":{"x":1,"y":2}, "top_k": 99,
 "input":"x", "stream": true}"""
    request = arrived(requests.post(f"{server.url}/v1/embeddings", data=sent, timeout=20))
    assert json.loads(request["body"]) == {
        "model": "filtered",
        "nested": {"y": 2},
        "top_k": 5,
        "input": "x",
        "deep": {"key": 1},
        "think": False,
    }
    assert '"model":"filtered" , "nested":{"y":2}, "top_k": 5' in request["body"]


def test_a_name_of_set_params_by_id_is_an_alias_with_parameters(server: Running) -> None:
    request = arrived(server.post("/v1/embeddings", {"model": "filtered:think", "input": "x"}))
    assert json.loads(request["body"])["think"] is True


def test_headers_that_pass_and_those_that_do_not(server: Running) -> None:
    headers = {
        "Authorization": "Bearer user",
        "X-Api-Key": "user",
        "User-Agent": "agent/1",
        "X-Forwarded-For": "9.9.9.9",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "TE": "trailers, deflate",
        "Trailer": "X-T",
        "Proxy-Authorization": "secret",
        "Accept-Encoding": "br, gzip;q=0.5, zstd",
        "Cookie": "a=b",
    }
    got = arrived(server.get("/upstream/model1/echo", headers=headers))["headers"]
    assert got["authorization"] == "Bearer user", "no keys are configured"
    assert got["x-api-key"] == "user"
    assert got["user-agent"] == "agent/1"
    assert got["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"
    assert got["te"] == "trailers"
    assert got["accept-encoding"] == "gzip;q=0.5"
    assert got["cookie"] == "a=b"
    assert got["host"] == f"127.0.0.1:{server.port}"
    assert not {"x-hop", "trailer", "proxy-authorization", "keep-alive"} & got.keys()


def test_a_chunked_request_is_sent_with_its_length(server: Running) -> None:
    body = json.dumps(chat("model1")).encode()
    pieces = iter([body[:10], body[10:]])
    answer = requests.post(f"{server.url}/v1/chat/completions", data=pieces, timeout=20)
    request = arrived(answer)
    assert request["body"].encode() == body
    assert request["headers"]["content-length"] == str(len(body))
    assert "transfer-encoding" not in request["headers"]


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_request_is_read_and_sent_on_plain(server: Running, encoding, encode) -> None:
    body = json.dumps(chat("model1", stream=False)).encode()
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = requests.post(
        f"{server.url}/v1/chat/completions", data=encode(body), headers=headers, timeout=20
    )
    request = arrived(answer)
    assert request["body"].encode() == body
    assert "content-encoding" not in request["headers"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"model1"' + b',"":0' * 100_000 + b"}",
        b'{"model":"model1","a":"\\ud83d"' + b',"a":[[]]' * 50_000 + b"}",
        b'{"model":"model1"' + b" " * (50 << 20) + b"}",
    ],
)
def test_what_is_large_in_few_bytes_is_refused(server: Running, body: bytes) -> None:
    headers = {"Content-Encoding": "gzip"}
    packed = gzip.compress(body)
    answer = requests.post(f"{server.url}/v1/embeddings", data=packed, headers=headers, timeout=20)
    assert answer.status_code in {400, 413}


def test_json_with_the_model_in_the_query_is_served(server: Running) -> None:
    body = b'{ "input_prefix" : "a", "input_suffix" : "" }'
    answer = requests.post(f"{server.url}/infill?model=first&x=1", data=body, timeout=20)
    request = arrived(answer)
    assert request["body"].encode() == body
    assert request["target"] == "/infill?model=first&x=1"


def test_an_encoding_nobody_reads_is_415(server: Running) -> None:
    headers = {"Content-Encoding": "br"}
    answer = server.post("/v1/embeddings", {"model": "model1"}, headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_encoding")


def test_below_upstream_a_body_passes_as_it_is(server: Running) -> None:
    body = gzip.compress(b"x" * 1000)
    headers = {"Content-Encoding": "gzip"}
    answer = requests.put(
        f"{server.url}/upstream/model1/echo", data=body, headers=headers, timeout=20
    )
    request = arrived(answer)
    assert (request["method"], request["body_bytes"]) == ("PUT", len(body))
    assert request["headers"]["content-encoding"] == "gzip"


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


def test_filters_and_names_apply_to_the_fields_of_an_upload(server: Running) -> None:
    assert ["model", "upstreamModel"] in upload(server, model="renamed").json()["fields"]
    fields = upload(server, model="filtered", temperature="0.5", top_k="9").json()["fields"]
    assert fields == [["model", "filtered"], ["top_k", "5"], ["think", "false"]]


def test_the_model_of_an_upload_may_stand_in_the_address(server: Running) -> None:
    document = upload(server, "/v1/audio/transcriptions?xmodel=1&model=model1").json()
    assert document["model"] == "model1"


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({"Content-Type": "application/json"}, b"{}", "multipart/form-data"),
        ({"Content-Type": "multipart/form-data"}, b"x", "boundary"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"junk", "multipart form"),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n',
            "missing or invalid `model` parameter in form data",
        ),
    ],
)
def test_what_is_no_usable_form_is_400(server: Running, headers, body: bytes, says: str) -> None:
    for path in ("/v1/audio/transcriptions", "/v1/images/edits"):
        answer = requests.post(server.url + path, data=body, headers=headers, timeout=20)
        assert answer.status_code == 400
        assert says in error_of(answer)["message"]


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


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/upstream/model1/echo"])
def test_too_large_a_chunked_body_is_refused_as_well(server: Running, path: str) -> None:
    pieces = iter([b" " * 100_000] * 30)
    answer = requests.post(server.url + path, data=pieces, timeout=20)
    assert answer.status_code == 413


def test_what_decompresses_to_too_much_is_refused(server: Running) -> None:
    bomb = gzip.compress(b" " * (40 * MIB))
    headers = {"Content-Encoding": "gzip"}
    answer = requests.post(
        f"{server.url}/v1/chat/completions", data=bomb, headers=headers, timeout=20
    )
    assert answer.status_code == 413


def test_a_full_model_answers_429_and_when_to_come_again(server: Running) -> None:
    server.chat("model1")
    with server.post("/v1/chat/completions", chat("model1", stream=True, sim_tps=5), stream=True):
        answer = server.chat("model1")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert error_of(answer)["type"] == "rate_limit_error"
    assert "concurrencyLimit" in error_of(answer)["message"]


# --- waiting ------------------------------------------------------------------------------------


@pytest.fixture
def slow_is_stopped(server: Running):
    server.post("/api/models/unload/slow")


@pytest.mark.usefixtures("slow_is_stopped")
def test_a_request_may_say_that_nothing_is_loaded_for_it(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": "slow"}, headers={"X-Swap": "never"})
    assert answer.status_code == 409
    assert "slow is stopped" in error_of(answer)["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert "slow" not in server.running()


@pytest.mark.usefixtures("slow_is_stopped")
def test_a_request_may_say_how_long_it_waits(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": "slow"}, headers={"X-Max-Wait": "0.2"})
    assert (answer.status_code, error_of(answer)["code"]) == (503, "queue_timeout")
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("wait", ["soon", "nan", "-1", "inf"])
def test_a_wait_that_is_no_number_is_400(server: Running, wait: str) -> None:
    answer = server.post("/v1/embeddings", {"model": "slow"}, headers={"X-Max-Wait": wait})
    assert answer.status_code == 400


@pytest.mark.usefixtures("slow_is_stopped")
def test_the_answer_tells_how_long_was_waited(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": "slow", "input": "x"})
    assert int(answer.headers["X-Load-Ms"]) >= 2000
    assert int(answer.headers["X-Queue-Ms"]) >= 0
    answer = server.post("/v1/embeddings", {"model": "slow", "input": "x"})
    assert answer.headers["X-Load-Ms"] == "0"


@pytest.mark.usefixtures("slow_is_stopped")
def test_an_open_tabs_icons_load_nothing(server: Running) -> None:
    for path in ("favicon.ico", "static/app.js", "a/b.css?v=1"):
        answer = server.get(f"/upstream/slow/{path}")
        assert (answer.status_code, error_of(answer)["code"]) == (409, "model_not_ready")
    assert "slow" not in server.running()


# --- below /upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/upstream/model1/echo", "/echo"),
        ("/upstream/first/echo", "/echo"),
        ("/upstream/author/echo", "/echo"),
        ("/upstream/author/model/echo/model", "/echo/model"),
        ("/upstream/author%2Fmodel/echo", "/echo"),
        ("/upstream//model1/echo", "/echo"),
        ("/upstream/model1/echo/%41%2f%20?q=%2F&r", "/echo/%41%2f%20?q=%2F&r"),
        ("/upstream/model1/echo//a/../b/", "/echo//a/../b/"),
    ],
)
def test_the_rest_of_the_path_goes_on_as_it_was_written(server, path: str, target: str) -> None:
    status, _, body = raw(server, f"GET {path} HTTP/1.1")
    assert (status, json.loads(body)["target"]) == (200, target)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "REPORT"])
def test_any_method_goes_on(server: Running, method: str) -> None:
    answer = requests.request(method, f"{server.url}/upstream/model1/echo", timeout=20)
    assert answer.status_code == 200
    if method != "HEAD":
        assert arrived(answer)["method"] == method


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)]
)
def test_a_model_alone_is_redirected_to_its_root(server, method: str, status: int) -> None:
    answer = requests.request(
        method, f"{server.url}/upstream/author/model?a=%20", allow_redirects=False, timeout=20
    )
    assert answer.status_code == status
    assert answer.headers["Location"] == "../../upstream/author/model/?a=%20"


def test_an_unknown_model_in_the_path_is_404_with_the_nearest(server: Running) -> None:
    answer = server.get("/upstream/modell/echo")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    assert "did you mean model1" in error_of(answer)["message"]


def test_redirects_stay_below_the_prefix(server: Running) -> None:
    server.chat("model1")
    port = next(
        one["proxy"].rpartition(":")[2]
        for one in server.get("/running").json()["running"]
        if one["model"] == "model1"
    )
    for sent, seen in [
        ("/login?a=1", "/upstream/model1/login?a=1"),
        (f"http://localhost:{port}/login", "/upstream/model1/login"),
        (f"http://127.0.0.1:{port}/", "/upstream/model1/"),
        (f"http://127.0.0.1:{server.port}/x", "/upstream/model1/x"),
        ("login", "login"),
        ("https://elsewhere.example/", "https://elsewhere.example/"),
    ]:
        answer = server.get("/upstream/model1/redirect", params={"to": sent}, allow_redirects=False)
        where = answer.headers["Location"]
        assert answer.status_code == 302
        assert where == seen or f"/{where.removeprefix('../../')}" == seen


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(server: Running, status: int) -> None:
    got, headers, body = raw(server, f"GET /upstream/model1/status/{status} HTTP/1.1")
    assert (got, body) == (status, b"")
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("status", [201, 404, 418, 503, 599])
def test_a_models_own_status_passes(server: Running, status: int) -> None:
    answer = server.get(f"/upstream/model1/status/{status}")
    assert (answer.status_code, answer.json()) == (status, {"status": status})


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
    sock = socket.create_connection(("127.0.0.1", server.port))
    head = "PUT /upstream/model1/echo?gone HTTP/1.1\r\nHost: x\r\nContent-Length: 1900000\r\n\r\n"
    sock.sendall(head.encode() + b" " * 70_000)
    gevent.sleep(0.2)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()
    server.wait_output(r'"PUT /upstream/model1/echo HTTP/1.1" (499|400)')


# --- profiles -----------------------------------------------------------------------------------


def test_a_profile_changes_what_names_mean(server: Running) -> None:
    def activate(name: str | None) -> dict:
        url = f"{server.url}/api/profiles/active"
        return requests.put(url, json={"name": name}, timeout=20).json()

    assert server.post("/v1/chat/completions", chat("gpt")).status_code == 404
    assert activate("desk") == {"active": "desk"}
    try:
        sent = arrived(server.post("/v1/chat/completions", chat("gpt")))
        assert json.loads(sent["body"])["model"] == "author"
        sent = arrived(server.post("/v1/chat/completions", chat("model1")))
        assert json.loads(sent["body"])["think"] is True
        assert server.get("/upstream/gpt/v1/models").json()["data"][0]["id"] == "author"
        refused = server.post("/v1/chat/completions", chat("slow"))
        assert refused.status_code == 404
        assert "desk" in error_of(refused)["message"]
    finally:
        assert activate(None) == {"active": None}
    assert server.post("/v1/chat/completions", chat("gpt")).status_code == 404
