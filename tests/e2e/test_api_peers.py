"""Models that other servers have."""

import json

import pytest
import requests

from tests.e2e.api import arrived, error_of, peer, raw, serving
from tests.e2e.harness import Running, text_of

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
models:
  mine:
    cmd: {sim} --echo-requests
    aliases: [my]
peers:
  a-dead:
    proxy: http://127.0.0.1:1
    models: [both, lost, mine]
    filters: {{stripParams: keep, setParams: {{from: a-dead}}}}
  b-echo:
    proxy: "{peer}/echo/"
    apiKey: key-of-peer
    models: [both, echoed, org/deep, mine]
    filters: {{stripParams: temperature, setParams: {{top_k: 5}}}}
  c-plain:
    proxy: "{peer}"
    models: [plain]
  d-silent:
    proxy: "{silent}"
    models: [silent]
    timeouts: {{responseHeader: 1}}
"""


@pytest.fixture(scope="module")
def url():
    with peer("--model", "plain", "--strict-model", "--silent") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory, url: str):
    folder = tmp_path_factory.mktemp("api")
    with (
        peer("--hang", "--silent") as silent,
        serving(folder, CONFIG, peer=url, silent=silent) as running,
    ):
        yield running


def test_a_peers_model_is_asked_under_the_peers_base_path(server: Running) -> None:
    request = arrived(server.post("/v1/embeddings?q=1", {"model": "echoed", "input": "x"}))
    assert request["target"] == "/echo/v1/embeddings?q=1"
    request = arrived(server.post("/v/embeddings", {"model": "echoed", "input": "x"}))
    assert request["target"] == "/echo/embeddings"


def test_a_peer_gets_its_own_host_and_key(server: Running, url: str) -> None:
    headers = {"Authorization": "Bearer client", "X-Api-Key": "client"}
    got = arrived(server.post("/v1/embeddings", {"model": "echoed"}, headers=headers))["headers"]
    assert got["authorization"] == "Bearer key-of-peer"
    assert got["x-api-key"] == "key-of-peer"
    assert got["host"] == url.removeprefix("http://")
    assert got["x-forwarded-for"] == "127.0.0.1"


def test_a_peer_learns_nothing_of_the_page_that_asks(server: Running) -> None:
    page = {"Cookie": "a=b", "Origin": "http://127.0.0.1", "Referer": "http://127.0.0.1/x"}
    got = arrived(server.post("/v1/embeddings", {"model": "echoed"}, headers=page))["headers"]
    assert not {"cookie", "origin", "referer"} & got.keys()


def test_a_peer_without_a_key_gets_the_clients(server: Running) -> None:
    body = {"model": "plain", "input": "x", "sim_echo": 1}
    got = arrived(server.post("/v1/embeddings", body))["headers"]
    assert not {"authorization", "x-api-key"} & got.keys()
    got = arrived(server.post("/v1/embeddings", body, headers={"Authorization": "Bearer c"}))
    assert got["headers"]["authorization"] == "Bearer c"


def test_a_peers_filters_apply_and_the_name_stays(server: Running) -> None:
    body = {"model": "echoed", "temperature": 1, "keep": True}
    request = arrived(server.post("/v1/embeddings", body))
    assert json.loads(request["body"]) == {"model": "echoed", "keep": True, "top_k": 5}


@pytest.mark.parametrize("name", ["b-echo/echoed", "b-echo/org/deep", "b-echo/both"])
def test_a_peer_may_be_named_with_its_model(server: Running, name: str) -> None:
    wanted = name.removeprefix("b-echo/")
    request = arrived(server.post("/v1/embeddings", {"model": name}))
    assert json.loads(request["body"])["model"] == wanted
    request = arrived(server.get(f"/v1/audio/voices?a=1&model={name}"))
    assert request["query"] == {"a": "1", "model": wanted}
    sound = {"file": ("a.wav", b"x" * 9, "audio/wav"), "model": (None, name)}
    answer = requests.post(f"{server.url}/v1/audio/transcriptions", files=sound, timeout=20)
    assert f'name="model"\r\n\r\n{wanted}\r\n' in arrived(answer)["body"]


@pytest.mark.parametrize("body", ["json", "form"])
def test_when_a_peer_cannot_be_reached_the_next_one_is_asked(server: Running, body: str) -> None:
    if body == "json":
        answer = server.post("/v1/embeddings", {"model": "both", "keep": True})
        assert json.loads(arrived(answer)["body"]) == {"model": "both", "keep": True, "top_k": 5}
    else:
        form = {"file": ("a.wav", b"x" * 9), "model": (None, "both"), "keep": (None, "yes")}
        answer = requests.post(f"{server.url}/v1/audio/transcriptions", files=form, timeout=20)
        sent = arrived(answer)["body"]
        assert 'name="keep"\r\n\r\nyes' in sent
        assert "a-dead" not in sent, "nothing is left of the first peer's filters"
    server.wait_output("peer a-dead: .*trying the next one")
    record = server.get("/api/activity").json()
    assert '"peer": "b-echo"' in json.dumps(record)


def test_a_peer_that_nobody_can_replace_is_named(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": "lost"})
    assert answer.status_code == 502
    message = error_of(answer)["message"]
    assert message.startswith("peer proxy error: cannot connect to peer a-dead: ")


def test_a_peer_that_does_not_answer_in_time_is_named(server: Running) -> None:
    answer = server.chat("silent")
    assert answer.status_code == 504
    assert error_of(answer)["message"].startswith("peer proxy error: peer d-silent ")


def test_a_model_of_our_own_comes_before_a_peers(server: Running) -> None:
    assert "sim_request" in server.chat("mine").json()
    assert (
        arrived(server.post("/v1/embeddings", {"model": "b-echo/mine"}))["target"][:6] == "/echo/"
    )


def test_a_peer_streams(server: Running) -> None:
    stream = server.chat("plain", stream=True)
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert "You said: hi" in text_of(stream)


def test_below_upstream_a_peer_answers_inference_for_the_model_of_the_path(server) -> None:
    for name in ("echoed", "b-echo/echoed"):
        answer = server.post(f"/upstream/{name}/v1/embeddings?c", {"model": "echoed", "Model": "x"})
        request = arrived(answer)
        assert request["target"] == "/echo/v1/embeddings?c"
        assert json.loads(request["body"]) == {"model": "echoed", "top_k": 5}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("a%2Fb", None),
        ("api/captures/0", None),
        ("v1/models", None),
        ("../admin", None),
        ("v1/embeddings/%252e%252e/x", {"model": "echoed"}),
        ("v1/embeddings", {"model": "both"}),
        ("v1/embeddings", {"input": "x"}),
        ("v1/audio/voices?model=both", None),
    ],
)
def test_below_upstream_a_peer_answers_nothing_else(server: Running, path: str, body) -> None:
    head = f"{'POST' if body else 'GET'} /upstream/echoed/{path} HTTP/1.1"
    sent = json.dumps(body).encode() if body else b""
    status, _, answer = raw(server, head, sent)
    assert status == 400
    assert b"sim_request" not in answer


def test_a_peers_properties_are_asked_for(server: Running) -> None:
    assert arrived(server.get("/props?model=echoed"))["target"] == "/echo/props?model=echoed"
