"""What the interface, dashboards and Prometheus ask, through Flask and the gateway."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from llmsnap.config import Sources, load, loads
from llmsnap.http.sse import SseParser
from llmsnap.models import parse_address
from llmsnap.routing import Ticket
from llmsnap.routing.messages import RequestArrived
from llmsnap.telemetry import (
    ActivityRecord,
    Capture,
    CapturedBody,
    GpuSample,
    HostSample,
    PerformanceSample,
    ProcessSample,
    ProcessStateChanged,
)
from llmsnap.telemetry.activity import metric_object
from llmsnap.telemetry.hardware import HardwareProbe, detect
from tests.fakes.calls import grant, keep
from tests.fakes.upstream import FakeUpstream
from tests.parity import parity
from tests.web.serving import Site, app_of, site, site_fixture
from tests.web.watched import World


def pieces(response: TestResponse) -> Iterator[bytes]:
    """What the server sends, piece by piece, after the head that went out on its own."""
    came = iter(response.response)
    assert next(came) == b""
    return came


def test_envelopes_alone_unless_another_form_is_asked_for(client, world) -> None:
    world.begin()
    headers = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "X-Accel-Buffering": "no",
    }
    for query, events in (
        ("", {"message"}),
        ("?format=", {"message"}),
        ("?format=message", {"message"}),
        ("?format=both", {"message", "inFlight"}),
        ("?format=named", {"inFlight"}),
    ):
        response = client.get("/api/events" + query, buffered=False)
        assert headers.items() <= dict(response.headers).items()
        found = {frame.event for frame in SseParser().feed(next(pieces(response)))}
        response.close()
        assert (found, world.service.feeds) == (events, set()), query
    assert client.head("/api/events").headers["Content-Type"] == "text/event-stream"
    assert not world.service.feeds
    assert client.get("/api/events?format=xml").status_code == 400


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_resumes_by_header_or_where_none_can_be_sent_by_query(client, world, how) -> None:
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


@parity("Store and activity", "`GET /api/metrics`")
def test_metrics_are_a_list_of_the_published_objects_in_ascending_order(client, world) -> None:
    assert client.get("/api/metrics").data == b"[]\n"
    first, _, last = (world.record(status=status, cached_tokens=None) for status in (200, 502, 200))
    response = client.get("/api/metrics")
    assert response.headers["Content-Type"] == "application/json"
    assert response.json == [metric_object(first), metric_object(last)]


def test_activity_has_every_field_of_every_request(client, world) -> None:
    world.record(status=502, reason="no", queue_ms=3.5, swap_id=4, key_name="wiki")
    body = client.get("/api/activity").json
    (record,) = body["records"]
    assert (body["schema_version"], body["cursor"]) == (1, None)
    assert (record["reason"], record["swap_id"], record["first_token_ms"]) == ("no", 4, None)
    assert set(record) == {*ActivityRecord.__struct_fields__, "ended_ms"} - {"ended_ns"}
    world.record()
    page = client.get("/api/activity?limit=1").json
    rest = client.get(f"/api/activity?limit=1&cursor={page['cursor']}").json
    assert ([page["records"][0]["id"], rest["records"][0]["id"]], rest["cursor"]) == ([1, 0], None)


def test_activity_is_filtered_and_sorted(client, world) -> None:
    special: list[dict[str, Any]] = [
        {}, {"model_id": "beta"}, {"requested": "first"}, {"status": 502},
        {"status": 499, "selector": "chat", "peer": "box"},
        {"key_name": "wiki", "selector": "chat"},
    ]  # fmt: skip
    for number, facts in enumerate(special):
        world.record(ended_ns=number * 10**9, duration_ms=100.0 - number, **facts)
    expected = {
        "model=beta": [1],
        "status=5xx": [3],
        "key=wiki": [5],
        "selector=chat&peer=box": [4],
        "since=2000&until=4000": [3, 2],
        "sort=duration_ms&limit=2": [5, 4],
        "limit=0": [5, 4, 3, 2, 1, 0],
    }
    pages = {query: client.get(f"/api/activity?{query}").json["records"] for query in expected}
    assert {query: [one["id"] for one in page] for query, page in pages.items()} == expected


def test_what_cannot_be_meant_is_refused(client) -> None:
    bad = ["status=x", "since=-1", "since=1e9", "limit=x", "sort=x", "cursor=x", "until=\u0661"]
    found = {query: client.get(f"/api/activity?{query}").status_code for query in bad}
    assert found == dict.fromkeys(bad, 400)


def test_statistics_sum_up_all_and_each_model(client, world) -> None:
    world.record(queue_ms=100.0)
    world.record(model_id="beta", status=500, request_id="r-7")
    body = client.get("/api/activity/stats").json
    assert (body["total"]["requests"], body["models"]["beta"]["errors"]) == (2, 1)
    assert body["models"]["alpha"]["queue_ms"]["p95"] == 100.0
    only = client.get("/api/activity/stats?model=beta").json
    assert (list(only["models"]), body["recorded"], only["recorded"]) == (["beta"], 2, 1)
    assert body["since_ms"] == client.get("/api/activity").json["records"][-1]["ended_ms"]
    assert client.get("/api/activity?limit=1&count=1").json["total"] == 2
    for only_one in ("id=1", "request_id=r-7"):
        (one,) = client.get(f"/api/activity?{only_one}").json["records"]
        assert one["id"] == 1


def test_swaps_are_listed_and_each_says_which_plan_it_followed(client, world) -> None:
    world.swap("beta")
    world.swap("alpha", evicted=("beta",))
    swaps = client.get("/api/swaps").json["swaps"]
    found = [(swap["target"], swap["evicted"]) for swap in swaps]
    assert found == [("beta", []), ("alpha", ["beta"])]
    found = client.get(f"/api/swaps/{swaps[-1]['id']}").json
    assert found["swap"] == swaps[-1]
    assert "plan" in found["swap"]
    assert "Evicted: beta." in found["sentences"]
    assert client.get("/api/swaps/999999").status_code == 404


def test_a_plan_says_who_would_leave_and_changes_nothing(client) -> None:
    found = client.get("/api/plan?model=alpha&running=beta").json
    assert (found["answer"], found["victims"]) == ("plan", ["beta"])
    assert (found["why"], found["summary"]) == ("alpha is in group (default)", "evicts beta")
    beta = {"model": "beta", "action": "stop", "frees": None, "busy": False, "idle_s": None}
    assert found["leaving"] == [beta]
    assert found["sentences"][0] == "Loading alpha would stop beta."
    assert client.get("/api/plan?model=alpha").json["victims"] == []
    refused = {"?model=nobody": 404, "": 404, "?model=alpha&memory=gpu0:1GiB": 400}
    found = {query: client.get(f"/api/plan{query}").status_code for query in refused}
    assert found == refused


BUDGET = """
memory: {gpu0: 24GiB}
models:
  qwen: {cmd: "serve --port ${PORT}", memory: 14GiB, pin: true}
  huge: {cmd: "serve --port ${PORT}", memory: 11GiB}
