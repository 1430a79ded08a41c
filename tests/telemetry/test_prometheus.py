"""What is counted, the page that shows it, and the metrics of model servers on it."""

import shutil
import subprocess
from itertools import pairwise

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from llmsnap.telemetry import events, sampling
from llmsnap.telemetry import prometheus as module
from llmsnap.telemetry.events import ActivityRecorded, FilesRead, PromptsKept, SwapFinished
from llmsnap.telemetry.exposition import MOST_LINES, merge
from llmsnap.telemetry.prometheus import OTHER, Gauges, Metrics, ModelGauges, inter_token_s
from llmsnap.telemetry.record import ActivityRecord
from llmsnap.telemetry.sampling import GpuSample, HostDetails, HostSample, ProcessSample
from tests.fakes.clock import Clock
from tests.parity import parity

ODD = 'odd "name"\\with\nall'
LLAMA = ("model", "llama")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics(clock):
    return Metrics(clock)


def record(**facts) -> ActivityRecord:
    return ActivityRecord(**{"id": 0, "model_id": "llama", "status": 200, **facts})


def samples(metrics: Metrics, gauges: Gauges | None = None) -> dict:
    page, _ = metrics.render(gauges or Gauges())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in plain_text(page.decode())
        for sample in family.samples
    }


def counted(metrics: Metrics, name: str) -> dict:
    """The samples called *name*, by the values of their labels (in the order of their names)."""
    return {
        tuple(value for _, value in labels): number
        for (found, *labels), number in samples(metrics).items()
        if found == f"llmsnap_{name}"
    }


def busy() -> tuple[Metrics, Gauges]:
    """Everything there is on the page, at least once."""
    metrics = Metrics()
    times = {"queue_ms": 3100.0, "load_ms": 8200.0, "first_token_ms": 11_700.0}
    tokens = {"input_tokens": 7, "output_tokens": 41, "cached_tokens": 3}
    for model, status in (("llama", 200), (ODD, 502)):
        facts = {"model_id": model, "status": status, "client_left": status == 502}
        metrics.count_request(record(**facts, **times, **tokens, duration_ms=12_700.0))
    for old, new in (("stopped", "starting"), ("starting", "ready")):
        metrics.count_transition(events.ProcessStateChanged("llama", old, new))
    swap = {"swap_id": 1, "target": "llama", "started_at": 1.0, "phases": (("load", 8.2),)}
    metrics.count_swap(SwapFinished(outcome="done", **swap))
    metrics.count_restart(events.ModelRestarted("llama", "wake"))
    metrics.count_prompts(PromptsKept("llama", "restored", 1586))
    metrics.count_read_ahead(FilesRead("llama", 4096))
    gauges = Gauges(
        models=[ModelGauges("llama", "ready", 2, 5), ModelGauges(ODD, "stopped")],
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
    return metrics, gauges


def test_requests_by_model_and_status(metrics):
    for status in (200, 200, 302, 502, 0, 999):
        metrics.count_request(record(status=status))
    metrics.count_request(record(model_id="", status=404, client_left=True))
    errors = {("llama", "502"): 1, ("llama", OTHER): 2, (OTHER, "404"): 1}
    assert counted(metrics, "request_errors_total") == errors
    requests = {("llama", "200"): 2, ("llama", "302"): 1, **errors}
    assert counted(metrics, "requests_total") == requests
    assert counted(metrics, "clients_left_total") == {(OTHER,): 1}


def test_tokens_of_all_kinds_and_a_bounded_number_of_labels(metrics, monkeypatch):
    monkeypatch.setattr(module, "MAX_MODELS", 2)
    metrics.count_request(record(input_tokens=5, output_tokens=7, cached_tokens=3))
    metrics.count_request(record(output_tokens=1, draft_tokens=9, draft_accepted=4))
    kinds = {"input": 5, "output": 8, "cached": 3, "draft": 9, "draft_accepted": 4}
    found = {kind: count for (kind, _), count in counted(metrics, "tokens_total").items()}
    assert found == kinds
    for name in ("b", "c", "b", "d"):
        metrics.count_request(record(model_id=name))
    found = counted(metrics, "requests_total")
    assert found == {("llama", "200"): 2, ("b", "200"): 2, (OTHER, "200"): 2}


def test_a_bucket_counts_what_is_up_to_its_bound_and_unknown_waits_are_not_counted(metrics):
    for ms in (4.0, 5.0, 20.0, 400_000.0):
        metrics.count_request(record(duration_ms=ms, queue_ms=3100.0))
    buckets = counted(metrics, "request_duration_seconds_bucket")
    assert buckets["0.005", "llama"] == 2
    assert buckets["0.025", "llama"] == buckets["300.0", "llama"] == 3
    assert buckets["+Inf", "llama"] == 4
    assert counted(metrics, "request_duration_seconds_sum") == {("llama",): pytest.approx(400.029)}
    assert counted(metrics, "queue_wait_seconds_sum") == {("llama",): pytest.approx(12.4)}
    assert counted(metrics, "load_wait_seconds_sum") == {}


def test_the_time_between_tokens():
    names = ("first_token_ms", "duration_ms", "output_tokens")
    shown = {
        (100.0, 1100.0, 11): 0.1,
        (None, 1100.0, 11): None,
        (100.0, 1100.0, 1): None,
        (100.0, 1100.0, None): None,
        (100.0, 100.0, 11): None,
    }
    found = {key: inter_token_s(record(**dict(zip(names, key, strict=True)))) for key in shown}
    assert found == shown


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        (("stopped", "starting", "ready"), "load"),
        (("asleep", "waking", "ready"), "wake"),
        (("ready", "sleepPending", "asleep"), "sleep"),
        (("ready", "stopping", "stopped"), "stop"),
        (("stopped", "starting", "stopped", "shutdown"), ""),  # it failed
    ],
)
def test_how_long_a_transition_takes(metrics, clock, states, kind):
    for old, new in pairwise(states):
        metrics.count_transition(events.ProcessStateChanged("llama", old, new))
        clock.now = 8.25
    found = counted(metrics, "model_move_seconds_sum")
    assert found == ({(kind, "llama"): 8.25} if kind else {})


