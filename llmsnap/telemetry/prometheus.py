"""Prometheus metrics: counts and distributions since the start, and gauges read at each scrape."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
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
from llmsnap.telemetry.events import (
    ActivityRecord,
    ActivityRecorded,
    EventBus,
    EventSubscription,
    ProcessStateChanged,
    SwapFinished,
)
from llmsnap.telemetry.sampling import GpuSample, HostSample, ProcessSample

# --- counted --------------------------------------------------------------------------------------


Labels = tuple[str, ...]

WAIT_BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)

MAX_MODELS = 2000
OTHER = "other"  # the label of models beyond the limit, and of names nobody configured

_MOVES = {
    (State.STARTING, State.READY): "load",
    (State.WAKING, State.READY): "wake",
    (State.SLEEP_PENDING, State.ASLEEP): "sleep",
    (State.STOPPING, State.STOPPED): "stop",
}


class Histogram:
    """How often values fell below each of *bounds* (seconds), and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, values up to it) pairs, the last one for all values."""
        pairs, seen = [], 0
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            seen += count
            pairs.append(("+Inf" if bound is None else repr(bound), float(seen)))
        return pairs


class Family:
    """Histograms of one quantity, one for each combination of labels."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.histograms: dict[Labels, Histogram] = {}

    def observe(self, labels: Labels, value: float | None) -> None:
        """Count a value; None counts nothing."""
        if value is None:
            return
        histogram = self.histograms.get(labels)
        if histogram is None:
            histogram = self.histograms[labels] = Histogram(self._bounds)
        histogram.observe(value)


class Counters:
    """All counts of this run, by model; *clock* is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests: dict[Labels, int] = defaultdict(int)  # model, status
        self.clients_left: dict[Labels, int] = defaultdict(int)  # model
        self.tokens: dict[Labels, int] = defaultdict(int)  # model, kind
        self.swaps: dict[Labels, int] = defaultdict(int)  # model, reason, outcome
        self.durations = Family(WAIT_BOUNDS)
        self.queue_waits = Family(WAIT_BOUNDS)
        self.load_waits = Family(WAIT_BOUNDS)
        self.first_tokens = Family(WAIT_BOUNDS)
        self.inter_tokens = Family(TOKEN_BOUNDS)
        self.moves = Family(WAIT_BOUNDS)  # model, kind
        self.swap_durations = Family(WAIT_BOUNDS)
        self.names: frozenset[str] | None = None
        """Those that get a label of their own; None: all, up to a limit."""
        self._clock = clock
        self._models: set[str] = set()
        self._since: dict[str, float] = {}

    def follow(self, bus: EventBus) -> list[EventSubscription]:
        """Count what *bus* tells, until the returned subscriptions are closed."""
        return [
            bus.subscribe(ActivityRecorded, lambda event: self.count_request(event.record)),
            bus.subscribe(ProcessStateChanged, self.count_move),
            bus.subscribe(SwapFinished, self.count_swap),
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
        self.requests[model, status] += 1
        if record.client_left:
            self.clients_left[model,] += 1
        self._count_tokens(model, record)
        self.durations.observe((model,), record.duration_ms / 1000)
        self.queue_waits.observe((model,), _seconds(record.queue_ms))
        self.load_waits.observe((model,), _seconds(record.load_ms))
        self.first_tokens.observe((model,), _seconds(record.first_token_ms))
        self.inter_tokens.observe((model,), inter_token_s(record))

    def count_move(self, event: ProcessStateChanged) -> None:
        """Measure a load, wake, sleep or stop that came to its end."""
        now = self._clock()
        began = self._since.get(event.model_id)
        kind = _MOVES.get((State(event.old), State(event.new)))
        if kind is not None and began is not None:
            self.moves.observe((self.label(event.model_id), kind), now - began)
        if event.new == State.SHUTDOWN:
            self._since.pop(event.model_id, None)
        else:
            self._since[event.model_id] = now

    def count_swap(self, swap: SwapFinished) -> None:
        """Count a finished swap."""
        model = self.label(swap.target)
        self.swaps[model, swap.reason, swap.outcome] += 1
        if swap.started_at:
            self.swap_durations.observe((model,), max(0.0, swap.at - swap.started_at))

    def _count_tokens(self, model: str, record: ActivityRecord) -> None:
        for kind, count in (
            ("input", record.input_tokens),
            ("output", record.output_tokens),
            ("cached", record.cached_tokens),
            ("draft", record.draft_tokens),
            ("draft_accepted", record.draft_accepted),
        ):
            if count:
                self.tokens[model, kind] += count


def inter_token_s(record: ActivityRecord) -> float | None:
    """Return the mean time between the tokens of a stream, as the client saw them."""
    first_ms, tokens = record.first_token_ms, record.output_tokens
    if first_ms is None or tokens is None or tokens < 2 or record.duration_ms <= first_ms:
        return None
    return (record.duration_ms - first_ms) / 1000 / (tokens - 1)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


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
