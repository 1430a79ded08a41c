"""Facts about llmsnap.web.app: what Flask refuses looks like what we refuse."""

import json
from functools import partial

import pytest

from llmsnap.errors import NotReady

TEXT = 'models: {a: {cmd: x, proxy: "http://localhost:1"}}'


def test_what_flask_refuses_is_refused_as_we_do(here) -> None:
    answer = here.client.get("/nope")
    assert answer.status == "404 Not Found"
    assert answer.json["error"]["code"] == "not_found"
    assert answer.headers["X-Request-Id"]
    answer = here.client.get("/nope", headers={"Accept": "text/html"})
    assert (answer.mimetype, answer.text) == ("text/plain", "nothing answers /nope\n")
    answer = here.client.post("/health")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "takes GET" in answer.json["error"]["message"]


def raising(error: Exception):
    def act(*args: object, **wishes: object) -> None:
        raise error

    return act


def test_an_error_keeps_its_status_and_the_cause_of_a_bug_stays_in_the_log(
    here, monkeypatch
) -> None:
    monkeypatch.setattr(here.service.driver, "sleep", raising(NotReady("a is stopped")))
    answer = here.client.post("/api/models/sleep/a")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "model_not_ready")
    monkeypatch.setattr(here.service.driver, "unload", raising(ZeroDivisionError("the cause")))
    answer = here.client.get("/unload")
    assert (answer.status_code, answer.json["error"]["type"]) == (500, "server_error")
    assert "the cause" not in answer.text
    monkeypatch.setattr(here.client.application, "debug", True)
    with pytest.raises(ZeroDivisionError, match="the cause"):
        here.client.get("/unload")


def test_models_are_acted_on_as_asked(here, monkeypatch) -> None:
    asked: list[tuple] = []

    def note(act: str, *args: object, **wishes: object) -> None:
        asked.append((act, *args, wishes))

    for act in ("load", "unload", "sleep"):
        monkeypatch.setattr(here.service.driver, act, partial(note, act))
    post, get = here.client.post, here.client.get
    assert post("/api/models/load/a").data == post("/api/models/unload/a?drain=1").data == b"OK"
    assert post("/api/models/load/a?wait=0").status_code == 202
    assert post("/api/models/sleep/a?drain=0").data == get("/unload").data == b"OK"
    assert post("/api/models/unload").json == {"msg": "ok"}
    assert asked == [
        ("load", "a", {"wait": True}),
        ("unload", "a", {"drain": True}),
        ("load", "a", {"wait": False}),
        ("sleep", "a", {"drain": False}),
        ("unload", None, {"drain": False}),
        ("unload", None, {"drain": False}),
    ]


def test_whatever_is_encoded_reads_the_same(here) -> None:
    answer = here.client.get("/api/version")
    assert answer.content_type == "application/json; charset=utf-8"
    assert list(answer.json) == ["build_date", "commit", "version"]
    for document in (
        {"b": 1, "a": [None, True, 0.5, "\u00e4\U0001f600"]},
        {"half a character": "\ud800"},
        {"more than 64 bits": 2**70},
        {1: "a number as a name"},
    ):
        text = here.client.application.json.dumps(document)
        assert json.loads(text) == json.loads(json.dumps(document))
        assert list(json.loads(text)) == [str(name) for name in document]
