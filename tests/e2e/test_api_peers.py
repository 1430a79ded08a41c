"""Models that other servers have."""

import json

import pytest
import requests

from tests.e2e.api import arrived, error_of, peer
from tests.e2e.harness import Running

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
  d-silent:
    proxy: "{silent}"
    models: [silent]
    timeouts: {{responseHeader: 1}}
"""


@pytest.fixture(scope="module")
def places():
    hanging = peer("--hang", "--silent")
    with peer("--silent") as url, hanging as silent:
        yield {"peer": url, "silent": silent}


def test_a_peers_model_is_asked_under_the_peers_base_path(server: Running) -> None:
    request = arrived(server.post("/v1/embeddings?q=1", {"model": "echoed", "input": "x"}))
    assert request["target"] == "/echo/v1/embeddings?q=1"
    request = arrived(server.post("/v/embeddings", {"model": "echoed", "input": "x"}))
    assert request["target"] == "/echo/embeddings"


def test_a_peer_gets_its_own_host_and_key(server: Running, places: dict[str, str]) -> None:
    headers = {"Authorization": "Bearer client", "X-Api-Key": "client"}
    got = arrived(server.post("/v1/embeddings", {"model": "echoed"}, headers=headers))["headers"]
    assert got["authorization"] == "Bearer key-of-peer"
    assert got["x-api-key"] == "key-of-peer"
    assert got["host"] == places["peer"].removeprefix("http://")
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
    assert "b-echo" in {each["peer"] for each in server.records()}


def test_a_peer_that_does_not_answer_in_time_is_named(server: Running) -> None:
    answer = server.chat("silent")
    assert answer.status_code == 504
    assert error_of(answer)["message"].startswith("peer proxy error: peer d-silent ")
