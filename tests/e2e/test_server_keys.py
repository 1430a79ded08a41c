"""A server that asks for a key of its own, behind an llmsnap that asks for another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        allowed = self.headers.get("Authorization") == "Bearer of-the-server"
        team = self.headers.get("X-Team", "")
        body = f'{{"allowed":{str(allowed).lower()},"team":"{team}"}}'.encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CONFIG = """\
startPort: {{port}}
apiKeys:
  - key: of-the-client-0123456789
    admin: true
models:
  guarded:
    cmd: {python} {server} ${{{{PORT}}}}
    apiKey: ${{{{env.SERVER_KEY}}}}
    headers:
      X-Team: research
    sleepMode: enable
    sleepEndpoints: [{{{{endpoint: /sleep}}}}]
    wakeEndpoints: [{{{{endpoint: /wake_up}}}}]
"""


def test_health_requests_and_sleep_carry_the_servers_key(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "of-the-server")
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    server = start(CONFIG.format(python=sys.executable, server=script))
    client = requests.Session()
    client.headers["Authorization"] = "Bearer of-the-client-0123456789"
    body = {"model": "guarded", "messages": []}
    for path in ("/v1/chat/completions", "/upstream/guarded/anything"):
        answer = client.post(server.url + path, json=body, headers={"X-Team": "mine"}, timeout=20)
        assert answer.json() == {"allowed": True, "team": "research"}
    assert client.post(f"{server.url}/api/models/sleep/guarded", timeout=20).status_code == 200
    assert client.post(f"{server.url}/v1/chat/completions", json=body, timeout=20).ok
    shown = client.get(f"{server.url}/api/config/file", timeout=20).text
    shown += client.get(f"{server.url}/running", timeout=20).text
    assert "of-the-server" not in shown + server.output
