"""A server that asks for a key of its own, behind an llmsnap that asks for another."""

from collections.abc import Callable

import pytest

from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
apiKeys:
  - key: of-the-client-0123456789
    admin: true
models:
  guarded:
    cmd: {sim}
    checkEndpoint: /v1/models
    apiKey: ${{env.SERVER_KEY}}
    headers:
      X-Team: research
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
"""


def test_health_requests_and_sleep_carry_the_servers_key(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "of-the-server")
    server = start(CONFIG)
    ours = {"Authorization": "Bearer of-the-client-0123456789", "X-Team": "mine"}
    for path in ("/upstream/guarded/echo", "/api/models/sleep/guarded", "/upstream/guarded/echo"):
        assert server.post(path, {}, headers=ours).status_code == 200
    chat = {"model": "guarded", "messages": [{"role": "user", "content": "hi"}]}
    assert server.post("/v1/chat/completions", chat, headers=ours).status_code == 200
    seen = server.get("/upstream/guarded/sim/requests", headers=ours).json()
    paths = {one["path"] for one in seen}
    assert paths >= {"/v1/models", "/echo", "/sleep", "/wake_up", "/v1/chat/completions"}
    for one in seen:
        headers = {name.lower(): value for name, value in one["headers"]}
        assert headers["authorization"] == "Bearer of-the-server", one
        if one["path"] in ("/echo", "/v1/chat/completions"):
            assert headers["x-team"] == "research"
    shown = server.get("/api/config/file", headers=ours).text
    shown += server.get("/running", headers=ours).text
    assert "of-the-server" not in shown + server.output