def test_it_follows_the_bus(metrics):
    bus = events.EventBus()
    subscriptions = metrics.follow(bus)
    bus.publish(ActivityRecorded(record()))
    swap = {"target": "llama", "reason": "request", "started_at": 10.0, "at": 14.5}
    swap["phases"] = (("load", 4.0), ("canary", 0.5))
    bus.publish(SwapFinished(swap_id=1, outcome="failed", **swap))
    bus.publish(SwapFinished(swap_id=2, outcome="done", **swap))
    bus.publish(PromptsKept("llama", "restored", 1586))
    bus.publish(FilesRead("llama", 4096))
    for subscription in subscriptions:
        subscription.close()
    bus.publish(ActivityRecorded(record()))
    expected = {
        "prompt_cache_tokens_total": {("llama", "restored"): 1586},
        "read_ahead_bytes_total": {("llama",): 4096},
        "requests_total": {("llama", "200"): 1},
        "swaps_total": {("llama", "failed", "request"): 1, ("llama", "done", "request"): 1},
        "swap_phase_seconds_sum": {("llama", "load"): 8.0, ("llama", "canary"): 1.0},
    }
    assert {name: counted(metrics, name) for name in expected} == expected
    assert sum(counted(metrics, "swap_duration_seconds_sum").values()) >= 4.5


