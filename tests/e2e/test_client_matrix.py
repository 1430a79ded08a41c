"""Each inference route answers the same, however long its request had to wait and for what.

Without an early head (one that is sent before the server has answered): status and bytes. After
one: the same content as events of the route's API, errors as its error event.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product

import gevent
import pytest
import requests
from gevent.lock import Semaphore

from llmsnap.http.routes import ROUTES as TABLE
from llmsnap.http.routes import ModelPlace
from llmsnap.http.sse import SseParser
from tests.e2e.api import serving
from tests.e2e.harness import ROOT, START_LIMIT_S, Installed, Running

pytestmark = pytest.mark.e2e

EARLY_HEAD_S = 0.5
CONFIG = """\
startPort: {port}
macros:
  sim: {sim}
models:
  silent: {{cmd: "${{sim}}", concurrencyLimit: 500}}
  cold: {{cmd: "{gated}", concurrencyLimit: 500}}
  busy: {{cmd: "${{sim}}"}}
  line: {{cmd: "${{sim}}", concurrencyLimit: 500}}
groups:
  apart: {{swap: false, exclusive: false, members: [silent, cold]}}
  turns: {{swap: true, exclusive: false, members: [busy, line]}}
"""
HI = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 50},
    "/v1/messages/count_tokens": {"messages": HI},
    "/v1/embeddings": {"input": "hi"},
    "/v1/audio/speech": {"input": "hi"},
    "/v1/audio/voices": {},
    "/v1/images/generations": {"prompt": "hi"},
    "/sdapi/v1/txt2img": {"prompt": "hi"},
    "/sdapi/v1/img2img": {"prompt": "hi"},
    "/completion": {"prompt": "hi"},
    "/infill": {"input_prefix": "hi", "input_suffix": "x"},
    "/v1/responses/input_tokens": {"input": "hi"},
}
RERANK = {"query": "hi", "documents": ["a", "b"]}
FILES = {"/v1/audio/transcriptions": "file", "/v1/images/edits": "image"}
WEBSOCKETS = {"/v1/realtime"}
ROWS = {
    row.path: row
    for row in TABLE
    if row.is_inference and not row.sent_as and "{" not in row.path
    if row.model is not ModelPlace.MESSAGE
}
ALIKE = {(row.model, row.stream, row.dialect, *row.answers): row.path for row in ROWS.values()}
ROUTES = sorted(set(ALIKE.values()) - WEBSOCKETS)
"""One of each kind: what the table does not tell apart is served alike."""
DONE = b"data: [DONE]\n\n"
WAITS = ["warm", "cold", "line", "silent"]
SERVERS = {"streams": {}, "whole": {"sim_whole": True}, "refuses": {"sim_status": 400}}
VARYING = re.compile(
    rb'(?<=")(chatcmpl-|cmpl-|msg_|resp_)\d+(?=")|(?<="created":)\d+|(?<=_at":)\d+'
)
Cell = tuple[str, str, bool, str]
"""Route, what is waited for, whether a stream is asked for, how the model's server answers."""
COMMENTS = re.compile(rb"(?m)^: .*\n")


@dataclass
class Answer:
    """What came, with what differs from one request to the next taken out."""

    status: int
    kind: str
    body: bytes

    @property
    def is_early(self) -> bool:
        """Whether the head came before the server had answered."""
        return self.body.startswith(b": waiting for the model\n")


def comes_early(route: str, wait: str, stream: bool) -> bool:
    """Whether the head has to come before the server answers."""
    return wait != "warm" and stream and ROWS[route].stream is not None


def ask(server: Running, route: str, wait: str, stream: bool, kind: str, on_head=None) -> Answer:
    """Send the request of one cell; `on_head` is called when the head of the answer is there."""
    more = {"stream": stream, **SERVERS[kind]}
    url = server.url + route
    send = partial(requests.request, "POST", url, timeout=60, stream=True)
    if ROWS[route].model is ModelPlace.JSON:
        answer = send(json={"model": wait, **BODIES.get(route, RERANK), **more})
    elif ROWS[route].model is ModelPlace.FORM:
        form = {"model": wait, "prompt": "hi", "stream": str(stream).lower()}
        files = {FILES[route]: ("a.wav", b"RIFF", "audio/wav")}
        query = {name: value for name, value in more.items() if name != "stream"}
        # One boundary, for the answer tells how the request came.
        body = requests.Request("POST", url, data=form, files=files).prepare().body
        boundary = body[2 : body.index(b"\r\n")]
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        body = body.replace(boundary, b"b")
        answer = send(data=body, params=query, headers=headers)
    else:
        answer = requests.get(url, params={"model": wait, **more}, timeout=60)
    if on_head:
        on_head()
    said = answer.content.replace(wait.encode(), b"MODEL")
    return Answer(
        answer.status_code, answer.headers.get("Content-Type", ""), VARYING.sub(b"0", said)
    )


def hold(server: Running, wait: str) -> Callable[[], object]:
    """Begin what requests wait for; return what ends it."""
    match wait:
        case "cold":
            return server.gate.touch
        case "line":
            return server.chat("busy", stream=True, sim_tokens=100_000, sim_tps=5).close
        case "silent":
            pid = server.get("/upstream/silent/sim/state").json()["pid"]
            os.kill(pid, signal.SIGSTOP)
            return partial(os.kill, pid, signal.SIGCONT)
    return lambda: None


