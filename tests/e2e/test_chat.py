"""What a client of the inference routes sees, through the real command."""

import json

import gevent
import pytest
import requests

from tests.e2e.harness import events, text_of

openai = pytest.importorskip("openai")
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
    aliases: [first]
  slow:
    cmd: ${{sim}} --load-time 2
  broken:
    cmd: ${{sim}} --exit-at-start 3
  missing:
    cmd: no-such-program-x --port ${{PORT}}
  cut:
    cmd: ${{sim}} --break-stream-after 3
"""


@pytest.fixture
def server(start):
    return start(CONFIG)


def sim_state(server, model: str) -> dict:
    return server.get(f"/upstream/{model}/sim/state").json()


def test_chat_completions_and_embeddings_streamed_and_not(server) -> None:
    answer = server.chat("first")
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 40
    stream = server.chat("alpha", stream=True)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert len(list(events(stream))) > 40
    text = server.post("/v1/completions", {"model": "alpha", "prompt": "x"}).json()
    assert text["choices"][0]["text"]
    vector = server.post("/v1/embeddings", {"model": "alpha", "input": "x"}).json()
    assert vector["data"][0]["embedding"]


def test_the_openai_client_works(server) -> None:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    assert [model.id for model in client.models.list()][:2] == ["alpha", "broken"]
    chunks = client.chat.completions.create(
        model="alpha", stream=True, messages=[{"role": "user", "content": "hi"}]
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    with pytest.raises(openai.NotFoundError, match="did you mean alpha"):
        client.chat.completions.create(model="alpa", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="", messages=MESSAGES)
    client.close()


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
    with pytest.raises(requests.Timeout):
        requests.post(
            server.url + "/v1/chat/completions",
            json={"model": "slow", "messages": MESSAGES},
            timeout=0.5,
        )
    server.wait_output(r'"POST /v1/chat/completions HTTP/1.1" 499')
    assert server.chat("slow").status_code == 200, "the load went on, and serves the next one"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_noticed_by_the_upstream(server, stream: bool) -> None:
    server.chat("alpha")
    body = {
        "model": "alpha",
        "messages": MESSAGES,
        "stream": stream,
        "sim_tokens": 100000,
        "sim_tps": 5,
    }
    answer = (
        requests.post(server.url + "/v1/chat/completions", json=body, timeout=1, stream=True)
        if stream
        else None
    )
    if answer is not None:
        next(answer.iter_lines())
        answer.close()
    else:
        with pytest.raises(requests.Timeout):
            requests.post(server.url + "/v1/chat/completions", json=body, timeout=0.5)
    server.wait_for(lambda: sim_state(server, "alpha")["clients_gone"] == 1)
    server.wait_output(r'"POST /v1/chat/completions HTTP/1.1" 499')


def test_a_stream_that_breaks_ends_with_an_error(server) -> None:
    received = server.chat(
        "cut", stream=True
    ).content  # which raises where the last chunk is missing
    last = json.loads(received.strip().rpartition(b"data: ")[2])
    assert "ended its answer too early" in last["error"]["message"]
    assert b"[DONE]" not in received


def test_many_streams_at_once(server) -> None:
    server.chat("alpha")
    streams = [
        gevent.Greenlet(lambda: text_of(server.chat("alpha", stream=True))) for _ in range(20)
    ]
    for stream in streams:
        stream.start()
    gevent.joinall(streams, raise_error=True)
    assert len({stream.value for stream in streams}) == 1


def test_unload_and_running(server) -> None:
    server.chat("alpha")
    assert server.running() == {"alpha": "ready"}
    assert server.get("/unload").text == "OK"
    assert server.running() == {}
