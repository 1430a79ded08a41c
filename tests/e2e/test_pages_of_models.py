"""What servers of models show below /upstream: open streams, headers for browsers, their origin."""

import sys

import pytest
import requests

from tests.e2e.api import serving
from tests.e2e.harness import DEFAULT_DOOR, ROOT, Running
from tests.fakes.ports import free_port
from tests.parity import parity
from tests.server.raw import RawClient, request

pytestmark = pytest.mark.e2e

SITE = f"{sys.executable} {ROOT}/tests/fakes/website.py"
CONFIG = """\
startPort: {port}
models:
  a: {{cmd: "{site} --port ${{PORT}}"}}
  b: {{cmd: "{site} --port ${{PORT}}"}}
  held: {{cmd: "{site} --port ${{PORT}}", compat: {{ignoreStreams: false}}}}
  brief: {{cmd: "{site} --port ${{PORT}}", ttl: 1}}
  boxed: {{cmd: "{site} --port ${{PORT}}", sandbox: true}}
  comfyui_auto: {{cmd: "{site} --port ${{PORT}}"}}
"""


@pytest.fixture(scope="module")
def places():
    return {"site": SITE}


def listen(server: Running, path: str) -> RawClient:
    """A client of an event stream that has begun, which sees how it ends."""
    client = RawClient(("127.0.0.1", server.port))
    client.send(request(path, "GET", "Connection: close"))
    client.until(b"data: first")
    return client


def test_an_open_event_stream_holds_up_no_swap_and_ends_well(server: Running) -> None:
    listener = listen(server, "/upstream/a/events")
    answer = server.get("/upstream/b/file", headers={"X-Max-Wait": "30"})
    assert (answer.status_code, len(answer.content)) == (200, 1000)
    said = listener.rest()
    assert said.endswith(b"\r\n0\r\n\r\n"), "the last chunk, and no error before it"
    assert b"error" not in said
    listener.close()
    assert server.running() == {"b": "ready"}


def test_an_open_event_stream_does_not_renew_the_ttl(server: Running) -> None:
    listener = listen(server, "/upstream/brief/events")
    assert listener.rest().endswith(b"\r\n0\r\n\r\n")
    listener.close()
    server.wait_for(lambda: "brief" not in server.running())


@parity("ComfyUI", "`/comfyui/` serves the model `comfyui_auto`, and only its root loads it")
def test_comfyui_is_loaded_by_its_root_alone(server: Running) -> None:
    activity = server.records()
    moved = server.get("/comfyui?theme=dark", allow_redirects=False)
    assert (moved.status_code, moved.headers["Location"]) == (301, "comfyui/?theme=dark")
    assert server.post("/comfyui", {}, allow_redirects=False).status_code == 308
    server.post("/api/models/unload")
    stale = server.get("/comfyui/file")
    assert (stale.status_code, server.running()) == (409, {})
    assert "<title>quiet</title>" in server.get("/comfyui/").text
    assert server.running() == {"comfyui_auto": "ready"}
    assert len(server.get("/comfyui/file").content) == 1000
    assert server.records() == activity


def test_a_capture_runs_nothing(server: Running) -> None:
    server.post("/v1/embeddings", {"model": "a", "input": "<script>"})
    last = server.records()[0]
    for form in ("", "?format=curl", "?format=har"):
        answer = server.get(f"/api/captures/{last['id']}{form}")
        assert answer.status_code == 200
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.skipif(
    DEFAULT_DOOR != "llmsnap", reason="other servers are configured where to listen"
)
def test_pages_have_a_port_of_their_own(tmp_path, places) -> None:
    port = free_port()
    separate = f'uiOrigin: separate\nupstream: {{{{origin: ":{port}"}}}}\n'
    with serving(tmp_path, separate + CONFIG, **places) as server:
        opens = {"User-Agent": "Mozilla/5.0", "Upgrade-Insecure-Requests": "1"}
        led = server.get("/upstream/a/?q", headers=opens, allow_redirects=False)
        assert led.status_code == 307
        assert led.headers["Location"] == f"http://127.0.0.1:{port}/upstream/a/?q"
        there = requests.get(led.headers["Location"], headers=opens, timeout=20)
        assert there.status_code == 200
        assert "Content-Security-Policy" not in there.headers
        here = server.get("/upstream/a/")
        assert here.headers["Content-Security-Policy"].startswith("sandbox")
        for path in ("/ui/", "/api/version", "/v1/models", "/unload", "/"):
            said = requests.get(f"http://127.0.0.1:{port}{path}", timeout=20)
            assert said.status_code == 404, path
            lies = {"Host": f"127.0.0.1:{server.port}"}
            said = requests.get(f"http://127.0.0.1:{port}{path}", headers=lies, timeout=20)
            assert said.status_code == 404, path
        server.wait_output(f"pages of models are shown on port {port}")
