"""Who may do what: API keys, scoped keys, Host and Origin."""

import base64
import json

import pytest

from tests.e2e.api import arrived, error_of, raw
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
allowedOrigins: ["https://friend.example"]
models:
  alpha: {{cmd: "{sim} --echo-requests", aliases: [first]}}
  beta: {{cmd: "{sim}", aliases: [algae]}}
peers:
  p: {{proxy: "http://127.0.0.1:1", models: [remote, alien]}}
"""
PROTECTED = (
    "/v1/models", "/models", "/running", "/unload", "/upstream", "/upstream/alpha/", "/logs",
    "/logs/stream", "/api/events", "/api/metrics", "/api/version", "/api/captures/1",
    "/api/config/status", "/api/openapi.json", "/metrics", "/props", "/props?model=alpha",
    "/v1/audio/voices?model=alpha", "/nope",
)  # fmt: skip


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


def test_a_key_never_goes_on(server: Running) -> None:
    for headers in (ADMIN, {"x-api-key": "plain-key"}, {"Authorization": basic("", "plain-key")}):
        body = {"model": "alpha", "input": "x"}
        for answer in (
            server.post("/v1/embeddings", body, headers=headers),
            server.get("/upstream/alpha/echo", headers=headers),
        ):
            assert not {"authorization", "x-api-key"} & arrived(answer)["headers"].keys()


def test_no_key_is_in_the_log_but_its_name_is(server: Running) -> None:
    server.get("/v1/models?named", headers=SCOPED)
    server.wait_output(r'"GET /v1/models HTTP/1.1" 200 .*key=laptop')
    assert "chat-key" not in server.output
    assert "plain-key" not in server.output


# --- scoped keys --------------------------------------------------------------------------------


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
        ("POST", "/api/config/reload"),
        ("GET", "//logs"),
        ("GET", "/api/events"),
        ("POST", "/upstream/alpha/%73leep"),
        ("POST", "//upstream/alpha/x/../sleep"),
    ],
)
def test_a_key_without_admin_may_not(server: Running, method: str, path: str) -> None:
    for key in ("chat-key", "reader-key"):
        status, _, body = raw(server, f"{method} {path} HTTP/1.1\nAuthorization: Bearer {key}")
        assert status == 403
        assert json.loads(body)["error"]["type"] == "permission_error"
