"""The Prometheus page: counters since the start, and gauges read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from llmsnap import __version__
from llmsnap.models import State
from llmsnap.telemetry.counters import Counters, Family, Labels
from llmsnap.telemetry.gpu import GpuSample
from llmsnap.telemetry.host import HostSample, ProcessSample

PREFIX = "llmsnap_"

Values = Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class ModelGauge:
    """A model as it is now."""

    model_id: str
    state: str
    in_flight: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Now:
    """What is read at the moment the page is asked for; parts that are unknown stay empty."""

    models: Iterable[ModelGauge] = ()
    log_dropped: Mapping[str, int] | None = None
    stdout_dropped: int = 0
    capture_bytes: int = 0
    store_lost_rows: int = 0
    wrong_keys: int = 0
    tasks: int = 0
    host: HostSample | None = None
    processes: Iterable[ProcessSample] = ()
    gpus: Iterable[GpuSample] = ()


class Exposition:
    """A registry of our own around *counters* and what *now* returns."""

    def __init__(self, counters: Counters, now: Callable[[], Now]) -> None:
        self._counters, self._now = counters, now
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return (page, content type) in the format that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: all metrics are collected when asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        now = self._now()
        yield _gauge("build_info", "The running version.", ("version",), {(__version__,): 1.0})
        yield from self._counts()
        yield from self._distributions()
        yield from _model_gauges(list(now.models))
        yield from _own_gauges(now)
        yield from _host_gauges(now)
        yield from _gpu_gauges(list(now.gpus))

    def _counts(self) -> Iterator[Metric]:
        counters = self._counters
        errors = {labels: n for labels, n in counters.requests.items() if labels[1][0] not in "123"}
        yield _counter("requests", "Requests that ended.", ("model", "status"), counters.requests)
        yield _counter(
            "request_errors",
            "Requests that failed (status 400 and up).",
            ("model", "status"),
            errors,
        )
        yield _counter(
            "clients_left", "Requests whose client left early.", ("model",), counters.clients_left
        )
        yield _counter(
            "tokens",
            "Tokens: input, output, cached, draft, draft_accepted.",
            ("model", "kind"),
            counters.tokens,
        )
        yield _counter("swaps", "Swaps that ended.", ("model", "reason", "outcome"), counters.swaps)

    def _distributions(self) -> Iterator[Metric]:
        counters = self._counters
        model = ("model",)
        yield _histogram(
            "request_duration_seconds", "From arrival to the last byte.", model, counters.durations
        )
        yield _histogram(
            "queue_wait_seconds", "Waiting for other requests.", model, counters.queue_waits
        )
        yield _histogram(
            "load_wait_seconds", "Waiting for the model's load.", model, counters.load_waits
        )
        yield _histogram(
            "time_to_first_token_seconds",
            "From arrival to the first token of a stream.",
            model,
            counters.first_tokens,
        )
        yield _histogram(
            "inter_token_seconds",
            "Mean time between the tokens of a stream.",
            model,
            counters.inter_tokens,
        )
        yield _histogram(
            "model_move_seconds",
            "Duration of a load, wake, sleep or stop.",
            ("model", "kind"),
            counters.moves,
        )
        yield _histogram(
            "swap_duration_seconds",
            "From the decision to swap until the target is ready.",
            model,
            counters.swap_durations,
        )


def _model_gauges(models: list[ModelGauge]) -> Iterator[Metric]:
    states: dict[Labels, float] = {
        (model.model_id, str(state)): float(model.state == state)
        for model in models
        for state in State
    }
    yield _gauge("model_state", "1 for the state a model is in.", ("model", "state"), states)
    yield _gauge(
        "requests_in_flight",
        "Requests a model serves now.",
        ("model",),
        {(model.model_id,): float(model.in_flight) for model in models},
    )
    yield _gauge(
        "requests_waiting",
        "Requests that wait for a model.",
        ("model",),
        {(model.model_id,): float(model.waiting) for model in models},
    )


def _own_gauges(now: Now) -> Iterator[Metric]:
    dropped: dict[Labels, float] = {
        (name,): float(count) for name, count in (now.log_dropped or {}).items()
    }
    yield _counter(
        "log_dropped_bytes", "Output dropped because a model printed too fast.", ("model",), dropped
    )
    yield _counter(
        "stdout_dropped_bytes",
        "Log dropped because nobody read stdout.",
        (),
        {(): now.stdout_dropped},
    )
    yield _counter(
        "store_lost_rows", "History that could not be written.", (), {(): now.store_lost_rows}
    )
    yield _counter("wrong_keys", "Requests with a wrong API key.", (), {(): now.wrong_keys})
    yield _gauge("capture_bytes", "Bytes of captures held.", (), {(): now.capture_bytes})
    yield _gauge("tasks", "Background tasks running.", (), {(): now.tasks})


def _host_gauges(now: Now) -> Iterator[Metric]:
    processes = list(now.processes)
    yield _gauge(
        "model_cpu_ratio",
        "Cores a model's processes use.",
        ("model",),
        {(p.model_id,): p.cpu_percent / 100 for p in processes if p.cpu_percent is not None},
    )
    yield _gauge(
        "model_resident_memory_bytes",
        "Resident memory of a model's processes.",
        ("model",),
        {(p.model_id,): float(p.rss_bytes) for p in processes},
    )
    if now.host is not None:
        host = now.host
        yield _gauge(
            "host_cpu_ratio", "Share of the host's CPU in use.", (), _of(host.cpu_percent, 100)
        )
        yield _gauge("host_memory_used_bytes", "Memory in use.", (), _of(host.memory_used))
        yield _gauge("host_memory_total_bytes", "Memory there is.", (), _of(host.memory_total))


def _gpu_gauges(gpus: list[GpuSample]) -> Iterator[Metric]:
    for name, text, read in (
        ("gpu_utilization_ratio", "Share of time the GPU works.", _utilization),
        ("gpu_memory_used_bytes", "GPU memory in use.", lambda gpu: gpu.memory_used),
        ("gpu_memory_total_bytes", "GPU memory there is.", lambda gpu: gpu.memory_total),
        ("gpu_temperature_celsius", "Temperature of the GPU.", lambda gpu: gpu.temperature_c),
        ("gpu_power_watts", "Power the GPU draws.", lambda gpu: gpu.power_w),
    ):
        known: dict[Labels, float | None] = {(str(gpu.index), gpu.name): read(gpu) for gpu in gpus}
        values: dict[Labels, float] = {
            labels: float(value) for labels, value in known.items() if value is not None
        }
        yield _gauge(name, text, ("gpu", "name"), values)


def _utilization(gpu: GpuSample) -> float | None:
    return None if gpu.utilization_percent is None else gpu.utilization_percent / 100


def _of(value: float | None, scale: float = 1.0) -> Values:
    return {} if value is None else {(): value / scale}


def _gauge(name: str, text: str, labels: Labels, values: Values) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: Labels, values: Values) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: Labels, source: Family) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for key, histogram in source.histograms.items():
        family.add_metric(key, histogram.cumulative(), histogram.total)
    return family
