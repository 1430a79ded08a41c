"""Counts and distributions since the start, fed by the bus; what ``/metrics`` shows.

Plain numbers, so that counting a request costs little; the exposition format is put around them
when somebody asks.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

from llmsnap.bus import EventBus, Subscription
from llmsnap.events import ActivityRecord, ActivityRecorded, ProcessStateChanged, SwapFinished
from llmsnap.models import State

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

    def follow(self, bus: EventBus) -> list[Subscription]:
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
