"""conf/nginx.conf and conf/Caddyfile as they are, in front of llmsnap: nothing is held back."""

import base64
import os
from collections.abc import Iterator

import pytest
import requests
from gevent import socket

from tests.e2e.harness import Running
from tests.e2e.proxies import NAME, caddy, needs, nginx, standing
from tests.fakes.ports import free_port

pytestmark = pytest.mark.e2e

CONFIG = f"""\
startPort: {{port}}
trustedProxies: [127.0.0.1/32]
allowedHosts: [{NAME}]
models:
  alpha:
    cmd: {{sim}}
"""


class Front:
    """A proxy in front of *server*, asked by its public name."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, **more) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return requests.request(method, url, headers={"Host": NAME}, timeout=20, **more)


@pytest.fixture(
    scope="module",
    params=[pytest.param(command, marks=needs(command)) for command in (nginx, caddy)],
)
def front(
    request: pytest.FixtureRequest, server: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp(request.param.__name__)
    port = free_port()
    with standing(request.param(folder, port, server.port), folder, port):
        yield Front(port)


def chat(**members) -> dict:
    return {"model": "alpha", "messages": [{"role": "user", "content": "hi"}], **members}


def test_a_token_comes_through_as_it_is_made(front: Front, server: Running) -> None:
    endless = chat(stream=True, sim_tokens=100000, sim_tps=5)
    assert server.chat("alpha").status_code == 200
    gone = server.get("/upstream/alpha/sim/state").json()["clients_gone"]
    answer = front.ask("POST", "/v1/chat/completions", json=endless, stream=True)
    assert next(answer.iter_lines()).startswith(b"data: {")
    answer.close()
    server.wait_for(
        lambda: server.get("/upstream/alpha/sim/state").json()["clients_gone"] == gone + 1
    )


def test_an_idle_stream_of_events_begins_at_once_and_stays_open(
    front: Front, server: Running
) -> None:
    answer = front.ask("GET", "/api/events", stream=True)
    lines = answer.iter_lines()
    assert next(lines)
    server.get("/v1/models")
    server.chat("alpha", "a sign")
    while b"metrics" not in next(lines):
        pass
    answer.close()


def test_a_body_beyond_the_usual_limit_of_proxies_comes_through(front: Front) -> None:
    answer = front.ask("POST", "/v1/chat/completions", json=chat(padding="x" * 3_000_000))
    assert answer.status_code == 200


def test_a_websocket_comes_through(front: Front) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /api/ws HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as sock:
        sock.sendall(head.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 101 ")