"""


def test_devices_of_the_budget_are_listed_with_the_name_of_the_card(client) -> None:
    assert client.get("/api/memory").json["devices"] == [], "groups decide here"
    world = World(BUDGET)
    sample = PerformanceSample(1, HostSample(), (), (GpuSample(0, "RTX 4090", uuid="GPU-7"),))
    world.service.telemetry.performance._samples.append(sample)
    budget = app_of(lambda: world.service).test_client()
    found = budget.get("/api/memory").json
    larger = budget.get("/api/plan?model=qwen&memory=gpu0:12GiB").json
    assert larger["answer"] == "never_fits"
    assert budget.get("/api/plan?model=qwen&memory=gpu0:x").status_code == 400
    refused = budget.post("/api/models/load/huge?wait=0")
    assert (refused.status_code, refused.json["error"]["code"]) == (503, "model_does_not_fit")
    world.close()
    device, (qwen, huge) = found["devices"][0], found["models"]
    assert (device["name"], device["label"], device["uuid"]) == ("gpu0", "RTX 4090", "GPU-7")
    assert (device["capacity"], device["free"]) == (24 << 30, 24 << 30)
    assert qwen == {
        "model": "qwen", "need": {"gpu0": 14 << 30}, "asleep": {}, "source": "declared",
        "pinned": True, "alone_on": "", "never_fits": "",
    }  # fmt: skip
    why = "it needs 11.0 GiB on gpu0; gpu0 has 24.0 GiB, beside qwen, which is pinned"
    assert huge["never_fits"] == why


def test_a_request_in_flight_tells_the_swap_it_waits_for_or_waited_for(
    client, world, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.service.driver, "swap_to", {"alpha": 7, "beta": 8}.get)
    waits, served, _ = world.begin(request_id="r-0"), world.begin("beta"), world.begin("gamma")
    grant(served.context, 0.1, 0.2, 5)
    shown = client.get("/api/inflight").json["requests"]
    assert [one["swap_id"] for one in shown] == [7, 5, None]
    assert [one["position"] for one in shown] == [None, None, None]
    for number in (1, 2):  # the scheduler alone: no process starts
        world.service.driver.scheduler.handle(RequestArrived(number, "alpha"), 0.0)
    waits.context.wait_for(Ticket(2, "alpha", lambda _: None))
    first, second, _ = client.get("/api/inflight").json["requests"]
    assert (first["position"], second["position"], second["why"]) == (2, None, None)
    assert first["why"].startswith("alpha ")
    assert first["eta_s"] is not None
    found = client.get("/api/requests/r-0").json
    assert (found["request"]["position"], found["swap"]) == (2, None)
    assert "Swap 7 loads alpha now." in found["sentences"]
    assert client.get("/api/requests/none").status_code == 404


def test_requests_in_flight_are_listed_and_can_be_ended(client, world) -> None:
    observer = world.begin(key_name="wiki", client_ip="10.0.0.7")
    cancelled: list[bool] = []
    observer.context.cancel = lambda: cancelled.append(True)
    (shown,) = client.get("/api/inflight").json["requests"]
    expected = {"id": observer.serial, "phase": "waiting", "client": "10.0.0.7", "can_cancel": True}
    assert expected.items() <= shown.items()
    assert client.post(f"/api/inflight/{observer.serial}/cancel").json == {"msg": "ok"}
    assert cancelled == [True]
    assert client.post("/api/inflight/99/cancel").status_code == 404
    observer.finish()
    assert client.get("/api/inflight").json["requests"] == []


@pytest.fixture
def captured(world: World) -> None:
    headers = {"Content-Type": "application/json"}
    capture = Capture(
        id=3, req_path="/v1/chat/completions?api_key=[REDACTED]", status=200,
        req_headers={**headers, "Authorization": "[REDACTED]"}, resp_headers=headers,
        req_body=CapturedBody.of(b'{"model":"it\'s"}'), resp_body=CapturedBody.of(b"{}"),
    )  # fmt: skip
    keep(world.service.telemetry.captures, capture)


@pytest.mark.usefixtures("captured")
def test_a_capture_has_the_published_shape(client) -> None:
    for number in ("3", "+3", "03"):
        shown = client.get(f"/api/captures/{number}").json
        assert {name: shown[name] for name in list(shown)[:6]} == {
            "id": 3,
            "req_path": "/v1/chat/completions?api_key=[REDACTED]",
            "req_headers": {"Content-Type": "application/json", "Authorization": "[REDACTED]"},
            "req_body": base64.b64encode(b'{"model":"it\'s"}').decode(),
            "resp_headers": {"Content-Type": "application/json"},
            "resp_body": "e30=",
        }


@pytest.mark.usefixtures("captured")
def test_a_capture_that_is_none_is_said_in_json(client) -> None:
    invalid = dict.fromkeys(["x", "1_0", " 3", "\u0663", "9" * 5000], (400, "invalid capture ID"))
    expected = invalid | dict.fromkeys(["-1", "4"], (404, "capture not found"))
    found = {}
    for number in expected:
        answer = client.get(f"/api/captures/{number}", headers={"Accept": "text/plain"})
        found[number] = (answer.status_code, answer.json["error"])
    assert found == expected


@pytest.mark.usefixtures("captured")
def test_a_capture_becomes_a_command_or_a_har_document(client) -> None:
    curl = client.get("/api/captures/3?format=curl")
    assert curl.headers["Content-Type"].startswith("text/plain")
    assert curl.text.startswith("curl -X POST 'http://localhost/v1/chat/completions?api_key=")
    assert "[REDACTED]" in curl.text
    har = client.get("/api/captures/3?format=har").json
    assert har["log"]["entries"][0]["response"]["content"]["text"] == "{}"
    assert client.get("/api/captures/3?format=xml").status_code == 400


CONFIG = """
startPort: 17000
logToStdout: none
models:
  alpha:
    cmd: serve --port ${PORT} --api-key hunter2hunter2
    aliases: [first]
    ttl: 60
  beta:
    cmd: serve --port ${PORT}
