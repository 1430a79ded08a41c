"""Activity records as the APIs show them: the published metrics list, and all we know."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from msgspec import structs

from llmsnap.durations import milliseconds
from llmsnap.events import ActivityRecord, SwapFinished

SCHEMA_VERSION = 1
UNKNOWN = -1


def is_metric(record: ActivityRecord) -> bool:
    """Tell whether the published metrics list shows this record.

    As in the original: answers to what was posted, and no failures.
    """
    return record.status == 200 and record.method == "POST"


def metric_object(record: ActivityRecord) -> dict[str, Any]:
    """Return the record as an element of ``/api/metrics``; -1 stands for unknown."""
    return {
        "id": record.id,
        "timestamp": rfc3339(record.ended_ns),
        "model": _model(record),
        "cache_tokens": _or_unknown(record.cached_tokens),
        "input_tokens": record.input_tokens or 0,
        "output_tokens": record.output_tokens or 0,
        "prompt_per_second": _or_unknown(record.prompt_per_second),
        "tokens_per_second": _or_unknown(record.tokens_per_second),
        "duration_ms": int(record.duration_ms if record.server_ms is None else record.server_ms),
        "has_capture": record.has_capture,
    }


def named_metric_object(record: ActivityRecord) -> dict[str, Any]:
    """Return the record as the payload of a named ``metrics`` frame: camelCase, null unknown."""
    shown = {_camel(name): value for name, value in activity_object(record).items()}
    return {**shown, "timestamp": rfc3339(record.ended_ns), "model": _model(record)}


def activity_object(record: ActivityRecord) -> dict[str, Any]:
    """Return all fields of the record, null where unknown; *ended_ns* as ``ended_ms``."""
    shown = structs.asdict(record)
    shown["ended_ms"] = shown.pop("ended_ns") // 1_000_000
    return shown


def activity_export(records: list[ActivityRecord]) -> dict[str, Any]:
    """Return records as a document that says what shape it has."""
    shown = [activity_object(record) for record in records]
    return {"schema_version": SCHEMA_VERSION, "records": shown}


def swap_object(swap: SwapFinished) -> dict[str, Any]:
    """Return a finished swap as it is shown and kept; instants in Unix milliseconds."""
    return {
        "id": swap.swap_id,
        "target": swap.target,
        "kind": swap.kind,
        "outcome": swap.outcome,
        "evicted": list(swap.evicted),
        "reason": swap.reason,
        "error": swap.error,
        "waiters": swap.waiters,
        "longest_wait_ms": milliseconds(swap.longest_wait_s),
        "started_ms": int(swap.started_at * 1000),
        "ended_ms": int(swap.at * 1000),
        "phases": [{"name": name, "ms": milliseconds(s)} for name, s in swap.phases],
    }


def rfc3339(unix_ns: int) -> str:
    """Return the instant with nanoseconds, zeros at its end left out, in UTC."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    fraction = f".{nanos:09}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _model(record: ActivityRecord) -> str:
    return record.model_id or record.requested


def _or_unknown(value: float | None) -> float:
    return UNKNOWN if value is None else value


@cache  # the same thirty names for every record that is told
def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