def test_what_stands_on_the_page_in_both_formats():
    metrics, gauges = busy()
    modern, modern_type = metrics.render(gauges, "application/openmetrics-text; version=1.0.0")
    assert modern_type.startswith("application/openmetrics-text")
    assert len(list(open_metrics(modern.decode()))) > 20
    assert metrics.render(gauges, "text/plain")[1].startswith("text/plain")
    found = samples(metrics, gauges)
    expected = {
        ("request_errors_total", ("model", ODD), ("status", "502")): 1,
        ("tokens_total", ("kind", "output"), LLAMA): 41,
        ("requests_in_flight", LLAMA): 2,
        ("requests_waiting", LLAMA): 5,
        ("model_state", LLAMA, ("state", "ready")): 1,
        ("model_state", LLAMA, ("state", "asleep")): 0,
        ("time_to_first_token_seconds_bucket", ("le", "30.0"), LLAMA): 1,
        ("inter_token_seconds_sum", LLAMA): 0.025,
        ("model_move_seconds_count", ("kind", "load"), LLAMA): 1,
        ("log_dropped_bytes_total", LLAMA): 1234,
        ("model_cpu_ratio", LLAMA): 1.5,
        ("model_resident_memory_bytes", LLAMA): 4000,
        ("tasks",): 8,
        ("wrong_keys_total",): 9,
        ("host_cpu_ratio",): 0.125,
        ("gpu_power_watts", ("gpu", "0"), ("name", "RTX")): 120.5,
        ("gpu_power_watts", ("gpu", "1"), ("name", "other")): None,
    }
    assert {key: found.get((f"llmsnap_{key[0]}", *key[1:])) for key in expected} == expected
    assert found["process_resident_memory_bytes",] > 0
    names = {name for name, *_ in found}
    assert not [name for name in names if not name.startswith(("llmsnap_", "process_"))]
    assert not [name for name in names if name.endswith("_created")]
    empty = samples(Metrics())
    assert empty["llmsnap_capture_bytes",] == 0
    assert not [name for name, *_ in empty if name.startswith("llmsnap_host")]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    metrics, gauges = busy()
    page, check = metrics.render(gauges)[0], ["promtool", "check", "metrics"]
    checked = subprocess.run(check, input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@parity("Performance", "`/metrics` has the series `llamaswap_*`", "with `?compat=llama-swap`")
def test_llama_swaps_series_are_there_for_dashboards_that_ask_for_them(metrics):
    network = (sampling.NetworkCounters("eth0", 7, 8),)
    details = HostDetails((5.0, 15.0), 3, 4, 5, 0.2, None, network)
    sample = sampling.PerformanceSample(
        1, HostSample(10.0, 1, 2, 0.1), gpus=(GpuSample(0, "RTX", 80.0, 5, 10, 61.0),),
        details=details,
    )  # fmt: skip
    page = metrics.render(Gauges(llama_swap=sample))[0].decode()
    found = {line.rpartition(" ")[0] for line in page.splitlines() if line.startswith("llamaswap")}
    assert found == {
        'llamaswap_cpu_util_percent{core="0"}', 'llamaswap_cpu_util_percent{core="1"}',
        "llamaswap_memory_total_bytes", "llamaswap_memory_used_bytes",
        "llamaswap_memory_free_bytes", "llamaswap_swap_total_bytes", "llamaswap_swap_used_bytes",
        'llamaswap_load_average{interval="1m"}', 'llamaswap_load_average{interval="5m"}',
        'llamaswap_network_bytes_total{direction="recv",interface="eth0"}',
        'llamaswap_network_bytes_total{direction="sent",interface="eth0"}',
        'llamaswap_gpu_temperature_celsius{id="0",name="RTX",uuid=""}',
        'llamaswap_gpu_util_percent{id="0",name="RTX",uuid=""}',
        'llamaswap_gpu_memory_used_bytes{id="0",name="RTX",uuid=""}',
        'llamaswap_gpu_memory_total_bytes{id="0",name="RTX",uuid=""}',
    }  # fmt: skip
    assert "llamaswap" not in metrics.render(Gauges())[0].decode()


LLAMACPP = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 42
"""
VLLM = b"""\
# HELP vllm:ttft_seconds Time to first token.
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{le="0.5",model_name="m, model=\\"x\\""} 1.0
vllm:ttft_seconds_bucket{le="+Inf",model_name="m, model=\\"x\\""} 2.0
vllm:ttft_seconds_sum{model_name="m, model=\\"x\\""} 3e-05
vllm:ttft_seconds_count{model_name="m, model=\\"x\\""} 2.0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 5
"""


@parity(
    "Performance",
    "the models' own metrics are not collected",
    "`GET /metrics?upstream=1` adds them with the label `model`",
)
def test_each_series_is_labelled_and_each_family_is_described_once() -> None:
    page = merge({"a": LLAMACPP, 'b"\\': LLAMACPP.replace(b"42", b"7"), "v": VLLM}).decode()
    families = {family.name: family for family in plain_text(page)}
    assert set(families) == {"llamacpp:prompt_tokens", "vllm:ttft_seconds"}
    tokens = families["llamacpp:prompt_tokens"].samples
    assert {one.labels["model"]: one.value for one in tokens} == {"a": 42.0, 'b"\\': 7.0}
    buckets = families["vllm:ttft_seconds"].samples
    assert {one.labels["model"] for one in buckets} == {"v"}
    assert {one.labels["model_name"] for one in buckets} == {'m, model="x"'}
    assert page.count("# TYPE llamacpp:prompt_tokens_total") == 1
    assert page.index("prompt_tokens_total{") < page.index("vllm:ttft_seconds_bucket")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            b'x{model="t",a="1",} 2 1700000000000',
            'x{model="m",exported_model="t",a="1"} 2',
        ),
        (b"x NaN", 'x{model="m"} NaN'),
        (b"x{} +Inf", 'x{model="m"} +Inf'),
        (b"x{a=1} 2", ""),
        (b'x{a="1} 2', ""),
        (b"x y", ""),
        (b"<html>", ""),
        (b"llmsnap_requests_total 9", ""),
        (b"\xff 1", ""),
        (b"x{" + b'a="1",' * 1000 + b"} 1", ""),
        (b"\n" * MOST_LINES + b"x 1", ""),
    ],
)
def test_what_follows_the_format_is_kept(line: bytes, shown: str) -> None:
    assert merge({"m": line}).decode().strip() == shown
