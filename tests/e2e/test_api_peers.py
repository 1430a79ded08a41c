"""Models that other servers have."""

import json

import pytest
import requests

from tests.e2e.api import arrived, error_of, peer, serving
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


def test_a_peer_that_does_not_answer_in_time_is_named(server: Running) -> None:
    answer = server.chat("silent")
    assert answer.status_code == 504
    assert error_of(answer)["message"].startswith("peer proxy error: peer d-silent ")


def test_a_peer_streams(server: Running) -> None:
    stream = server.chat("plain", stream=True)
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert "You said: hi" in text_of(stream)


def test_a_peers_properties_are_asked_for(server: Running) -> None:
    assert arrived(server.get("/props?model=echoed"))["target"] == "/echo/props?model=echoed"
