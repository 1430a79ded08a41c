"""What a client of the inference routes sees, through the real command."""

import gevent
import pytest
import requests

from tests.e2e.api import serving
from tests.e2e.harness import text_of

pytestmark = pytest.mark.e2e
MESSAGES = [{"role": "user", "content": "hi"}]

CONFIG = """\
startPort: {port}
healthCheckTimeout: 15
macros:
  sim: {sim}
models:
  alpha:
    cmd: ${{sim}} --tokens-per-second 200 --tokens 40
  slow:
    cmd: ${{sim}} --load-time 2
  broken:
    cmd: ${{sim}} --exit-at-start 3
  missing:
    cmd: no-such-program-x --port ${{PORT}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("chat"), CONFIG) as running:
        yield running


def sim_state(server, model: str) -> dict:
    return server.get(f"/upstream/{model}/sim/state").json()


def test_a_model_that_cannot_load_is_explained(server) -> None:
    answer = server.chat("broken")
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert "broken: ended with exit code 3 while loading" in error["message"]
    assert "--exit-at-start" in error["message"], "its last output"
    answer = server.chat("missing")
    assert answer.status_code == 502
    message = answer.json()["error"]["message"]
    assert "missing: its command was not found: no-such-program-x; correct cmd" in message


def test_a_port_taken_by_another_program_is_named(server, start) -> None:
    server.chat("alpha")
    other = start(
        CONFIG.replace("startPort: {port}", "startPort: " + str(port_of(server, "alpha")))
    )
    answer = other.chat("alpha")
    assert answer.status_code == 502
    assert "is held by python" in answer.json()["error"]["message"]


def port_of(server, model: str) -> int:
    entries = server.get("/running").json()["running"]
    return int(next(e["proxy"] for e in entries if e["model"] == model).rpartition(":")[2])


def test_a_client_that_leaves_while_it_waits_starts_nothing_more(server) -> None:
    body = {"model": "slow", "messages": MESSAGES}
    with pytest.raises(requests.Timeout):
        requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=0.5)
    server.wait_output(r'"POST /v1/chat/completions HTTP/1.1" 499')
    assert server.chat("slow").status_code == 200, "the load went on, and serves the next one"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_noticed_by_the_upstream(server, stream: bool) -> None:
    server.chat("alpha")
    gone = sim_state(server, "alpha")["clients_gone"]
    line = '"POST /v1/chat/completions HTTP/1.1" 499'
    logged = server.output.count(line)
    body = {"model": "alpha", "messages": MESSAGES, "sim_tokens": 100000, "sim_tps": 5}
    if stream:
        url = f"{server.url}/v1/chat/completions"
        answer = requests.post(url, json={**body, "stream": True}, timeout=9, stream=True)
        next(answer.iter_lines())
        answer.close()
    else:
        with pytest.raises(requests.Timeout):
            requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=0.5)
    server.wait_for(lambda: sim_state(server, "alpha")["clients_gone"] == gone + 1)
    server.wait_for(lambda: server.output.count(line) == logged + 1)


def test_many_streams_at_once(server) -> None:
    server.chat("alpha")
    streams = [
        gevent.Greenlet(lambda: text_of(server.chat("alpha", stream=True))) for _ in range(20)
    ]
    for stream in streams:
        stream.start()
    gevent.joinall(streams, raise_error=True)
    assert len({stream.value for stream in streams}) == 1
