"""Prometheus metrics: counts and distributions of events, and gauges read at each scrape.

To add one that is counted: declare it in ``Metrics`` and count it in the handler of its event. To
add a gauge: a field of ``Gauges``, its line below, and its value in ``web.admin_api``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from llmsnap import __version__
from llmsnap.models import State
from llmsnap.telemetry.events import (
    ActivityRecorded,
    EventBus,
    EventSubscription,
    FilesRead,
    ModelRestarted,
    ProcessStateChanged,
    PromptsKept,
    SwapFinished,
)
from llmsnap.telemetry.record import ActivityRecord
from llmsnap.telemetry.sampling import GpuSample, HostSample, PerformanceSample, ProcessSample

PREFIX = "llmsnap_"

WAIT_BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)

MAX_MODELS = 2000
OTHER = "other"
"""The label of models beyond the limit, and of names that are not configured."""

_TRANSITIONS = {
    (State.STARTING, State.READY): "load",
    (State.WAKING, State.READY): "wake",
    (State.SLEEP_PENDING, State.ASLEEP): "sleep",
    (State.STOPPING, State.STOPPED): "stop",
}

Labels = tuple[str, ...]
Values = Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """A model at the time of the scrape."""

    model_id: str
    state: str
    in_flight: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Gauges:
    """Values read at the time of the scrape; unknown parts stay empty."""

    models: Iterable[ModelGauges] = ()
    log_dropped: Mapping[str, int] | None = None
    stdout_dropped: int = 0
    capture_bytes: int = 0
    store_lost_rows: int = 0
    wrong_keys: int = 0
    tasks: int = 0
    host: HostSample | None = None
    processes: Iterable[ProcessSample] = ()
    gpus: Iterable[GpuSample] = ()
    llama_swap: PerformanceSample | None = None
    """The sample to export under llama-swap's names as well."""


