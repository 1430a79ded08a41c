"""Facts about llmsnap.web.logs, through Flask and the gateway."""

import json
from itertools import count

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from llmsnap.http.sse import SseParser
from llmsnap.logs.marks import Marks
from tests.web.serving import app_of
from tests.web.watched import TEXT, World


@pytest.fixture
def world() -> World:
    more = "author/m2: &m {cmd: 'serve ${PORT}'}\n  'half%41': *m"
    made = World(TEXT.replace("peers:", f"  {more}\npeers:"))
    logs = made.service.logs
    logs.proxy.write(b"[INFO] hello\n")
    logs.model("alpha").feed(b"alpha speaks\n")
    logs.model("author/m2").feed(b"m2 speaks\n")
    return made


def first(client: FlaskClient, path: str, **headers: str) -> tuple[TestResponse, bytes]:
    """The answer and its first piece, after the head that went out on its own."""
    response = client.get(path, headers=headers, buffered=False)
    came = iter(response.response)
    assert next(came) == b""
    piece = next(came)
    response.close()
    return response, piece


def test_the_combined_log_is_text_and_a_browser_is_sent_to_the_interface(client, world) -> None:
    response = client.get("/logs")
    assert response.headers["Content-Type"] == "text/plain"
    assert response.text == "[INFO] hello\nalpha speaks\nm2 speaks\n"
    response = client.get("/logs", headers={"Accept": "text/html,*/*"})
    assert (response.status_code, response.headers["Location"]) == (302, "ui/")


def test_each_log_has_its_stream(client, world) -> None:
    world.service.log_handler.setLevel("ERROR")  # no lines about these requests
    world.service.logs.model("half%41").feed(b"half speaks\n")
    models = b"alpha speaks\nm2 speaks\nhalf speaks\n"
    texts = {
        "": b"[INFO] hello\n" + models,
        "/": b"[INFO] hello\n" + models,
        "/proxy": b"[INFO] hello\n",
        "/upstream": models,
        "/alpha": b"alpha speaks\n",
        "/first": b"alpha speaks\n",
        "/alpha/more/of/it": b"alpha speaks\n",
        "/author/m2": b"m2 speaks\n",
        "/author%2Fm2": b"m2 speaks\n",
        "/half%2541?no": b"half speaks\n",  # a name is decoded once
    }
    for path, text in texts.items():
        response, piece = first(client, f"/logs/stream{path}")
        assert (response.headers["Content-Type"], piece) == ("text/plain", text), path
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert not world.service.feeds
    unknown = client.get("/logs/stream/half%41")
    assert unknown.status_code == 400
    assert "use proxy, upstream or a model id" in unknown.text


def test_a_log_comes_as_events_where_that_is_asked_for_and_as_text_elsewhere(client, world) -> None:
    kinds = {
        "format=sse": ("text/event-stream", b"id: 13\ndata: alpha speaks\n\n"),
        "format=text": ("text/plain", b"alpha speaks\n"),
        "": ("text/plain", b"alpha speaks\n"),
    }
    for accept in ("*/*", "text/plain", "text/event-stream"):
        for query, expected in kinds.items():
            path = f"/logs/stream/alpha?{query}"
            response, piece = first(client, path, Accept=accept)
            assert (response.headers["Content-Type"], piece) == expected, (accept, query)
            whole = client.get(f"{path}&no-follow", headers={"Accept": accept})
            assert (whole.headers["Content-Type"], whole.data) == expected, (accept, query)
    assert not world.service.feeds


def test_what_is_asked_for_holds_together(client, world) -> None:
    log = world.service.logs.model("alpha")
    log.feed(b"on ...")
    for query, last, text in (
        ("no-follow&no-history", "", b""),
        ("no-follow&no-history&format=sse", "", b""),
        ("no-follow&format=sse", "6", b"id: 13\ndata: speaks\n\nid: 19\ndata: on ...\n\n"),
        ("no-follow&format=sse", "19", b""),
        ("no-follow", "", b"alpha speaks\non ..."),
        ("no-follow&format=sse", "13", b"id: 19\ndata: on ...\n\n"),
        ("no-follow&no-history=0", "", b""),
    ):
        headers = {"Last-Event-ID": last} if last else {}
        assert client.head(f"/logs/stream/alpha?{query}").status_code == 200
        assert client.get(f"/logs/stream/alpha?{query}", headers=headers).data == text, query
        assert not world.service.feeds
        assert "0 readers" in repr(log.stream)


def test_documents_say_which_model_wrote_what_and_when() -> None:
    service = World().service
    logs, client = service.logs, app_of(lambda: service).test_client()
    logs.marks["upstream"] = Marks(iter([1.0, 1.5, 1.9]).__next__)
    logs.model("alpha").feed("ä😀\r\n".encode())
    logs.model("alpha").feed(b"one")
    logs.model("beta").feed(b"two\n")
    answer = client.get("/logs/stream/upstream?format=json&no-follow")
    (event,) = SseParser().feed(answer.data)
    document = json.loads(event.data)
    assert document["text"] == "ä😀\r\none\ntwo\n"
    assert document["marks"] == [[0, "alpha", 1000], [9, "beta", 1000]]
    assert event.id == str(logs.upstream.position)


def test_the_last_marks_of_a_log_are_kept() -> None:
    clock = count()
    marks = Marks(lambda: float(next(clock)), kept=2)
    for position in (0, 10, 20, 30, 40):
        marks.note(position, "a")
    assert [mark.position for mark in marks.within(0, 100)] == [20, 30, 40]
    assert [mark.position for mark in marks.within(35, 40)] == [30]
    assert [mark.position for mark in marks.within(35, 41)] == [30, 40]
