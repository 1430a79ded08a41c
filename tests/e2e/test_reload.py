"""Editing the configuration of a running server disturbs only what the edit concerns."""

import os
import signal

import gevent
import pytest

from tests.e2e.harness import text_of

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
macros:
  sim: {sim} --tokens-per-second 100
models:
  kept:
    cmd: ${{sim}} --tokens 60
  edited:
    cmd: ${{sim}} --tokens 60
groups:
  all:
    swap: false
    members: [kept, edited]
"""
EXTRA = "  added:\n    cmd: ${sim}\n"


def pid(server, model: str) -> int:
    return server.get(f"/upstream/{model}/sim/state").json()["pid"]


class Editor:
    def __init__(self, server) -> None:
        self.server, self.path = server, server.config
        self.good = self.path.read_text()

    def save(self, text: str) -> None:
        self.path.write_text(text)

    def reload(self) -> dict:
        return self.server.post("/api/config/reload").json()


@pytest.fixture
def editor(server):
    editor = Editor(server)
    yield editor
    editor.save(editor.good)
    assert editor.reload()["errors"] == []


def test_ten_reloads_under_load_fail_no_request(server, editor: Editor) -> None:
    server.chat("kept")
    server.chat("edited")
    kept = pid(server, "kept")
    ended = gevent.event.Event()
    failures: list[object] = []

    def clients(**members: object) -> int:
        served = 0
        while not ended.is_set():
            answer = server.chat("kept", **members)
            text = text_of(answer) if members else answer.json()["choices"][0]["message"]["content"]
            if answer.status_code != 200 or "You said" not in text:
                failures.append((answer.status_code, text))
            served += 1
        return served

    load = [
        gevent.Greenlet(clients, **members) for members in ({}, {"stream": True}) for _ in (1, 2)
    ]
    for greenlet in load:
        greenlet.start()
    edits = [
        editor.good.replace("--tokens 60\n  edited", "--tokens 60\n    ttl: 600\n  edited"),
        "models: [",
        editor.good.replace("edited:\n    cmd: ${sim}", "edited:\n    cmd: ${sim} --timings"),
        editor.good.replace("groups:", EXTRA + "groups:"),
        editor.good.replace("  edited:\n    cmd: ${sim} --tokens 60\n", "").replace(", edited", ""),
    ]
    plans = []
    for number in range(10):
        editor.save(edits[number % len(edits)])
        plans.append(editor.reload())
    ended.set()
    gevent.joinall(load, raise_error=True)
    assert failures == []
    assert all(greenlet.value for greenlet in load)
    assert pid(server, "kept") == kept
    assert [plan["errors"] != [] for plan in plans] == [False, True, False, False, False] * 2
    assert plans[0]["changes"]["hot"] == ["kept"]
    assert plans[2]["changes"]["restart"] == ["edited"]
    assert plans[3]["changes"]["added"] == ["added"]
    assert plans[4]["changes"]["removed"] == ["added", "edited"]


def test_a_restarted_model_ends_its_stream_first(server, editor: Editor) -> None:
    server.chat("edited")
    before = pid(server, "edited")
    stream = server.chat("edited", stream=True, sim_tokens=150)
    editor.save(
        editor.good.replace("edited:\n    cmd: ${sim}", "edited:\n    cmd: ${sim} --timings")
    )
    assert editor.reload()["changes"]["restart"] == ["edited"]
    assert "You said" in text_of(stream)
    after = server.chat("edited")
    assert "timings" in after.json()
    assert pid(server, "edited") != before


def test_sighup_and_a_watched_file_reload(start) -> None:
    server = start(CONFIG, "--watch-config", door="llmsnap")  # gunicorn's own SIGHUP is another
    editor = Editor(server)
    editor.save(editor.good.replace("groups:", EXTRA + "groups:"))
    server.wait_for(lambda: server.chat("added").status_code == 200)
    editor.path.write_text("half a fi")
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait_output("configuration not reloaded")
    assert server.chat("added").status_code == 200


def test_a_file_that_is_written_slowly_or_left_empty_stops_nothing(start) -> None:
    server = start(CONFIG, "--watch-config")
    editor = Editor(server)
    server.chat("kept")
    kept = pid(server, "kept")
    with editor.path.open("w") as writer:
        reloads = [gevent.Greenlet(editor.reload) for _ in range(2)]
        for reload in reloads:
            reload.start()
        text = editor.good.replace("groups:", EXTRA + "groups:")
        for start_of in range(0, len(text), 150):  # in all longer than any reload waits for rest
            writer.write(text[start_of : start_of + 150])
            writer.flush()
            gevent.sleep(0.6)
    gevent.joinall(reloads, raise_error=True)
    assert [reload.value["errors"] for reload in reloads] == [[], []]
    assert reloads[0].value["changes"]["removed"] == []
    assert pid(server, "kept") == kept
    assert server.chat("added").status_code == 200
    assert server.running() == {"added": "ready"}
    editor.path.write_text("")
    server.wait_for(lambda: server.get("/api/config/status").json()["errors"])
    assert "models: {}" in editor.reload()["errors"][0]["fix"]
    assert server.running() == {"added": "ready"}