class Metrics:
    """All metrics of this run, in a registry of their own; *clock* is monotonic.

    *names* are the models that get a label of their own; None: all, up to a limit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.names: frozenset[str] | None = None
        self._clock = clock
        self._models: set[str] = set()
        self._since: dict[str, float] = {}  # model -> when it came into its state
        self._gauges = Gauges()
        self.registry = CollectorRegistry(auto_describe=False)
        build = Gauge(
            PREFIX + "build_info", "The running version.", ["version"], registry=self.registry
        )
        build.labels(__version__).set(1)
        self._declare_counters()
        self._declare_histograms()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def _declare_counters(self) -> None:
        self._requests = self._counter("requests", "Requests that ended.", "model", "status")
        self._errors = self._counter(
            "request_errors", "Requests that failed (status 400 and up).", "model", "status"
        )
        self._clients_left = self._counter(
            "clients_left", "Requests whose client left early.", "model"
        )
        self._tokens = self._counter(
            "tokens", "Tokens: input, output, cached, draft, draft_accepted.", "model", "kind"
        )
        self._restarts = self._counter(
            "model_restarts", "Restarts of models that did not work.", "model", "reason"
        )
        self._prompts = self._counter(
            "prompt_cache_tokens",
            "Tokens of prompts kept over swaps: saved, restored, then reused or missed.",
            "model",
            "outcome",
        )
        self._read_ahead = self._counter(
            "read_ahead_bytes", "Bytes of model files read into the page cache ahead.", "model"
        )
        self._swaps = self._counter("swaps", "Swaps that ended.", "model", "reason", "outcome")

    def _declare_histograms(self) -> None:
        self._durations = self._histogram(
            "request_duration_seconds", "From arrival to the last byte.", "model"
        )
        self._queue_waits = self._histogram(
            "queue_wait_seconds", "Waiting for other requests.", "model"
        )
        self._load_waits = self._histogram(
            "load_wait_seconds", "Waiting for the model's load.", "model"
        )
        self._first_tokens = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token of a stream.", "model"
        )
        self._inter_tokens = self._histogram(
            "inter_token_seconds",
            "Mean time between the tokens of a stream.",
            "model",
            bounds=TOKEN_BOUNDS,
        )
        self._transitions = self._histogram(
            "model_move_seconds", "Duration of a load, wake, sleep or stop.", "model", "kind"
        )
        self._swap_durations = self._histogram(
            "swap_duration_seconds", "From the decision to swap until the target is ready.", "model"
        )
        self._swap_phases = self._histogram(
            "swap_phase_seconds", "Duration of each phase of a swap.", "model", "phase"
        )

    # ``labels`` of prometheus_client takes a lock and checks its arguments each time: the cache
    # saves half of the cost of counting. The number of labels bounds it.

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        return cache(Counter(PREFIX + name, text, labels, registry=self.registry).labels)

    def _histogram(
        self, name: str, text: str, *labels: str, bounds: tuple[float, ...] = WAIT_BOUNDS
    ) -> Callable[..., Histogram]:
        made = Histogram(PREFIX + name, text, labels, buckets=bounds, registry=self.registry)
        return cache(made.labels)

    # --- counting ------------------------------------------------------------------------------

    def follow(self, bus: EventBus) -> list[EventSubscription]:
        """Count the events of *bus*, until the returned subscriptions are closed."""
        return [
            bus.subscribe(ActivityRecorded, lambda event: self.count_request(event.record)),
            bus.subscribe(ProcessStateChanged, self.count_transition),
            bus.subscribe(SwapFinished, self.count_swap),
            bus.subscribe(ModelRestarted, self.count_restart),
            bus.subscribe(PromptsKept, self.count_prompts),
            bus.subscribe(FilesRead, self.count_read_ahead),
        ]

    def label(self, model_id: str) -> str:
        """Return the label of a model; their number is bounded."""
        if model_id in self._models:
            return model_id
        unknown = self.names is not None and model_id not in self.names
        if not model_id or unknown or len(self._models) >= MAX_MODELS:
            return OTHER
        self._models.add(model_id)
        return model_id

    def count_request(self, record: ActivityRecord) -> None:
        """Count a finished request."""
        model = self.label(record.model_id)
        status = str(record.status) if 100 <= record.status < 600 else OTHER
        self._requests(model, status).inc()
        if not 100 <= record.status < 400:
            self._errors(model, status).inc()
        if record.client_left:
            self._clients_left(model).inc()
        for kind, count in (
            ("input", record.input_tokens),
            ("output", record.output_tokens),
            ("cached", record.cached_tokens),
            ("draft", record.draft_tokens),
            ("draft_accepted", record.draft_accepted),
        ):
            if count:
                self._tokens(model, kind).inc(count)
        self._durations(model).observe(record.duration_ms / 1000)
        for histogram, ms in (
            (self._queue_waits, record.queue_ms),
            (self._load_waits, record.load_ms),
            (self._first_tokens, record.first_token_ms),
        ):
            if ms is not None:
                histogram(model).observe(ms / 1000)
        between_s = inter_token_s(record)
        if between_s is not None:
            self._inter_tokens(model).observe(between_s)

    def count_transition(self, event: ProcessStateChanged) -> None:
        """Measure a finished load, wake, sleep or stop."""
        now = self._clock()
        began = self._since.get(event.model_id)
        kind = _TRANSITIONS.get((State(event.old), State(event.new)))
        if kind is not None and began is not None:
            self._transitions(self.label(event.model_id), kind).observe(now - began)
        if event.new == State.SHUTDOWN:
            self._since.pop(event.model_id, None)
        else:
            self._since[event.model_id] = now

    def count_restart(self, restart: ModelRestarted) -> None:
        """Count the restart of a model that did not work."""
        self._restarts(self.label(restart.model_id), restart.reason).inc()

    def count_swap(self, swap: SwapFinished) -> None:
        """Count a finished swap."""
        model = self.label(swap.target)
        self._swaps(model, swap.reason, swap.outcome).inc()
        for name, seconds in swap.phases:
            self._swap_phases(model, name).observe(seconds)
        if swap.started_at:
            self._swap_durations(model).observe(max(0.0, swap.at - swap.started_at))

    def count_read_ahead(self, read: FilesRead) -> None:
        """Count what was read of a model's files before its load."""
        self._read_ahead(self.label(read.model_id)).inc(read.read_bytes)

    def count_prompts(self, kept: PromptsKept) -> None:
        """Count the tokens of saved, restored, reused or missed prompts."""
        self._prompts(self.label(kept.model_id), kept.outcome).inc(kept.tokens)

    # --- the page ------------------------------------------------------------------------------

    def render(self, gauges: Gauges, accept: str = "") -> tuple[bytes, str]:
        """Return (page, content type) in the format that the Accept header asks for."""
        self._gauges = gauges
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of the scrape; the registry calls it."""
        yield from _model_gauges(list(self._gauges.models))
        yield from _own_gauges(self._gauges)
        yield from _host_gauges(self._gauges)
        yield from _gpu_gauges(list(self._gauges.gpus))
        if self._gauges.llama_swap is not None:
            yield from llama_swap_metrics(self._gauges.llama_swap)


def inter_token_s(record: ActivityRecord) -> float | None:
    """Return the mean time between the tokens of a stream, as the client saw them."""
    first_ms, tokens = record.first_token_ms, record.output_tokens
    if first_ms is None or tokens is None or tokens < 2 or record.duration_ms <= first_ms:
        return None
    return (record.duration_ms - first_ms) / 1000 / (tokens - 1)


def _model_gauges(models: list[ModelGauges]) -> Iterator[Metric]:
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


def _own_gauges(now: Gauges) -> Iterator[Metric]:
    dropped: dict[Labels, float] = {
        (name,): float(count) for name, count in (now.log_dropped or {}).items()
    }
    yield _counter(
        "log_dropped_bytes", "Output dropped because a model printed too fast.", ("model",), dropped
    )
    yield _counter(
        "stdout_dropped_bytes",
        "Log dropped because stdout was not read.",
        (),
        {(): now.stdout_dropped},
    )
    yield _counter(
        "store_lost_rows", "History that could not be written.", (), {(): now.store_lost_rows}
    )
    yield _counter("wrong_keys", "Requests with a wrong API key.", (), {(): now.wrong_keys})
    yield _gauge("capture_bytes", "Bytes of captures held.", (), {(): now.capture_bytes})
    yield _gauge("tasks", "Background tasks running.", (), {(): now.tasks})


def _host_gauges(now: Gauges) -> Iterator[Metric]:
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


def llama_swap_metrics(sample: PerformanceSample) -> Iterator[Metric]:
    """Yield the series that llama-swap exports of host and GPUs, for dashboards made for it."""
    host, more = sample.host, sample.details
    cores: dict[Labels, float] = {(str(n),): used for n, used in enumerate(more.cores_percent)}
    yield _family("cpu_util_percent", "CPU utilization.", ("core",), cores)
    for name, value in (
        ("memory_total_bytes", host.memory_total),
        ("memory_used_bytes", host.memory_used),
        ("memory_free_bytes", more.memory_free),
        ("swap_total_bytes", more.swap_total),
        ("swap_used_bytes", more.swap_used),
    ):
        yield _family(name, "Memory of the host.", (), _of(value))
    loads = {"1m": host.load_1m, "5m": more.load_5m, "15m": more.load_15m}
    known: dict[Labels, float] = {(name,): v for name, v in loads.items() if v is not None}
    yield _family("load_average", "Load average.", ("interval",), known)
    network = CounterMetricFamily(
        "llamaswap_network_bytes", "Bytes carried.", labels=("interface", "direction")
    )
    for one in more.network:
        network.add_metric((one.name, "recv"), one.received)
        network.add_metric((one.name, "sent"), one.sent)
    yield network
    for name, read in LLAMA_SWAP_GPU.items():
        values: dict[Labels, float] = {
            (str(gpu.index), gpu.name, gpu.uuid or ""): float(found)
            for gpu in sample.gpus
            if (found := read(gpu)) is not None
        }
        yield _family(f"gpu_{name}", "State of a GPU.", ("id", "name", "uuid"), values)


LLAMA_SWAP_GPU: dict[str, Callable[[GpuSample], float | None]] = {
    "temperature_celsius": lambda gpu: gpu.temperature_c,
    "vram_temperature_celsius": lambda gpu: gpu.memory_temperature_c,
    "util_percent": lambda gpu: gpu.utilization_percent,
    "memory_util_percent": lambda gpu: gpu.memory_utilization_percent,
    "memory_used_bytes": lambda gpu: gpu.memory_used,
    "memory_total_bytes": lambda gpu: gpu.memory_total,
    "fan_speed_percent": lambda gpu: gpu.fan_percent,
    "power_draw_watts": lambda gpu: gpu.power_w,
}


def _family(name: str, text: str, labels: Labels, values: Values) -> Metric:
    family = GaugeMetricFamily(f"llamaswap_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


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
