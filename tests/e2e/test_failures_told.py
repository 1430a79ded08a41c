"""What a failed load tells: admins the model's last output without secrets, others less."""

import pytest

from tests.e2e.api import peer
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
apiKeys:
  - {{key: key-of-the-admin-01, admin: true, name: boss}}
  - {{key: key-of-a-user-00001, name: guest}}
models:
  loud:
    cmd: |
      sh -c 'echo $SECRETS; echo "password: hunter2-0003"; sleep 0.3; exit 3' ${{PORT}} MARK-ARG
    env:
      - SECRETS=MARK-OUT hf_secret0001 postgres://u:pw-0002@inner-host AKIA0123456789ABCDEF
    sendLoadingState: true
  known:
    cmd: sh -c 'echo MARK-OUT $APP_TOKEN cmd-0005; exit 4' ${{PORT}} --api-key cmd-0005
    env: [APP_TOKEN=plain-0004]
  missing: {{cmd: "MARK-PROGRAM --port ${{PORT}}"}}
  sick:
    cmd: sleep 600
    proxy: "{sick}"
    checkEndpoint: /health?MARK&token=x-0006
    healthCheckTimeout: 1
"""


@pytest.fixture(scope="module")
def places():
    with peer("--never-healthy") as sick:
        yield {"sick": sick}


ADMIN, USER = "key-of-the-admin-01", "key-of-a-user-00001"
SECRETS = ("hf_secret", "pw-0002", "hunter2", "plain-0004", "cmd-0005", "AKIA", "x-0006")
INSIDE = ("MARK", "inner-host", "sh -c", "127.0.0.1", "localhost", *SECRETS)

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
ASKED = {
    "chat": ("/v1/chat/completions", CHAT, {}),
    "text": ("/v1/chat/completions", CHAT, {"Accept": "text/plain"}),
    "stream": ("/v1/chat/completions", {**CHAT, "stream": True}, {}),
    "messages": ("/v1/messages", CHAT, {}),
    "messages stream": ("/v1/messages", {**CHAT, "stream": True}, {}),
    "responses": ("/v1/responses", {"input": "hi"}, {}),
    "embeddings": ("/v1/embeddings", {"input": "hi"}, {}),
    "upstream": ("/upstream/MODEL/v1/chat/completions", CHAT, {}),
    "speech": ("/v1/audio/speech", {"input": "hi"}, {}),
}


def ask(server: Running, model: str, asked: str, key: str) -> tuple[str, str]:
    """The answer's text, however it was cut off, and the request's id."""
    path, body, headers = ASKED[asked]
    answer = server.post(
        path.replace("MODEL", model),
        {"model": model, **body},
        headers={"Authorization": f"Bearer {key}", **headers},
        stream=True,
    )
    pieces = []
    try:
        for piece in answer.iter_content(None):
            pieces.append(piece)  # noqa: PERF402 - what came before the end is kept
    except OSError:
        pass
    return b"".join(pieces).decode(), answer.headers["X-Request-Id"]


# Each shape with one failure, and each failure in the two shapes that errors have.
@pytest.mark.parametrize(
    ("model", "asked"),
    [("loud", asked) for asked in ASKED]
    + [(model, asked) for model in ("known", "missing", "sick") for asked in ("chat", "stream")],
)
def test_a_failed_load_tells_a_key_without_admin_right_nothing_of_its_inside(
    server: Running, model: str, asked: str
) -> None:
    text, request_id = ask(server, model, asked, USER)
    assert request_id in text
    assert [word for word in INSIDE if word in text] == []
    if model in ("loud", "known"):
        assert f"exit code {3 if model == 'loud' else 4} while loading" in text
    text, _ = ask(server, model, asked, ADMIN)
    assert "MARK" in text
    assert [word for word in SECRETS if word in text] == []


def test_no_other_route_tells_it(server: Running) -> None:
    ask(server, "loud", "chat", USER)
    user, admin = ({"Authorization": f"Bearer {key}"} for key in (USER, ADMIN))
    known = server.get("/api/openapi.json", headers=user).json()["paths"]
    paths = [path for path, methods in known.items() if "get" in methods and "{" not in path]
    assert len(paths) > 20
    for path in paths:
        answer = server.get(path, headers=user, stream=True, allow_redirects=False)
        text = "" if answer.headers["Content-Type"].startswith("text/event") else answer.text
        assert [word for word in INSIDE if word in text and word != "127.0.0.1"] == [], path
    for path in ("/api/swaps", "/api/activity"):
        text = server.get(path, headers=admin).text
        assert "exit code 3" in text
        assert [word for word in SECRETS if word in text] == [], path
    assert [word for word in SECRETS if word in server.output] == []
    assert "MARK-OUT" in server.output