groups:
  pair:
    swap: false
    members: [alpha]
"""
house = site_fixture(CONFIG)


def test_the_overview_tells_how_every_model_fares_and_the_timeline_its_states(house) -> None:
    found = house.client.get("/api/overview").json
    alpha, beta = found["models"]
    assert (alpha["model_id"], alpha["state"], alpha["in_flight"]) == ("alpha", "stopped", 0)
    assert (alpha["aliases"], alpha["ttl_s"]) == (["first"], 60)
    assert alpha["durations"]["start"] == {"count": 0, "last_s": None, "p50_s": None, "p90_s": None}
    assert "hunter2" not in alpha["cmd"]
    assert (beta["model_id"], beta["prompts"]) == ("beta", None)
    groups = {each["id"]: (each["members"], each["swap"]) for each in found["groups"]}
    assert groups == {"pair": (["alpha"], False), "(default)": (["beta"], True)}
    house.service.bus.publish(ProcessStateChanged("alpha", "stopped", "starting"))
    first, second = house.client.get("/api/timeline").json["states"]["alpha"]
    assert (first["state"], first["to_ms"]) == ("stopped", second["from_ms"])
    assert (second["state"], second["to_ms"]) == ("starting", None)


def test_peers_are_known_by_the_outcome_of_their_last_request(client, world) -> None:
    assert client.get("/api/overview").json["peers"] == [{"id": "box2", "last": None}]
    world.record(peer="box2", status=502, reason="no route", ended_ns=7_000_000_000)
    world.record(peer="box2", status=499, client_left=True)
    world.record(peer="gone")
    (box,) = client.get("/api/overview").json["peers"]
    assert box["last"] == {"ended_ms": 7000, "status": 502, "reason": "no route"}


def test_long_documents_are_compressed_for_clients_that_accept_it() -> None:
    models = "".join(f"  m{n}: {{cmd: x, proxy: 'http://localhost:1'}}\n" for n in range(300))
    with site(f"models:\n{models}") as many:
        plain = many.client.get("/api/models")
        packed = many.client.get("/api/models", headers={"Accept-Encoding": "br, gzip"})
        short = many.client.get("/api/version", headers={"Accept-Encoding": "gzip"})
    assert (plain.json["models"][0]["id"], len(plain.json["models"])) == ("m0", 300)
    assert "Content-Encoding" not in {*plain.headers.keys(), *short.headers.keys()}
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert len(packed.data) < len(plain.data) / 5
    assert gzip.decompress(packed.data) == plain.data


@pytest.fixture
def file(house: Site, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    house.service.runtime.config = load(path, environ={})
    return path


def test_the_file_is_shown_without_secrets(house, file) -> None:
    def shown(what: str = "file") -> dict[str, Any]:
        return house.client.get(f"/api/config/{what}").json

    assert shown()["source"] == str(file)
    assert "aliases: [first]" in shown()["text"]
    assert "hunter2" not in shown()["text"]
    file.unlink()
    assert "No such file" in shown()["reason"]
    house.service.runtime.config = loads(CONFIG, environ={})
    assert (shown()["text"], shown("plan")["changes"]) == ("", None)


def test_several_files_are_shown_each_and_problems_name_theirs(house: Site, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    (tmp_path / "b.yaml").write_text("queueLimit: 7\n")
    house.service.runtime.config = load(Sources("", str(tmp_path)), environ={})
    found = house.client.get("/api/config/file").json
    assert [each["path"] for each in found["files"]] == [f"{tmp_path}/{n}.yaml" for n in "ab"]
    assert found["files"][1]["text"] == "queueLimit: 7\n"
    assert "hunter2" not in str(found)
    (tmp_path / "b.yaml").write_text("queueLimit: x\n")
    (error,) = house.client.get("/api/config/plan").json["errors"]
    assert (error["file"], error["line"]) == (f"{tmp_path}/b.yaml", 1)


def test_the_plan_tells_what_a_reload_would_touch_or_every_problem(house, file) -> None:
    file.write_text(CONFIG.replace("ttl: 60", "ttl: 61").replace("  beta:", "  gamma:"))
    changes = house.client.get("/api/config/plan").json["changes"]
    found = (changes["hot"], changes["added"], changes["removed"])
    assert found == (["alpha"], ["gamma"], ["beta"])
    file.write_text(CONFIG.replace("ttl: 60", "ttl: soon"))
    found = house.client.get("/api/config/plan").json
    assert found["changes"] is None
    assert [(each["line"], each["where"]) for each in found["errors"]] == [(8, "models.alpha.ttl")]


def samples(client: Any) -> dict[tuple[Any, ...], float]:
    page = client.get("/metrics")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def test_the_page_counts_requests_and_shows_every_model_and_the_last_sample(client, world) -> None:
    assert ("llmsnap_host_memory_used_bytes",) not in samples(client)
    world.record()
    world.record(model_id="made-up", status=404)
    world.service.logs.model("alpha").dropped_bytes = 7
    sample = PerformanceSample(
        1000, HostSample(50.0, 10, 20, 0.1), (ProcessSample("alpha", 4096, 150.0),)
    )
    world.service.telemetry.performance._samples.append(sample)
    found = samples(client)
    expected = {
        ("requests_total", "200", "alpha"): 1,
        ("requests_total", "404", "other"): 1,
        ("model_state", "alpha", "stopped"): 1,
        ("log_dropped_bytes_total", "alpha"): 7,
        ("requests_in_flight", "beta"): 0,
        ("host_memory_used_bytes",): 10,
        ("model_resident_memory_bytes", "alpha"): 4096,
    }
    assert {key: found[f"llmsnap_{key[0]}", *key[1:]] for key in expected} == expected
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert client.get("/metrics", headers=accept).text.endswith("# EOF\n")


def test_the_metrics_of_ready_models_are_added_on_request(client, world, monkeypatch) -> None:
    upstream = FakeUpstream()

    def answer(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"busy 1\n"]

    upstream.handler = answer
    upstream.start()
    dead = parse_address("http://127.0.0.1:9")
    ready = {"alpha": parse_address(upstream.url), "beta": dead}
    monkeypatch.setattr(world.service, "ready_addresses", lambda: ready)
    page = client.get("/metrics?upstream=1", headers={"Accept": "application/openmetrics-text"})
    upstream.stop()
    assert upstream.calls == ["GET /metrics"]
    assert 'busy{model="alpha"} 1' in page.text.splitlines()
    assert page.content_type.startswith("text/plain")
    assert "busy" not in client.get("/metrics").text


@parity("Performance", "`GET /api/performance?after=`")
def test_the_samples_of_the_last_hour_can_be_fetched_from_a_moment_on(client, world) -> None:
    for at in (1000, 2000):
        world.service.telemetry.performance._samples.append(PerformanceSample(at, HostSample()))
    both = client.get("/api/performance").json
    assert [sample["at_ms"] for sample in both["samples"]] == [1000, 2000]
    assert (len(both["sys_stats"]), both["enabled"]) == (2, True)
    later = client.get("/api/performance?since=1000").json
    assert [sample["at_ms"] for sample in later["samples"]] == [2000]
    assert "sys_stats" not in later
    theirs = client.get("/api/performance?after=1970-01-01T00:00:01Z").json
    assert set(theirs) == {"enabled", "sys_stats", "gpu_stats"}
    assert [one["timestamp"] for one in theirs["sys_stats"]] == ["1970-01-01T00:00:02Z"]
    for query in ("since=x", "after=x"):
        assert client.get(f"/api/performance?{query}").status_code == 400
    assert b"llamaswap_memory" not in client.get("/metrics").data
    assert "llamaswap_memory" in client.get("/metrics?compat=llama-swap").text


@parity("Performance", "`performance.disabled`: 503")
def test_without_sampling_there_are_no_samples_and_llama_swaps_shape_is_503(client, world) -> None:
    performance = world.service.telemetry.performance
    performance._samples.append(PerformanceSample(1000, HostSample()))
    performance.configure(enabled=False, every_s=5.0)
    answer = client.get("/api/performance?after=1970-01-01T00:00:01Z")
    assert (answer.status_code, answer.json) == (503, {"enabled": False})
    both = client.get("/api/performance").json
    assert (both["enabled"], both["samples"]) == (False, [])
    assert ("llmsnap_host_memory_used_bytes",) not in samples(client)


@parity("Hardware", "`GET /api/hardware`")
def test_the_hardware_is_told_once_it_is_detected(client, world) -> None:
    probe = world.service.telemetry.hardware = HardwareProbe(lambda: detect(Path("/none"), None))
    assert client.get("/api/hardware").headers["Retry-After"] == "1"
    probe.run()
    found = client.get("/api/hardware").json
    assert (found["schema_version"], found["capture"]["scope"]) == (1, "inference_host")
    assert (found["cpu"]["vendor"], found["environment"]["kind"]) == (None, "unknown")
    assert (found["capture"]["method"], found["accelerators"]) == ("detected", [])
    broken = world.service.telemetry.hardware = HardwareProbe(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    broken.run()
    answer = client.get("/api/hardware")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, None)
    assert answer.json["error"]["code"] == "hardware_unknown"
