"""Model servers that close, die, refuse and answer as they please: no answer is lost for it."""

import sys
from pathlib import Path

import gevent
import pytest
import requests

from tests.fakes import odd_server

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
macros:
  odd: {python} {script} --port ${{PORT}} --dir {dir}
  run: bash {dir}/run.sh --port ${{PORT}} --dir {dir}
models:
  one: {{cmd: "${{odd}}"}}
  two: {{cmd: "${{odd}}"}}
  three: {{cmd: "${{odd}}"}}
  four: {{cmd: "${{odd}}"}}
  broken: {{cmd: "${{run}}"}}
  shown: {{sendLoadingState: true, cmd: "${{run}}"}}
groups:
  all: {{swap: false, members: [one, two, three, four, broken, shown]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def places(folder: Path) -> dict[str, object]:
    return {"python": sys.executable, "script": odd_server.__file__, "dir": folder}


def test_streams_back_to_back_never_meet_a_closing_connection(server) -> None:
    body = {"model": "one", "messages": [], "stream": True}
    with requests.Session() as session:
        for _ in range(60):
            answer = session.post(f"{server.url}/v1/chat/completions", json=body, timeout=20)
            assert answer.content.endswith(b"data: [DONE]\n\n"), answer.content


def test_a_client_of_a_model_that_died_asks_again_and_is_answered(server) -> None:
    for model in ("one", "two", "three"):
        server.chat(model, stream=True).close()
        broken = server.chat(model, "die", stream=True)
        again = server.chat(model, stream=True)
        assert again.content.endswith(b"data: [DONE]\n\n"), again.content
        data = broken.content
        assert data.startswith(odd_server.FRAME + b'data: {"error":'), "and it ends properly"
        assert b"[DONE]" not in data


def test_a_request_without_an_answer_survives_the_death_of_its_model(server, folder) -> None:
    waiting = gevent.spawn(lambda: server.chat("four", "wait", stream=True).content)
    server.wait_for((folder / "waited").exists)
    server.chat("four", "die", stream=True).close()
    assert waiting.get().endswith(b"data: [DONE]\n\n")
    server.wait_output("<four> ended before it answered: loading it again")


def test_a_large_upload_that_is_refused_unread_is_told_so(server) -> None:
    pieces = iter([b"x" * 1_000_000] * 30)
    answer = server.post("/upstream/one/refuse", data=pieces)
    assert (answer.status_code, answer.text) == (413, "big")
    assert server.post("/upstream/one/refuse", data=b"x" * 30_000_000).status_code == 413


def test_a_model_put_right_is_started_at_once(server, folder) -> None:
    script = folder / "run.sh"
    script.write_text("exit 3")
    for _ in range(3):
        answer = server.chat("broken")
        assert answer.status_code == 502
        assert answer.headers["x-should-retry"] == "false"
        assert "Retry-After" not in answer.headers
    message = answer.json()["error"]["message"]
    assert "exit code 3" in message
    assert "The first request after" in message
    assert "`llmsnap load broken`" in message
    script.write_text(f'exec {sys.executable} {odd_server.__file__} "$@"')
    assert server.chat("broken", stream=True).status_code == 200


def test_a_load_that_fails_behind_an_early_head_ends_its_stream_properly(server, folder) -> None:
    (folder / "run.sh").write_text("exit 3")
    data = server.chat("shown", stream=True).content  # which raises where the last chunk is missing
    assert b'data: {"error":' in data
    assert b"[DONE]" not in data
