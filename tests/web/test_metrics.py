"""Facts about llmsnap.web.metrics, through Flask and the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmsnap.telemetry import HostSample, PerformanceSample, ProcessSample
from llmsnap.telemetry.hardware import HardwareProbe, detect
from tests.web.serving import app_of
from tests.web.watched import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Any:
    return app_of(lambda: world.service).test_client()


def samples(client: Any) -> dict[tuple[Any, ...], float]:
    page = client.get("/metrics")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def test_the_page_counts_requests_and_shows_every_model(client: Any, world: World) -> None:
    world.record()
    world.record(status=502)
    world.swap("alpha", reason="request", started_at=1.0)
    world.service.logs.model("alpha").dropped_bytes = 7
    found = samples(client)
    assert found["llmsnap_requests_total", "200", "alpha"] == 1
    assert found["llmsnap_request_errors_total", "502", "alpha"] == 1
    assert found["llmsnap_swaps_total", "alpha", "done", "request"] == 1
    assert found["llmsnap_model_state", "alpha", "stopped"] == 1
    assert found["llmsnap_model_state", "alpha", "ready"] == 0
    assert found["llmsnap_log_dropped_bytes_total", "alpha"] == 7
    assert found["llmsnap_requests_in_flight", "beta"] == 0


def test_the_scraper_chooses_the_format(client: Any) -> None:
    plain = client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    modern = client.get("/metrics", headers=accept)
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")


def test_names_that_clients_make_up_are_one_series(client: Any, world: World) -> None:
    before = len(samples(client))
    for number in range(500):
        world.record(model_id=f"made-up-{number}", status=404)
    found = samples(client)
    assert found["llmsnap_requests_total", "404", "other"] == 500
    assert len(found) < before + 100


def test_host_and_model_processes_are_those_of_the_last_sample(client: Any, world: World) -> None:
    assert ("llmsnap_host_memory_used_bytes",) not in samples(client)
    sample = PerformanceSample(
        1000, HostSample(50.0, 10, 20, 0.1), (ProcessSample("alpha", 4096, 150.0),)
    )
    world.service.telemetry.performance._samples.append(sample)
    found = samples(client)
    assert found["llmsnap_host_memory_used_bytes",] == 10
    assert found["llmsnap_model_resident_memory_bytes", "alpha"] == 4096
    assert found["llmsnap_model_cpu_ratio", "alpha"] == 1.5


def test_the_samples_of_the_last_hour_can_be_fetched_from_a_moment_on(
    client: Any, world: World
) -> None:
    for at in (1000, 2000):
        world.service.telemetry.performance._samples.append(PerformanceSample(at, HostSample()))
    assert [s["at_ms"] for s in client.get("/api/performance").json["samples"]] == [1000, 2000]
    later = client.get("/api/performance?since=1000").json
    assert [sample["at_ms"] for sample in later["samples"]] == [2000]
    assert client.get("/api/performance?since=x").status_code == 400
    theirs = client.get("/api/performance?after=1970-01-01T00:00:01Z").json
    assert set(theirs) == {"enabled", "sys_stats", "gpu_stats"}
    assert [one["timestamp"] for one in theirs["sys_stats"]] == ["1970-01-01T00:00:02Z"]
    both = client.get("/api/performance").json
    assert (len(both["sys_stats"]), len(both["samples"]), both["enabled"]) == (2, 2, True)
    assert "sys_stats" not in later
    assert client.get("/api/performance?after=x").status_code == 400
    assert b"llamaswap_memory" not in client.get("/metrics").data
    assert "llamaswap_memory" in client.get("/metrics?compat=llama-swap").text


def test_the_hardware_is_told_once_it_is_detected(client: Any, world: World) -> None:
    probe = HardwareProbe(lambda: detect(Path("/none"), None))
    world.service.telemetry.hardware = probe
    assert client.get("/api/hardware").headers["Retry-After"] == "1"
    probe.run()
    found = client.get("/api/hardware").json
    assert (found["schema_version"], found["capture"]["scope"]) == (1, "inference_host")
    assert found["cpu"]["vendor"] is None


def test_hardware_that_cannot_be_detected_is_said_to_be_unknown(client: Any, world: World) -> None:
    probe = HardwareProbe(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    world.service.telemetry.hardware = probe
    probe.run()
    answer = client.get("/api/hardware")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, None)
    assert answer.json["error"]["code"] == "hardware_unknown"
