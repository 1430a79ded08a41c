"""The last requests that ended: kept with ascending ids, filtered, sorted, paged and summed up."""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, takewhile
from math import ceil, log2
from typing import Any

from msgspec import structs
from msgspec.structs import replace

from llmsnap.errors import BadRequest
from llmsnap.telemetry.events import SwapFinished
from llmsnap.telemetry.observer import milliseconds
from llmsnap.telemetry.record import ActivityRecord

DEFAULT_SIZE = 1000
MAX_PAGE = 1000
MAX_NUMBER = 2**63 - 1
SORTABLE = frozenset(ActivityRecord.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects records; a field that is None selects all.

    *model* is the name requested or the one that served; *status* a number such as "200" or a
    class such as "4xx", "error" for all from 400 on; *since_ms* and *until_ms* bound the end of
    the request (Unix milliseconds, the latter exclusive). *models* are names as records show them,
    *min_id* and *max_id* are inclusive; *request_id* is that of the log.
    """

    model: str | None = None
    status: str | None = None
    key_name: str | None = None
    session: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    models: tuple[str, ...] = ()
    min_id: int | None = None
    max_id: int | None = None
    request_id: str | None = None
    selector: str | None = None
    peer: str | None = None

    def status_range(self) -> tuple[int, int]:
        """Return the range of statuses, the end exclusive. Raises: BadRequest."""
        text = (self.status or "").strip().lower()
        if not text:
            return 0, 1000
        if text == "error":
            return 400, 1000
        if len(text) == 3 and text[0].isdecimal() and text[1:] == "xx":
            return int(text[0]) * 100, int(text[0]) * 100 + 100
        if text.isascii() and text.isdecimal() and len(text) <= 3:
            return int(text), int(text) + 1
        raise BadRequest(f"status {text[:20]!r}: give a number, a class such as 4xx, or error")

    def matches(self, record: ActivityRecord) -> bool:
        """Return whether *record* is selected."""
        ended_ms = record.ended_ns // 1_000_000
        first, after = self.status_range()
        return (
            (self.model is None or self.model in (record.model_id, record.requested))
            and first <= record.status < after
            and (self.key_name is None or record.key_name == self.key_name)
            and (self.session is None or record.session == self.session)
            and (self.since_ms is None or ended_ms >= self.since_ms)
            and (self.until_ms is None or ended_ms < self.until_ms)
            and (not self.models or shown_model(record) in self.models)
            and (self.min_id is None or record.id >= self.min_id)
            and (self.max_id is None or record.id <= self.max_id)
            and (self.request_id is None or record.request_id == self.request_id)
            and (self.selector is None or record.selector == self.selector)
            and (self.peer is None or record.peer == self.peer)
        )


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Order:
    """Sort order: field and direction; unknown values come last. Ties: newest first."""

    field: str = "id"
    descending: bool = True

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read ``duration_ms`` (ascending) or ``-duration_ms``. Raises: BadRequest."""
        name = text.removeprefix("-")
        name = "ended_ns" if name == "ended_ms" else name
        if name not in SORTABLE:
            raise BadRequest(f"sort {name[:40]!r}: give a field of the records")
        return cls(name, text.startswith("-"))


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the *cursor* of the next page (None at the end)."""

    records: list[ActivityRecord]
    cursor: str | None = None


def cursor_after(record: ActivityRecord, order: Order) -> str:
    """Return the cursor of the page after *record* in this order."""
    place = [getattr(record, order.field), record.id]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def parse_cursor(text: str, order: Order) -> tuple[Any, int]:
    """Return (value of the sort field, id) of the last record on the page before.

    Raises: BadRequest.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        value, record_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise BadRequest("cursor: give the one of the page before, with the same sort") from None
    example = getattr(ActivityRecord(id=0), order.field)
    numeric = not isinstance(example, str) and order.field not in ("peer", "key_name")
    fits = value is None or isinstance(value, (int, float) if numeric else str)
    large = isinstance(value, int) and abs(value) > MAX_NUMBER
    if type(record_id) is not int or abs(record_id) > MAX_NUMBER or large or not fits:
        raise BadRequest("cursor: give the one of the page before, with the same sort")
    return value, record_id


class ActivityLog:
    """The last *size* records, oldest first; ids start at *first_id* and never repeat.

    No method switches greenlets.
    """

    def __init__(self, size: int = DEFAULT_SIZE, first_id: int = 0) -> None:
        self._records: deque[ActivityRecord] = deque(maxlen=size if size > 0 else DEFAULT_SIZE)
        self.next_id = first_id

    def __repr__(self) -> str:
        return f"<ActivityLog, {len(self._records)} records, next id {self.next_id}>"

    def __len__(self) -> int:
        return len(self._records)

    @property
    def size(self) -> int:
        """The maximum number of records held."""
        return self._records.maxlen or DEFAULT_SIZE

    def take_id(self) -> int:
        """Return the id for the next record."""
        record_id = self.next_id
        self.next_id += 1
        return record_id

    def append(self, record: ActivityRecord) -> None:
        """Add *record*; the oldest beyond the limit is dropped."""
        self._records.append(record)
        self.next_id = max(self.next_id, record.id + 1)

    def restore(self, records: Iterable[ActivityRecord]) -> None:
        """Insert records of an earlier run (oldest first) before those of this run."""
        since = list(self._records)
        self._records.clear()
        for record in [*records, *since]:
            self.append(record)

    def resize(self, size: int) -> None:
        """Keep *size* records from now on."""
        self._records = deque(self._records, maxlen=size if size > 0 else DEFAULT_SIZE)

    def snapshot(self) -> list[ActivityRecord]:
        """Return all records held, oldest first."""
        return list(self._records)

    def after(self, record_id: int) -> list[ActivityRecord]:
        """Return the records after the one with *record_id*, oldest first."""
        newer = takewhile(lambda record: record.id > record_id, reversed(self._records))
        return list(newer)[::-1]

    def forget_capture(self, record_id: int) -> None:
        """Note that the capture of a record was evicted."""
        records = self._records
        if not records or record_id < records[0].id:
            return
        # Ids ascend, nearly always by one: the search starts at the likely index.
        for index in range(min(record_id - records[0].id, len(records) - 1), -1, -1):
            if records[index].id == record_id:
                records[index] = replace(records[index], has_capture=False)
                return

    def page(
        self,
        wanted: Filter = EVERYTHING,
        order: Order | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return up to *limit* of the selected records, after *cursor*. Raises: BadRequest."""
        order = order or Order()
        limit = max(1, min(limit, MAX_PAGE))
        found = _sorted(filter(wanted.matches, self._records), order)
        if cursor:
            value, record_id = parse_cursor(cursor, order)
            found = [r for r in found if _is_after(r, value, record_id, order)]
        more = len(found) > limit
        found = found[:limit]
        return Page(found, cursor_after(found[-1], order) if more else None)

    def numbered_page(
        self, wanted: Filter, order: Order, number: int, limit: int
    ) -> tuple[list[ActivityRecord], int]:
        """Return page *number*, from 1, of *limit* records each, and how many records there are."""
        found = _sorted(filter(wanted.matches, self._records), order)
        return found[(number - 1) * limit : number * limit], len(found)


def shown_model(record: ActivityRecord) -> str:
    """Return the model that served, else the name that was requested."""
    return record.model_id or record.requested


def _sorted(records: Iterable[ActivityRecord], order: Order) -> list[ActivityRecord]:
    newest_first = sorted(records, key=lambda record: record.id, reverse=True)
    known = [r for r in newest_first if getattr(r, order.field) is not None]
    unknown = [r for r in newest_first if getattr(r, order.field) is None]
    # reverse=True keeps the order of equals, so ties stay newest first both ways.
    known.sort(key=lambda record: getattr(record, order.field), reverse=order.descending)
    return known + unknown


def _is_after(record: ActivityRecord, value: Any, record_id: int, order: Order) -> bool:
    mine = getattr(record, order.field)
    if mine == value:
        return record.id < record_id
    if mine is None or value is None:
        return mine is None
    return bool(mine < value) if order.descending else bool(mine > value)


# --- the API's documents --------------------------------------------------------------------------

SCHEMA_VERSION = 1
UNKNOWN = -1


def is_metric(record: ActivityRecord) -> bool:
    """Return whether the published metrics list shows this record.

    As in the original: only successful POST requests.
    """
    return record.status == 200 and record.method == "POST"


def metric_object(record: ActivityRecord) -> dict[str, Any]:
    """Return the record as an element of ``/api/metrics``; -1 stands for unknown."""
    return {
        "id": record.id,
        "timestamp": rfc3339(record.ended_ns),
        "model": shown_model(record),
        "cache_tokens": _or_unknown(record.cached_tokens),
        "input_tokens": record.input_tokens or 0,
        "output_tokens": record.output_tokens or 0,
        "prompt_per_second": _or_unknown(record.prompt_per_second),
        "tokens_per_second": _or_unknown(record.tokens_per_second),
        "duration_ms": int(record.duration_ms if record.server_ms is None else record.server_ms),
        "has_capture": record.has_capture,
        "req_path": record.path,
        "resp_status_code": record.status,
        "tokens": _tokens_object(record),
    }


def row_object(record: ActivityRecord) -> dict[str, Any]:
    """Return the record as a row of ``/api/metrics/activity``; -1 stands for unknown."""
    row: dict[str, Any] = {
        "id": record.id,
        "timestamp": rfc3339(record.ended_ns),
        "model": shown_model(record),
        "req_path": record.path,
        "resp_content_type": record.content_type,
        "resp_status_code": record.status,
        "tokens": _tokens_object(record),
        "duration_ms": int(record.duration_ms),
        "has_capture": record.has_capture,
    }
    if metadata := _metadata(record):
        row["metadata"] = metadata
    return {**row, "error_msg": record.reason} if record.reason else row


def _metadata(record: ActivityRecord) -> dict[str, str]:
    """Return what led to the model: the priority it had, the selector and the profile, if any."""
    found = {
        "fifo_priority": "" if record.peer else str(record.priority),
        "selector": record.selector,
        "profile": record.profile,
    }
    return {name: value for name, value in found.items() if value}


def _tokens_object(record: ActivityRecord) -> dict[str, float]:
    return {
        "cache_tokens": _or_unknown(record.cached_tokens),
        "draft_tokens": _or_unknown(record.draft_tokens),
        "draft_acc_tokens": _or_unknown(record.draft_accepted),
        "input_tokens": _or_unknown(record.input_tokens),
        "output_tokens": _or_unknown(record.output_tokens),
        "prompt_per_second": _or_unknown(record.prompt_per_second),
        "tokens_per_second": _or_unknown(record.tokens_per_second),
    }


def named_metric_object(record: ActivityRecord) -> dict[str, Any]:
    """Return the record as the payload of a named ``metrics`` frame: camelCase, null unknown."""
    shown = {_camel(name): value for name, value in activity_object(record).items()}
    return {**shown, "timestamp": rfc3339(record.ended_ns), "model": shown_model(record)}


def activity_object(record: ActivityRecord) -> dict[str, Any]:
    """Return all fields of the record, null where unknown; *ended_ns* as ``ended_ms``."""
    shown = structs.asdict(record)
    shown["ended_ms"] = shown.pop("ended_ns") // 1_000_000
    return shown


def activity_export(records: list[ActivityRecord]) -> dict[str, Any]:
    """Return records as a document with its schema version."""
    shown = [activity_object(record) for record in records]
    return {"schema_version": SCHEMA_VERSION, "records": shown}


def swap_object(swap: SwapFinished) -> dict[str, Any]:
    """Return a finished swap as the API shows it and the store keeps it (Unix milliseconds)."""
    waited_s = sum(seconds for name, seconds in swap.phases[:1] if name == "wait")
    starts = accumulate((s for _, s in swap.phases), initial=swap.started_at - waited_s)
    return {
        "id": swap.swap_id,
        "target": swap.target,
        "kind": swap.kind,
        "outcome": swap.outcome,
        "evicted": list(swap.evicted),
        "how": dict(swap.how),
        "reason": swap.reason,
        "error": swap.error,
        "asked_by": [dict(each) for each in swap.asked_by],
        "waiters": swap.waiters,
        "longest_wait_ms": milliseconds(swap.longest_wait_s),
        "started_ms": int(swap.started_at * 1000),
        "ended_ms": int(swap.at * 1000),
        "phases": [
            {"name": name, "ms": milliseconds(s), "started_ms": int(at * 1000)}
            for (name, s), at in zip(swap.phases, starts, strict=False)
        ],
        "load": dict(swap.load) if swap.load is not None else None,
        "when": dict(swap.when) if swap.when is not None else None,
        "plan": dict(swap.plan) if swap.plan is not None else None,
        "memory": [dict(each) for each in swap.memory],
        "prompt_tokens": dict(swap.prompt_tokens),
        "node": swap.node or None,
    }


def rfc3339(unix_ns: int) -> str:
    """Return a point in time in UTC, with nanoseconds; trailing zeros are left out."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    fraction = f".{nanos:09}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _or_unknown(value: float | None) -> float:
    return UNKNOWN if value is None else value


@cache  # the same thirty names for every record
def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


# --- statistics -----------------------------------------------------------------------------------

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
    """Return count, mean, p50, p95, p99 and a histogram of equal bins; None without values."""
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


def usage_statistics(records: Iterable[ActivityRecord]) -> dict[str, Any]:
    """Return sums and speed histograms in the shape of ``/api/metrics/stats``."""
    everything = list(records)

    def total(name: str) -> int:
        return sum(getattr(record, name) or 0 for record in everything)

    def speeds(name: str) -> dict[str, Any] | None:
        found = (getattr(record, name) for record in everything)
        return sturges_histogram(sorted(value for value in found if value is not None))

    return {
        "total_requests": len(everything),
        "total_input_tokens": total("input_tokens"),
        "total_output_tokens": total("output_tokens"),
        "total_cache_tokens": total("cached_tokens"),
        "prompt_histogram": speeds("prompt_per_second"),
        "gen_histogram": speeds("tokens_per_second"),
    }


def sturges_histogram(ordered: Sequence[float]) -> dict[str, Any] | None:
    """Return a histogram of 5 to 20 equal bins (Sturges' rule); None of nothing.

    Equal values make one bin of size 0.
    """
    if not ordered:
        return None
    least, most = ordered[0], ordered[-1]
    bins = max(5, min(20, 1 + ceil(log2(len(ordered)))))
    size = (most - least) / bins
    counts = [0] * bins if size > 0 else [len(ordered)]
    if size > 0:
        for value in ordered:
            counts[min(bins - 1, int((value - least) / size))] += 1
    return {
        "bins": counts,
        "min": least,
        "max": most,
        "binSize": max(0.0, size),
        "p50": percentile(ordered, 0.50),
        "p95": percentile(ordered, 0.95),
        "p99": percentile(ordered, 0.99),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the percentile *share* (0 to 1) of sorted values, by nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def histogram(ordered: Sequence[float]) -> dict[str, Any]:
    """Return ``{"start", "width", "counts"}``: 10 to 30 equal bins from minimum to maximum."""
    bins = max(MIN_BINS, min(MAX_BINS, len(ordered) // 5))
    least, most = ordered[0], ordered[-1]
    width = (most - least) / bins
    if width <= 0:
        return {"start": least, "width": 0.0, "counts": [len(ordered)]}
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, int((value - least) / width))] += 1
    return {"start": least, "width": width, "counts": counts}
