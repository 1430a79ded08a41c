import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from llmsnap.telemetry.events import ActivityRecord, ProcessStateChanged, SwapFinished
from llmsnap.telemetry.prometheus import Counters, Exposition, ModelGauge, Now
from llmsnap.telemetry.sampling import GpuSample, HostSample, ProcessSample

ODD = 'odd "name"\\with\nall'


def everything() -> Exposition:
    counters = Counters()
    for model, status in (("llama", 200), (ODD, 502)):
        counters.count_request(
            ActivityRecord(
                id=0, model_id=model, status=status, client_left=status == 502, queue_ms=3100.0,
                load_ms=8200.0, first_token_ms=11_700.0, duration_ms=12_700.0, input_tokens=7,
                output_tokens=41, cached_tokens=3,
            )
        )  # fmt: skip
    counters.count_move(ProcessStateChanged("llama", "stopped", "starting"))
    counters.count_move(ProcessStateChanged("llama", "starting", "ready"))
    counters.count_swap(SwapFinished(swap_id=1, target="llama", outcome="done", started_at=1.0))
    now = Now(
        models=[ModelGauge("llama", "ready", 2, 5), ModelGauge(ODD, "stopped")],
        log_dropped={"llama": 1234},
        stdout_dropped=5,
        capture_bytes=6,
        store_lost_rows=7,
        wrong_keys=9,
        tasks=8,
        host=HostSample(12.5, 8_000, 16_000, 0.5),
        processes=[ProcessSample("llama", 4_000, 150.0), ProcessSample(ODD, 1)],
        gpus=[GpuSample(0, "RTX", 80.0, 5, 10, 61.0, 120.5), GpuSample(1, "other")],
    )
    return Exposition(counters, lambda: now)


def samples(exposition: Exposition) -> dict:
    page, _ = exposition.render()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in plain_text(page.decode())
        for sample in family.samples
    }


def test_what_stands_on_the_page():
    found = samples(everything())
    llama = ("model", "llama")
    assert found["llmsnap_requests_total", llama, ("status", "200")] == 1
    assert found["llmsnap_request_errors_total", ("model", ODD), ("status", "502")] == 1
    assert found["llmsnap_clients_left_total", ("model", ODD)] == 1
    assert found["llmsnap_tokens_total", ("kind", "output"), llama] == 41
    assert found["llmsnap_requests_in_flight", llama] == 2
    assert found["llmsnap_requests_waiting", llama] == 5
    assert found["llmsnap_model_state", llama, ("state", "ready")] == 1
    assert found["llmsnap_model_state", llama, ("state", "asleep")] == 0
    assert found["llmsnap_time_to_first_token_seconds_bucket", ("le", "30.0"), llama] == 1
    assert found["llmsnap_inter_token_seconds_sum", llama] == 0.025
    assert found["llmsnap_queue_wait_seconds_sum", llama] == 3.1
    assert found["llmsnap_model_move_seconds_count", ("kind", "load"), llama] == 1
    assert found["llmsnap_swap_duration_seconds_count", llama] == 1
    assert found["llmsnap_log_dropped_bytes_total", llama] == 1234
    assert found["llmsnap_model_cpu_ratio", llama] == 1.5
    assert found["llmsnap_model_resident_memory_bytes", llama] == 4000
    assert found["llmsnap_tasks",] == 8
    assert found["llmsnap_wrong_keys_total",] == 9
    assert found["llmsnap_host_cpu_ratio",] == 0.125
    assert found["llmsnap_gpu_power_watts", ("gpu", "0"), ("name", "RTX")] == 120.5
    assert ("llmsnap_gpu_power_watts", ("gpu", "1"), ("name", "other")) not in found
    assert found["process_resident_memory_bytes",] > 0


def test_an_empty_page_is_a_page_too():
    found = samples(Exposition(Counters(), Now))
    assert found["llmsnap_capture_bytes",] == 0
    assert not [name for name, *_ in found if name.startswith("llmsnap_host")]


def test_both_formats_are_understood():
    exposition = everything()
    plain, plain_type = exposition.render("text/plain")
    modern, modern_type = exposition.render("application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert len(list(plain_text(plain.decode()))) > 20
    assert len(list(open_metrics(modern.decode()))) > 20


def test_every_name_is_ours_or_of_the_process():
    names = {name for name, *_ in samples(everything())}
    assert not [name for name in names if not name.startswith(("llmsnap_", "process_"))]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    page, _ = everything().render()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