def begin(server: Running, cells: Iterable[Cell]) -> tuple[dict[Cell, gevent.Greenlet], Semaphore]:
    """Send the requests of *cells*; the semaphore counts the early heads that have come."""
    heads = Semaphore(0)
    on_head = {cell: heads.release if comes_early(*cell[:3]) else None for cell in cells}
    return {cell: gevent.spawn(ask, server, *cell, on_head[cell]) for cell in on_head}, heads


def ask_all(server: Running, wait: str) -> dict[Cell, Answer]:
    """Send the requests of all cells with one kind of wait, which ends when every early head came.

    So a slow machine changes nothing.
    """
    cells = list(product(ROUTES, [wait], [False, True], SERVERS))
    release = hold(server, wait)
    asking, heads = begin(server, cells)
    for _ in filter(lambda cell: comes_early(*cell[:3]), cells):
        assert heads.acquire(timeout=START_LIMIT_S)
    release()
    return {cell: one.get() for cell, one in asking.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose early heads come soon."""
    folder = tmp_path_factory.mktemp("matrix")
    program = folder / "llmsnap"
    program.write_text(
        f"#!{sys.executable}\n"
        "from llmsnap.__main__ import main\n"
        "from llmsnap.proxy import dispatch\n"
        f"dispatch.COMMENT_EVERY_S = {EARLY_HEAD_S}\n"
        "main()\n"
    )
    program.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with serving(folder, CONFIG, installed=Installed(program, environ, ROOT)) as running:
        running.chat("silent")
        yield running


ORDINARY = """\
startPort: {port}
models:
  warm: {{cmd: "{sim}", concurrencyLimit: 500}}
  slow: {{cmd: "{gated}"}}
groups:
  apart: {{swap: false, members: [warm, slow]}}
"""
DIALECTS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    """A server whose early heads come after ten seconds."""
    with serving(tmp_path_factory.mktemp("ordinary"), ORDINARY) as running:
        running.chat("warm")
        yield running


@pytest.fixture(scope="module")
def slow(ordinary):
    """Requests that have begun to wait for a slow model, and their heads."""
    return begin(ordinary, product(DIALECTS, ["slow"], [True], SERVERS))


@pytest.fixture(scope="module")
def answers(server, ordinary, slow):
    assert slow, "waits meanwhile"
    found = ask_all(ordinary, "warm")
    for one in [gevent.spawn(ask_all, server, wait) for wait in WAITS[1:]]:
        found |= one.get()
    return found


def events(body: bytes) -> list[tuple[str, dict]]:
    frames = SseParser().feed(body)
    return [(frame.event, json.loads(frame.data)) for frame in frames if frame.data != "[DONE]"]


def text_of(route: str, body: bytes) -> str:
    """The text in the events of a stream."""
    told = [document for _, document in events(body)]
    match route:
        case "/v1/chat/completions":
            parts = [one["choices"][0]["delta"].get("content") for one in told]
        case "/v1/completions":
            parts = [one["choices"][0]["text"] for one in told]
        case "/v1/messages":
            parts = [one["delta"].get("text") for one in told if "delta" in one]
        case "/v1/responses":
            parts = [one["delta"] for one in told if one["type"].endswith("text.delta")]
        case _:
            parts = [one["content"] for one in told]
    return "".join(part or "" for part in parts)


def check_events(route: str, kind: str, answer: Answer, answers: dict) -> None:
    """Compare what came after an early head with the warm answer."""
    assert (answer.status, answer.kind) == (200, "text/event-stream")
    told = COMMENTS.sub(b"", answer.body)
    warm = answers[route, "warm", True, kind]
    if kind == "streams":
        assert told == warm.body
    elif kind == "whole":
        streamed = answers[route, "warm", True, "streams"].body
        assert text_of(route, told) == text_of(route, streamed) != ""
        assert told.endswith(DONE) == streamed.endswith(DONE)
        assert events(told)[-1][0] == events(streamed)[-1][0]
    else:
        ((_, document),) = events(told)
        assert document["error"] == json.loads(warm.body)["error"]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("route", ROUTES)
def test_answers_are_the_same_however_long_they_were_waited_for(answers, route, wait) -> None:
    for stream, kind in product([False, True], SERVERS):
        answer = answers[route, wait, stream, kind]
        assert answer.is_early == comes_early(route, wait, stream)
        if answer.is_early:
            check_events(route, kind, answer, answers)
        else:
            assert answer == answers[route, "warm", stream, kind]
            assert answer.status == (400 if kind == "refuses" else 200)


def test_no_body_gets_into_log_or_records(server, answers) -> None:
    assert answers
    records = server.get("/api/activity?limit=1000").json()["records"]
    early = [one["reason"] for one in records if "answered 400" in one["reason"]]
    assert early
    for text in [*early, server.output]:
        assert "You said" not in text
        assert "as asked for" not in text


# --- with the real delay ------------------------------------------------------------------------


def test_a_load_of_more_than_ten_seconds_in_each_dialect(ordinary, slow, answers) -> None:
    asking, heads = slow
    for _ in asking:
        assert heads.acquire(timeout=START_LIMIT_S)
    ordinary.gate.touch()
    for (route, _, _, kind), asked in asking.items():
        assert asked.get().is_early
        check_events(route, kind, asked.get(), answers)
