"""Facts about llmsnap.web.api, through Flask and the gateway."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from llmsnap.http.sse import SseParser
from llmsnap.telemetry import ActivityRecord, Capture, CapturedBody
from llmsnap.web.feed import Form
from tests.fakes.calls import grant, keep
from tests.web.serving import app_of
from tests.web.watched import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> Any:
    return app_of(lambda: world.service).test_client()


def pieces(response: TestResponse) -> Iterator[bytes]:
    """What the server sends, piece by piece, after the head that went out on its own."""
    came = iter(response.response)
    assert next(came) == b""
    return came


# --- events ------------------------------------------------------------------------------------


def test_the_stream_has_the_published_headers(client: Any) -> None:
    response = client.get("/api/events", buffered=False)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Accel-Buffering"] == "no"
    response.close()


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("", Form.MESSAGE),
        ("?format=", Form.MESSAGE),
        ("?format=message", Form.MESSAGE),
        ("?format=both", Form.BOTH),
        ("?format=named", Form.NAMED),
    ],
)
def test_envelopes_alone_unless_another_form_is_asked_for(
    client: Any, world: World, query: str, form: Form
) -> None:
    observer = world.begin()
    response = client.get("/api/events" + query, buffered=False)
    came = pieces(response)
    begin = {frame.event for frame in SseParser().feed(next(came))}
    assert begin == {Form.MESSAGE: {"message"}, Form.NAMED: {"inFlight"}}.get(
        form, {"message", "inFlight"}
    )
    observer.finish()
    response.close()
    assert not world.service.feeds


def test_an_unknown_form_is_refused(client: Any) -> None:
    assert client.get("/api/events?format=xml").status_code == 400


def test_a_head_request_leaves_nothing_open(client: Any, world: World) -> None:
    response = client.head("/api/events")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert not world.service.feeds
    assert repr(world.broadcast) == "<Broadcast to 0 readers>"


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_resumes_by_header_or_where_none_can_be_sent_by_query(
    client: Any, world: World, how: str
) -> None:
    world.record()
    world.record()
    run = world.service.telemetry.run
    headers = {"Last-Event-ID": f"{run}-1-0"} if how == "header" else {}
    query = f"&lastEventId={run}-1-0" if how == "query" else ""
    response = client.get(f"/api/events?format=named{query}", headers=headers, buffered=False)
    (frame,) = SseParser().feed(next(pieces(response)))
    assert (frame.event, frame.id) == ("metrics", f"{run}-2-0")
    assert json.loads(frame.data)["id"] == 1
    response.close()


# --- metrics and activity ----------------------------------------------------------------------


def test_metrics_are_a_list_of_the_published_objects_in_ascending_order(
    client: Any, world: World
) -> None:
    for status in (200, 502, 200):
        world.record(status=status, cached_tokens=None, prompt_per_second=None)
    response = client.get("/api/metrics")
    assert response.headers["Content-Type"] == "application/json"
    assert [metric["id"] for metric in response.json] == [0, 2]
    assert response.json[0] == {
        "id": 0, "timestamp": "2026-11-21T20:31:52.273789305Z", "model": "alpha",
        "cache_tokens": -1, "input_tokens": 25, "output_tokens": 10, "prompt_per_second": -1,
        "tokens_per_second": 10.0, "duration_ms": 30, "has_capture": False,
        "req_path": "", "resp_status_code": 200, "tokens": {
            "cache_tokens": -1, "draft_tokens": -1, "draft_acc_tokens": -1, "input_tokens": 25,
            "output_tokens": 10, "prompt_per_second": -1, "tokens_per_second": 10.0,
        },
    }  # fmt: skip


def test_without_metrics_there_is_an_empty_list(client: Any) -> None:
    assert client.get("/api/metrics").data == b"[]\n"


def test_activity_has_every_field_of_every_request(client: Any, world: World) -> None:
    world.record(status=502, reason="no", queue_ms=3.5, swap_id=4, key_name="wiki")
    body = client.get("/api/activity").json
    (record,) = body["records"]
    assert (body["schema_version"], body["cursor"]) == (1, None)
    assert record["reason"] == "no"
    assert record["swap_id"] == 4
    assert record["first_token_ms"] is None
    names = set(ActivityRecord.__struct_fields__)
    assert set(record) == names - {"ended_ns"} | {"ended_ms"}


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("model=beta", [1]),
        ("model=first", [2]),
        ("status=502", [3]),
        ("status=5xx", [3]),
        ("status=error", [4, 3]),
        ("key=wiki", [5]),
        ("since=2000&until=4000", [3, 2]),
        ("sort=duration_ms&limit=2", [5, 4]),
        ("sort=-duration_ms&limit=2", [0, 1]),
        ("limit=0", [5, 4, 3, 2, 1, 0]),
    ],
)
def test_activity_is_filtered_and_sorted(
    client: Any, world: World, query: str, ids: list[int]
) -> None:
    special: list[dict[str, Any]] = [
        {}, {"model_id": "beta"}, {"requested": "first"}, {"status": 502}, {"status": 499},
        {"key_name": "wiki"},
    ]  # fmt: skip
    for number, facts in enumerate(special):
        when = {"ended_ns": number * 10**9, "duration_ms": 100.0 - number}
        world.record(**{**when, **facts})
    records = client.get(f"/api/activity?{query}").json["records"]
    assert [record["id"] for record in records] == ids


def test_activity_is_paged_by_cursor(client: Any, world: World) -> None:
    for _ in range(5):
        world.record()
    seen, query = [], ""
    while True:
        body = client.get(f"/api/activity?limit=2{query}").json
        seen.append([record["id"] for record in body["records"]])
        if body["cursor"] is None:
            break
        query = f"&cursor={body['cursor']}"
    assert seen == [[4, 3], [2, 1], [0]]


@pytest.mark.parametrize(
    "query", ["status=x", "since=-1", "since=1e9", "limit=x", "sort=x", "cursor=x", "until=\u0661"]
)
def test_what_cannot_be_meant_is_refused(client: Any, query: str) -> None:
    assert client.get(f"/api/activity?{query}").status_code == 400


def test_statistics_sum_up_all_and_each_model(client: Any, world: World) -> None:
    world.record(queue_ms=100.0)
    world.record(model_id="beta", status=500)
    body = client.get("/api/activity/stats").json
    assert body["total"]["requests"] == 2
    assert body["models"]["beta"]["errors"] == 1
    assert body["models"]["alpha"]["queue_ms"]["p95"] == 100.0
    only = client.get("/api/activity/stats?model=beta").json
    assert list(only["models"]) == ["beta"]


def test_swaps_are_listed_oldest_first(client: Any, world: World) -> None:
    world.swap("alpha", evicted=("beta",))
    world.swap("beta")
    body = client.get("/api/swaps").json
    assert [swap["target"] for swap in body["swaps"]] == ["alpha", "beta"]
    assert body["swaps"][0]["evicted"] == ["beta"]


# --- requests in flight ------------------------------------------------------------------------


def test_a_request_in_flight_tells_the_swap_it_waits_for_or_waited_for(
    client: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.service.driver, "swap_to", {"alpha": 7, "beta": 8}.get)
    waits, served, begun = world.begin(), world.begin("beta"), world.begin("gamma")
    grant(served.context, 0.1, 0.2, 5)
    shown = client.get("/api/inflight").json["requests"]
    assert [one["swap_id"] for one in shown] == [7, 5, None]
    for observer in (waits, served, begun):
        observer.finish()


def test_requests_in_flight_are_listed_and_can_be_ended(client: Any, world: World) -> None:
    observer = world.begin(key_name="wiki", client_ip="10.0.0.7")
    cancelled: list[bool] = []
    observer.context.cancel = lambda: cancelled.append(True)
    (shown,) = client.get("/api/inflight").json["requests"]
    assert (shown["id"], shown["phase"], shown["client"]) == (
        observer.serial,
        "waiting",
        "10.0.0.7",
    )
    assert shown["can_cancel"]
    assert client.post(f"/api/inflight/{observer.serial}/cancel").json == {"msg": "ok"}
    assert cancelled == [True]
    assert client.post("/api/inflight/99/cancel").status_code == 404
    observer.finish()
    assert client.get("/api/inflight").json["requests"] == []


# --- captures ----------------------------------------------------------------------------------


@pytest.fixture
def captured(world: World) -> World:
    keep(
        world.service.telemetry.captures,
        Capture(
            id=3,
            req_path="/v1/chat/completions?api_key=[REDACTED]",
            req_headers={"Content-Type": "application/json", "Authorization": "[REDACTED]"},
            req_body=CapturedBody.of(b'{"model":"it\'s"}'),
            resp_headers={"Content-Type": "application/json"},
            resp_body=CapturedBody.of(b"{}"),
            status=200,
            started_ms=1_000,
            duration_ms=5.0,
        ),
    )
    return world


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize("number", ["3", "+3", "03"])
def test_a_capture_has_the_published_shape(client: Any, number: str) -> None:
    shown = client.get(f"/api/captures/{number}").json
    assert {name: shown[name] for name in list(shown)[:6]} == {
        "id": 3,
        "req_path": "/v1/chat/completions?api_key=[REDACTED]",
        "req_headers": {"Content-Type": "application/json", "Authorization": "[REDACTED]"},
        "req_body": base64.b64encode(b'{"model":"it\'s"}').decode(),
        "resp_headers": {"Content-Type": "application/json"},
        "resp_body": "e30=",
    }


@pytest.mark.parametrize(
    ("number", "status", "error"),
    [
        ("x", 400, "invalid capture ID"),
        ("1_0", 400, "invalid capture ID"),
        (" 3", 400, "invalid capture ID"),
        ("\u0663", 400, "invalid capture ID"),
        ("9" * 5000, 400, "invalid capture ID"),
        ("-1", 404, "capture not found"),
        ("4", 404, "capture not found"),
    ],
)
def test_a_capture_that_is_none_is_said_in_json(
    client: Any, number: str, status: int, error: str
) -> None:
    response = client.get(f"/api/captures/{number}", headers={"Accept": "text/plain"})
    assert (response.status_code, response.json) == (status, {"error": error})


@pytest.mark.usefixtures("captured")
def test_a_capture_becomes_a_command_or_a_har_document(client: Any) -> None:
    curl = client.get("/api/captures/3?format=curl")
    assert curl.headers["Content-Type"].startswith("text/plain")
    assert curl.text.startswith("curl -X POST 'http://localhost/v1/chat/completions?api_key=")
    assert "[REDACTED]" in curl.text
    har = client.get("/api/captures/3?format=har").json
    assert har["log"]["entries"][0]["response"]["content"]["text"] == "{}"
    assert client.get("/api/captures/3?format=xml").status_code == 400


def test_the_version_is_told(client: Any) -> None:
    body = client.get("/api/version")
    assert body.headers["Content-Type"] == "application/json; charset=utf-8"
    assert set(body.json) == {"build_date", "commit", "version"}
