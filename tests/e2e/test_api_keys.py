"""Who may do what: API keys, scoped keys, Host and Origin."""

import base64
import json

import pytest
import requests

from tests.e2e.api import arrived, error_of, raw, serving
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
apiKeys:
  - plain-key
  - "key:with:colons"
  - {{key: chat-key, name: laptop, models: ["al*"], admin: false}}
  - {{key: reader-key, name: reader, admin: false}}
  - {{key: pages-key, name: pages, models: ["al*"], upstream: true}}
trustedProxies: [127.0.0.1]
allowedOrigins: ["https://friend.example"]
models:
  alpha: {{cmd: "{sim} --echo-requests", aliases: [first]}}
  beta: {{cmd: "{sim}", aliases: [algae]}}
peers:
  p: {{proxy: "http://127.0.0.1:1", models: [remote, alien]}}
"""
OPEN = """\
startPort: {port}
allowedHosts: ["*.good.example"]
allowedOrigins: ["https://friend.example"]
inferenceOrigins: ["https://chat.example"]
models:
  alpha: {{cmd: "{sim}"}}
"""
PROTECTED = (
    "/v1/models", "/models", "/running", "/unload", "/upstream", "/upstream/alpha/", "/logs",
    "/logs/stream", "/api/events", "/api/metrics", "/api/version", "/api/captures/1",
    "/api/config/status", "/api/openapi.json", "/metrics", "/props", "/props?model=alpha",
    "/v1/audio/voices?model=alpha", "/nope",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def no_keys(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api"), OPEN) as running:
        yield running


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


ADMIN, SCOPED, READER = bearer("plain-key"), bearer("chat-key"), bearer("reader-key")
PAGES = bearer("pages-key")


# --- with keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROTECTED)
def test_without_a_key_everything_is_closed(server: Running, path: str) -> None:
    answer = server.get(path, allow_redirects=False)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="llmsnap"'
    assert error_of(answer)["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/health", "/ready", "/wol-health"])
def test_health_needs_no_key(server: Running, path: str) -> None:
    assert server.get(path).status_code == 200
    assert server.get(path, headers=bearer("wrong")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "plain-key"}, 200),
        ({"Authorization": "Bearer plain-key"}, 200),
        ({"Authorization": "bearer plain-key"}, 200),
        ({"Authorization": basic("anyone", "plain-key")}, 200),
        ({"Authorization": basic("", "key:with:colons")}, 200),
        ({"Authorization": "Bearer plain-key", "x-api-key": "plain-key"}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({}, 401),
        ({"Authorization": basic("plain-key", "wrong")}, 401),
        ({"Authorization": "Bearer wrong", "x-api-key": "plain-key"}, 200),
        ({"Authorization": "Bearer plain-key", "x-api-key": "wrong"}, 200),
        ({"Authorization": "Bearer wrong", "x-api-key": "wrong"}, 401),
        ({"Authorization": "Basic !!!", "x-api-key": "plain-key"}, 200),
        ({"Authorization": "Digest x", "x-api-key": "plain-key"}, 200),
        ({"Authorization": basic("x", ""), "x-api-key": "plain-key"}, 200),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "plain-key"}, 401),
    ],
)
def test_where_a_key_may_stand(server: Running, headers: dict, status: int) -> None:
    assert server.get("/v1/models", headers=headers).status_code == status


def test_a_key_in_the_query_is_none(server: Running) -> None:
    assert server.get("/v1/models?api_key=plain-key&key=plain-key").status_code == 401


def test_a_key_never_goes_on(server: Running) -> None:
    for headers in (ADMIN, {"x-api-key": "plain-key"}, {"Authorization": basic("", "plain-key")}):
        body = {"model": "alpha", "input": "x"}
        for answer in (
            server.post("/v1/embeddings", body, headers=headers),
            server.get("/upstream/alpha/echo", headers=headers),
        ):
            assert not {"authorization", "x-api-key"} & arrived(answer)["headers"].keys()


def test_anthropic_clients_are_refused_in_their_shape(server: Running) -> None:
    answer = server.post("/v1/messages", {"model": "alpha"})
    assert answer.status_code == 401
    assert answer.json()["type"] == "error"
    assert error_of(answer)["type"] == "authentication_error"


def test_no_key_is_in_the_log_but_its_name_is(server: Running) -> None:
    server.get("/v1/models?named", headers=SCOPED)
    server.wait_output(r'"GET /v1/models HTTP/1.1" 200 .*key=laptop')
    assert "chat-key" not in server.output
    assert "plain-key" not in server.output


def test_the_client_is_who_a_trusted_proxy_says(server: Running) -> None:
    headers = {**ADMIN, "X-Forwarded-For": "6.6.6.6, 203.0.113.9"}
    got = arrived(server.get("/upstream/alpha/echo", headers=headers))["headers"]
    assert got["x-forwarded-for"] == "6.6.6.6, 203.0.113.9, 127.0.0.1"
    server.wait_output(r'203\.0\.113\.9 "GET /upstream/alpha/echo')


# --- scoped keys --------------------------------------------------------------------------------


def test_a_scoped_key_sees_its_models_only(server: Running) -> None:
    names = [one["id"] for one in server.get("/v1/models", headers=SCOPED).json()["data"]]
    assert names == ["alpha", "p/alien"]
    assert server.get("/v1/models/alpha", headers=SCOPED).status_code == 200
    assert server.get("/v1/models/beta", headers=SCOPED).status_code == 404
    names = [one["id"] for one in server.get("/v1/models", headers=READER).json()["data"]]
    assert names == ["alpha", "beta", "p/alien", "p/remote"]


@pytest.mark.parametrize(
    ("name", "status"),
    [("alpha", 200), ("first", 200), ("beta", 404), ("remote", 404), ("p/remote", 404), ("x", 404)],
)
def test_a_scoped_key_uses_its_models_only(server: Running, name: str, status: int) -> None:
    answer = server.post("/v1/embeddings", {"model": name, "input": "x"}, headers=SCOPED)
    assert answer.status_code == status
    below = server.get(f"/upstream/{name}/echo", headers=PAGES)
    assert below.status_code == status
    inference = server.post(f"/upstream/{name}/v1/embeddings", {"input": "x"}, headers=SCOPED)
    assert inference.status_code == status
    assert server.get(f"/props?model={name}", headers=SCOPED).status_code == status
    if status == 404:
        assert error_of(answer)["code"] == error_of(below)["code"] == "model_not_found"
        assert server.get(f"/upstream/{name}", headers=SCOPED).status_code == 404


def test_below_upstream_a_hidden_model_is_as_unknown_as_any(server: Running) -> None:
    told = set()
    for name in ("beta", "remote", "nope1"):
        for rest in ("", "/", "/echo", "/v1/embeddings", "/pause", "/%2e%2e/x"):
            answer = server.get(f"/upstream/{name}{rest}", headers=SCOPED, allow_redirects=False)
            told.add((answer.status_code, answer.text.replace(name, "X")))
    assert len(told) == 1


def test_a_key_without_the_right_reaches_inference_only_below_upstream(server: Running) -> None:
    for path in ("echo", "pause", "release_memory_occupation", "", "v1/models", "slots/0"):
        for key in (SCOPED, READER):
            answer = server.post(f"/upstream/alpha/{path}", {}, headers=key)
            assert answer.status_code == 403
            assert "upstream: true" in error_of(answer)["message"]
    assert server.get("/upstream/alpha/echo", headers=PAGES).status_code == 200
    assert server.post("/upstream/alpha/sleep", {}, headers=PAGES).status_code == 403


def test_a_refusal_names_no_model_that_the_key_may_not_see(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": "bet"}, headers=SCOPED)
    assert "beta" not in answer.text
    answer = server.post("/v1/embeddings", {"model": "bet"}, headers=ADMIN)
    assert "did you mean beta" in answer.text


def test_a_scoped_key_sees_its_running_models_but_not_how_they_are_started(server) -> None:
    for model in ("alpha", "beta"):
        server.post("/v1/embeddings", {"model": model, "input": "x"}, headers=ADMIN)
        running = server.get("/running", headers=SCOPED).json()["running"]
        assert [one["model"] for one in running] == (["alpha"] if model == "alpha" else [])
        assert not any(one["cmd"] or one["proxy"] for one in running)
    (one,) = server.get("/running", headers=ADMIN).json()["running"]
    assert "simulator" in one["cmd"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/unload"),
        ("GET", "/unload/"),
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/unload/alpha"),
        ("POST", "/api/models/sleep/alpha"),
        ("POST", "/api/models/load/alpha"),
        ("POST", "/api/config/reload"),
        ("GET", "/api/config/status"),
        ("GET", "/logs"),
        ("GET", "//logs"),
        ("GET", "/logs/stream/alpha"),
        ("GET", "/api/events"),
        ("GET", "/api/metrics"),
        ("GET", "/api/activity"),
        ("GET", "/api/inflight"),
        ("GET", "/api/captures/1"),
        ("POST", "/upstream/alpha/sleep"),
        ("POST", "/upstream/alpha/wake_up"),
        ("POST", "/upstream/alpha/collective_rpc"),
        ("POST", "/upstream/alpha/reset_prefix_cache"),
        ("POST", "/upstream/alpha//sleep/"),
        ("POST", "/upstream/alpha/%73leep"),
        ("POST", "//upstream/alpha/x/../sleep"),
    ],
)
def test_a_key_without_admin_may_not(server: Running, method: str, path: str) -> None:
    for key in ("chat-key", "reader-key"):
        status, _, body = raw(server, f"{method} {path} HTTP/1.1\nAuthorization: Bearer {key}")
        assert status == 403
        assert json.loads(body)["error"]["type"] == "permission_error"


@pytest.mark.parametrize("path", ["/api/version", "/api/openapi.json", "/running"])
def test_a_key_without_admin_may(server: Running, path: str) -> None:
    assert server.get(path, headers=SCOPED).status_code == 200


# --- without keys: the Host header --------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("localhost:1", 200),
        ("a.localhost", 200),
        ("llmsnap", 200),
        ("box.local", 200),
        ("box.internal", 200),
        ("box.lan", 200),
        ("box.home.arpa", 200),
        ("box.tail1.ts.net", 200),
        ("api.good.example", 200),
        ("API.GOOD.EXAMPLE.", 200),
        ("evil.example", 421),
        ("good.example", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
def test_which_hosts_are_answered(no_keys: Running, host: str, status: int) -> None:
    answer = no_keys.get("/v1/models", headers={"Host": host})
    assert answer.status_code == status
    assert no_keys.get("/health", headers={"Host": host}).status_code == 200
    if status == 421:
        assert f'allowedHosts: ["{host}"]' in error_of(answer)["message"]


def test_a_strange_host_is_warned_of_once(no_keys: Running) -> None:
    for _ in range(2):
        no_keys.get("/v1/models", headers={"Host": "once.example"})
    no_keys.get("/after-the-hosts")
    no_keys.wait_output("GET /after-the-hosts")
    assert no_keys.output.count("does not answer for host 'once.example'") == 1


def test_with_keys_any_host_is_answered(server: Running) -> None:
    assert server.get("/v1/models", headers={**ADMIN, "Host": "evil.example"}).status_code == 200


# --- other origins ------------------------------------------------------------------------------

PAGE, FRIEND = "https://page.example", "https://friend.example"
CHAT = "https://chat.example"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (None, "Content-Type, Authorization, Accept, X-Requested-With"),
        ("X-One, b@d, x-two", "X-One, x-two"),
        ("b@d", None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/events", "/nope", "/upstream/a/b"])
def test_any_preflight_is_answered(server: Running, path: str, asked, allowed) -> None:
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    if asked is not None:
        headers["Access-Control-Request-Headers"] = asked
    answer = requests.options(server.url + path, headers=headers, timeout=20)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == (
        "GET, POST, PUT, PATCH, DELETE, OPTIONS"
    )
    assert answer.headers["Access-Control-Max-Age"] == "86400"
    assert answer.headers.get("Access-Control-Allow-Headers") == allowed


SHARED = ["/v1/models", "/models", "/v1/models/alpha", "/health", "/v1/audio/voices?model=alpha"]
CLOSED = ["/running", "/logs", "/api/version", "/metrics", "/upstream/alpha/echo", "/nope"]


@pytest.mark.parametrize("path", [*SHARED, "/v1/chat/completions", "/v1/audio/voices"])
def test_pages_may_read_what_is_shared_errors_included(no_keys: Running, path: str) -> None:
    answer = no_keys.get(path, headers={"Origin": PAGE})
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("path", CLOSED)
def test_pages_may_not_read_the_rest_unless_listed(no_keys: Running, path: str) -> None:
    answer = no_keys.get(path, headers={"Origin": PAGE})
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = no_keys.get(path, headers={"Origin": FRIEND})
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


def test_a_refused_key_can_be_read_by_the_page_that_sent_it(server: Running) -> None:
    answer = server.post("/v1/chat/completions", {}, headers={"Origin": PAGE})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


WRITES = [
    ("GET", "/unload"),
    ("POST", "/api/models/unload"),
    ("POST", "/api/models/load/nope"),
    ("POST", "/api/models/sleep/nope"),
    ("POST", "/api/config/reload"),
    ("POST", "/api/inflight/99/cancel"),
    ("POST", "/upstream/nope/x"),
    ("DELETE", "/upstream/nope/x"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Origin": PAGE}, True),
        ({"Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": "https://other.example", "Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_what_acts_is_refused_to_other_sites(no_keys, method, path, headers, refused) -> None:
    answer = requests.request(method, no_keys.url + path, headers=headers, timeout=20)
    assert (answer.status_code == 403) is refused


def test_our_own_page_may_act(no_keys: Running) -> None:
    headers = {"Origin": no_keys.url, "Sec-Fetch-Site": "same-origin"}
    assert no_keys.get("/unload", headers=headers).status_code == 200


NEAR = "http://localhost:3000"


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"Origin": NEAR, "Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "http://192.168.1.9", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": CHAT, "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_pages_may_ask_models_from_nearby_or_when_listed(no_keys, headers, served) -> None:
    answer = no_keys.post("/v1/embeddings", {"model": "alpha", "input": "x"}, headers=headers)
    assert answer.status_code == (200 if served else 403)
    assert answer.headers["Access-Control-Allow-Origin"] == headers["Origin"]


def test_a_page_that_has_a_key_may_ask_models_from_anywhere(server: Running) -> None:
    body = {"model": "alpha", "input": "x"}
    for key, status in ((ADMIN, 200), ({"Authorization": basic("", "plain-key")}, 403)):
        headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site", **key}
        assert server.post("/v1/embeddings", body, headers=headers).status_code == status


BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0"}
OPENS = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", **OPENS}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", **OPENS, "Sec-Fetch-Dest": "iframe"}, 403),
        ({**BROWSER, "Referer": "http://page.example/"}, 403),
        ({**BROWSER, "Upgrade-Insecure-Requests": "1"}, 200),
        (BROWSER, 409),
    ],
)
def test_what_loads_a_model_below_upstream(no_keys: Running, headers, status) -> None:
    assert no_keys.get("/unload").status_code == 200
    answer = no_keys.get("/upstream/alpha/echo", headers=headers)
    assert answer.status_code == status
    running = [one["model"] for one in no_keys.get("/running").json()["running"]]
    assert running == (["alpha"] if status == 200 else [])
