"""Sums, percentiles and histograms over activity records, for all and per model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from llmsnap.events import ActivityRecord

MEASURES = (
    "tokens_per_second",
    "prompt_per_second",
    "queue_ms",
    "load_ms",
    "first_byte_ms",
    "first_token_ms",
    "duration_ms",
)
TOTALS = ("input_tokens", "output_tokens", "cached_tokens", "response_bytes")
MIN_BINS, MAX_BINS = 10, 30


def statistics(records: Iterable[ActivityRecord]) -> dict[str, Any]:
    """Return ``{"total": ..., "models": {id: ...}}``, each with sums and distributions."""
    everything = list(records)
    models: dict[str, list[ActivityRecord]] = defaultdict(list)
    for record in everything:
        models[record.model_id or record.requested].append(record)
    return {
        "total": _summary(everything),
        "models": {name: _summary(models[name]) for name in sorted(models)},
    }


def _summary(records: Sequence[ActivityRecord]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "requests": len(records),
        "errors": sum(record.status >= 400 for record in records),
        "client_left": sum(record.client_left for record in records),
    }
    for name in TOTALS:
        summary[name] = sum(getattr(record, name) or 0 for record in records)
    for name in MEASURES:
        values = [value for r in records if (value := getattr(r, name)) is not None]
        summary[name] = distribution(values)
    return summary


def distribution(values: Iterable[float]) -> dict[str, Any] | None:
    """Return count, mean, p50, p95, p99 and a histogram of equal bins; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {
        "count": len(ordered),
        "mean": sum(ordered) / len(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "p50": percentile(ordered, 0.50),
        "p95": percentile(ordered, 0.95),
        "p99": percentile(ordered, 0.99),
        "histogram": histogram(ordered),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the sorted values lie (the nearest rank up)."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def histogram(ordered: Sequence[float]) -> dict[str, Any]:
    """Return ``{"start", "width", "counts"}``: 10 to 30 equal bins from the least to the most."""
    bins = max(MIN_BINS, min(MAX_BINS, len(ordered) // 5))
    least, most = ordered[0], ordered[-1]
    width = (most - least) / bins
    if width <= 0:
        return {"start": least, "width": 0.0, "counts": [len(ordered)]}
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, int((value - least) / width))] += 1
    return {"start": least, "width": width, "counts": counts}
