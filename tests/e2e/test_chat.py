"""What a client of the inference routes sees, through the real command."""

import json

import pytest
from gevent import socket

pytestmark = pytest.mark.e2e
MESSAGES = [{"role": "user", "content": "hi"}]

CONFIG = """\
startPort: {port}
macros:
  sim: {sim}
models:
  alpha:
    cmd: ${{sim}} --tokens-per-second 200 --tokens 40
  slow:
    cmd: {gated}
"""


def sim_state(server) -> dict:
    return server.get("/upstream/alpha/sim/state").json()


def send(server, body: dict) -> socket.socket:
    """Send a chat whose answer is not awaited."""
    data = json.dumps({"messages": MESSAGES, **body}).encode()
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def test_a_port_taken_by_another_program_is_named(server, start) -> None:
    server.chat("alpha")
    other = start(
        CONFIG.replace("startPort: {port}", "startPort: " + str(port_of(server, "alpha")))
    )
    answer = other.chat("alpha")
    assert answer.status_code == 502
    assert "is held by python" in answer.json()["error"]["message"]


def port_of(server, model: str) -> int:
    return int(server.view(model)["proxy"].rpartition(":")[2])


def test_a_client_that_leaves_while_it_waits_starts_nothing_more(server) -> None:
    with send(server, {"model": "slow"}):
        server.wait_for(lambda: server.view("slow")["waiting"])
    server.wait_output(r'"POST /v1/chat/completions HTTP/1.1" 499')
    server.gate.touch()
    assert server.chat("slow").status_code == 200
    assert len([swap for swap in server.swaps() if swap["target"] == "slow"]) == 1, "it went on"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_noticed_by_the_upstream(server, stream: bool) -> None:
    server.chat("alpha")
    gone = sim_state(server)["clients_gone"]
    line = '"POST /v1/chat/completions HTTP/1.1" 499'
    logged = server.output.count(line)
    endless = {"model": "alpha", "stream": stream, "sim_tokens": 100000, "sim_tps": 5}
    with send(server, endless) as sock:
        if stream:
            assert sock.recv(1)
        server.wait_for(lambda: sim_state(server)["in_flight"])
    server.wait_for(lambda: sim_state(server)["clients_gone"] == gone + 1)
    server.wait_for(lambda: server.output.count(line) == logged + 1)
