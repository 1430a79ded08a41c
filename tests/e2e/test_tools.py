"""The calls of dashboards, log tailers and loaders that were made for llama-swap."""

import base64
import contextlib
import itertools
import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import gevent
import pytest
import requests

from tests.e2e.harness import Running
from tests.parity import parity

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("unloaded")]

LIMIT_S = 60
LOGS = ["/logs/stream", "/logs/stream/proxy", "/logs/stream/upstream", "/logs/stream/alpha"]
ACCEPTS = ["*/*", "text/event-stream", "text/plain", "application/json", "text/html"]
CONFIG = """\
startPort: {port}
models:
  alpha:
    cmd: sh -c 'echo A-LINE-OF-ALPHA; exec {sim}'
  beta:
    cmd: {sim} --sleep-time 0.01 --wake-time 0.01
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  gamma: {{cmd: "{sim}"}}
groups:
  all: {{swap: false, members: [alpha, beta, gamma]}}
"""


def load(server: Running, model: str) -> None:
    """As loaders do it: ask the model's health, then wait until it is listed as ready."""
    assert server.get(f"/upstream/{model}/health").status_code == 200
    rows = server.get("/running").json()["running"]
    assert [row["state"] for row in rows if row["model"] == model] == ["ready"]


@contextlib.contextmanager
def lines(server: Running, path: str, **headers: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The content type and the lines of an answer that goes on, for as long as a test may take."""
    with gevent.Timeout(LIMIT_S, RuntimeError(f"not all of it came from {path}")):
        answer = requests.get(server.url + path, headers=headers, stream=True, timeout=LIMIT_S)
        with contextlib.closing(answer):
            assert answer.status_code == 200
            yield answer.headers["Content-Type"], answer.iter_lines(chunk_size=None)


@parity("Event stream", "`/logs/stream` is plain text whatever `Accept` says", "or `?format=sse`")
@pytest.mark.parametrize("path", LOGS)
def test_a_log_tailer_reads_text_whatever_its_library_accepts(server: Running, path: str) -> None:
    load(server, "alpha")
    for accept in ACCEPTS:
        with lines(server, path, Accept=accept) as (kind, came):
            assert kind.startswith("text/plain"), accept
            line = next(filter(None, came))
            assert not line.startswith((b"data:", b"event:", b"id:", b":")), accept


@pytest.mark.parametrize("path", LOGS)
def test_a_log_tailer_reads_events_when_it_asks_for_them(server: Running, path: str) -> None:
    load(server, "alpha")
    with lines(server, path + "?format=sse", Accept="*/*") as (kind, came):
        assert kind.startswith("text/event-stream")
        assert any(line.startswith(b"data: ") for line in itertools.islice(came, 3))


def envelopes(came: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """What a dashboard makes of the feed: each line of data is an envelope, the rest is skipped."""
    for line in came:
        if line.startswith(b"data:"):
            envelope = json.loads(line.removeprefix(b"data:"))
            assert set(envelope) == {"type", "data"}
            yield envelope["type"], json.loads(envelope["data"])


@pytest.mark.parametrize("query", ["", "?format=message"])
def test_a_dashboard_follows_the_events(server: Running, query: str) -> None:
    with lines(server, "/api/events" + query, Accept="*/*") as (kind, came):
        assert kind.startswith("text/event-stream")
        feed = envelopes(came)
        first = dict(itertools.islice(feed, 4))
        assert {one["id"] for one in first["modelStatus"]} == {"alpha", "beta", "gamma"}
        server.chat("alpha")
        awaited = {"metrics", "activity", "inflight", "ready"}
        while awaited:  # in which order they come is not promised
            name, data = next(feed)
            awaited.discard(name)
            if name == "modelStatus" and states_of(data)["alpha"] == "ready":
                awaited.discard("ready")


def test_a_dashboard_shows_each_line_of_a_log_once(server: Running) -> None:
    with lines(server, "/api/events", Accept="*/*") as (_, came):
        feed = envelopes(came)
        before = list(until(feed, "modelStatus", bool))
        load(server, "alpha")
        seen = list(until(feed, "logData", lambda log: "A-LINE-OF-ALPHA" in log["data"]))
        load(server, "gamma")
        ready = lambda models: {"gamma": "ready"}.items() <= states_of(models).items()  # noqa: E731
        seen += until(feed, "modelStatus", ready)
    told = "".join(
        text["data"] for kind, text in seen if kind == "logData" and text["source"] == "upstream"
    )
    assert told.count("A-LINE-OF-ALPHA") == 1
    assert [kind for kind, _ in before][-1] == "modelStatus"


def states_of(models: list[dict[str, Any]]) -> dict[str, str]:
    return {one["id"]: one["state"] for one in models}


def until(feed: Iterator[tuple[str, Any]], kind: str, fact: Any) -> Iterator[tuple[str, Any]]:
    """The envelopes up to the one of *kind* for whose data *fact* is true."""
    for name, data in feed:
        yield name, data
        if name == kind and fact(data):
            return


@parity("Store and activity", "the calls of dashboards made for it")
def test_a_dashboard_gets_all_that_it_asks_for(server: Running) -> None:
    began = server.get("/api/version").headers["Date"]
    server.chat("alpha")
    page = server.get("/api/metrics/activity?model=alpha&sort=time&order=DESC&limit=1").json()
    assert {"data", "page", "limit", "total", "total_pages"} == page.keys()
    (row,) = page["data"]
    assert (row["model"], row["req_path"]) == ("alpha", "/v1/chat/completions")
    assert row["tokens"]["output_tokens"] > 0
    capture = server.get(f"/api/captures/{row['id']}").json()
    assert base64.b64decode(capture["resp_body"])
    newest = max(one["id"] for one in server.get("/api/metrics").json())
    assert server.get(f"/api/metrics/activity?min_id={newest}").json()["total"] == 1
    stats = server.get("/api/metrics/stats?model=alpha").json()
    assert (
        stats["total_requests"] == server.get("/api/metrics/activity?model=alpha").json()["total"]
    )
    after = parsedate_to_datetime(began).isoformat()
    samples = server.get("/api/performance", params={"after": after}).json()
    assert {"enabled", "sys_stats", "gpu_stats"} == samples.keys()
    hardware = server.wait_for(lambda: server.get("/api/hardware").json().get("cpu"))
    assert hardware["logical_thread_count"]
    assert server.get("/api/profiles").json() == {"active": None, "profiles": []}


@parity("Requests in flight", "`POST /api/inflight/{id}/cancel`")
def test_a_dashboard_cancels_a_request_that_the_feed_lists(server: Running) -> None:
    with lines(server, "/api/events", Accept="*/*") as (_, came):
        feed = envelopes(came)
        hi = [{"role": "user", "content": "hi"}]
        body = {"model": "alpha", "messages": hi, "stream": True, "sim_tokens": 9999, "sim_tps": 5}
        sent = {"headers": {"X-Session-ID": "s-1"}, "stream": True}
        with contextlib.closing(server.post("/v1/chat/completions", body, **sent)):
            is_new = lambda told: told.get("request", {}).get("model") == "alpha"  # noqa: E731
            *_, (_, told) = until(feed, "inflight", is_new)
            entry = told["request"]
            assert entry["req_headers"]["X-Session-Id"] == "s-1"
            (listed,) = server.get("/api/inflight").json()["requests"]
            assert (str(listed["id"]), listed["session"]) == (entry["id"], "s-1")
            path = f"/api/inflight/{entry['id']}/cancel"
            assert server.post(path).json() == {"msg": "ok"}
            is_gone = lambda told: told == {"operation": "remove", "id": entry["id"]}  # noqa: E731
            assert list(until(feed, "inflight", is_gone))
    assert server.post(path).status_code == 404
    assert [one["session"] for one in server.records("session=s-1")] == ["s-1"]
