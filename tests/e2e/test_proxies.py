"""conf/nginx.conf and conf/Caddyfile as they are, in front of llmsnap: nothing is held back."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import requests
from gevent import socket, subprocess

from tests.e2e.api import serving
from tests.e2e.harness import ROOT, Running
from tests.fakes.ports import free_port

pytestmark = pytest.mark.e2e

NAME = "llm.example.com"
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"  # of Debian's nginx
CONFIG = f"""\
startPort: {{port}}
trustedProxies: [127.0.0.1/32]
allowedHosts: [{NAME}]
models:
  alpha:
    cmd: {{sim}}
"""
NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{ours}
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https off\n}}\n{ours}"


def nginx(folder: Path, listen: int, upstream: int) -> list[str]:
    ours = (ROOT / "conf/nginx.conf").read_text()
    ours = put(ours, "listen 80;", f"listen 127.0.0.1:{listen};")
    ours = put(ours, "127.0.0.1:8080", f"127.0.0.1:{upstream}")
    file = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(NGINX.format(user=user, folder=folder, ours=ours))
    return ["nginx", "-c", str(file), "-p", str(folder)]


def caddy(folder: Path, listen: int, upstream: int) -> list[str]:
    ours = (ROOT / "conf/Caddyfile").read_text()
    ours = put(ours, f"{NAME} {{", f"http://{NAME}:{listen} {{")
    ours = put(ours, "reverse_proxy 127.0.0.1:8080", f"reverse_proxy 127.0.0.1:{upstream}")
    file = folder / "Caddyfile"
    file.write_text(CADDY.format(ours=ours))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def put(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def needs(command: Callable[..., list[str]]) -> pytest.MarkDecorator:
    missing = shutil.which(command.__name__, path=SEARCH_PATH) is None
    return pytest.mark.skipif(missing, reason=f"{command.__name__} is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("proxies"), CONFIG) as running:
        assert running.chat("alpha").status_code == 200
        yield running


class Front:
    """A proxy in front of *server*, asked by its public name."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **more) -> requests.Response:
        return requests.get(self.url + path, headers={"Host": NAME}, timeout=20, **more)

    def post(self, path: str, **more) -> requests.Response:
        return requests.post(self.url + path, headers={"Host": NAME}, timeout=20, **more)


@pytest.fixture(
    scope="module",
    params=[pytest.param(command, marks=needs(command)) for command in (nginx, caddy)],
)
def front(
    request: pytest.FixtureRequest, server: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp(request.param.__name__)
    port = free_port()
    command = request.param(folder, port, server.port)
    env = {"PATH": SEARCH_PATH, "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    with gevent.Timeout(20):
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            gevent.sleep(0.02)
    yield Front(port)
    process.terminate()
    process.wait()


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def chat(**members) -> dict:
    return {"model": "alpha", "messages": [{"role": "user", "content": "hi"}], **members}


def test_a_token_comes_through_as_it_is_made(front: Front, server: Running) -> None:
    endless = chat(stream=True, sim_tokens=100000, sim_tps=5)
    gone = server.get("/upstream/alpha/sim/state").json()["clients_gone"]
    answer = front.post("/v1/chat/completions", json=endless, stream=True)
    assert next(answer.iter_lines()).startswith(b"data: {")
    answer.close()
    server.wait_for(
        lambda: server.get("/upstream/alpha/sim/state").json()["clients_gone"] == gone + 1
    )


def test_an_idle_stream_of_events_begins_at_once_and_stays_open(
    front: Front, server: Running
) -> None:
    answer = front.get("/api/events", stream=True)
    lines = answer.iter_lines()
    assert next(lines)
    server.get("/v1/models")
    server.chat("alpha", "a sign")
    while b"metrics" not in next(lines):
        pass
    answer.close()


def test_a_body_beyond_the_usual_limit_of_proxies_comes_through(front: Front) -> None:
    answer = front.post("/v1/chat/completions", json=chat(padding="x" * 3_000_000))
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
