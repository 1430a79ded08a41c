"""Activity in the format of llama-swap's newer API, for tools written for that."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from gevent import get_hub

from llmsnap.errors import BadRequest
from llmsnap.telemetry import Filter, Order, row_object, usage_statistics
from llmsnap.web.current import current_service

bp = Blueprint("llama_swap", __name__, url_prefix="/api/metrics")

COLUMNS = {
    "id": "id",
    "time": "ended_ns",
    "model": "model_id",
    "req_path": "path",
    "resp_status_code": "status",
    "resp_content_type": "content_type",
    "cached": "cached_tokens",
    "prompt": "input_tokens",
    "generated": "output_tokens",
    "drafted": "draft_tokens",
    "prompt_speed": "prompt_per_second",
    "gen_speed": "tokens_per_second",
    "duration": "duration_ms",
}
"""Columns to sort by, and the field of a record for each."""
MAX_LIMIT = 999
MAX_PAGE = 10**9
MAX_ID = 2**53


@bp.get("/activity")
def activity() -> ResponseReturnValue:
    """Return a numbered page of the records, newest first by default."""
    limit, number = _number("limit", MAX_LIMIT) or 25, _number("page", MAX_PAGE) or 1
    wanted = Filter(
        models=tuple(name for name in request.args.getlist("model") if name),
        since_ms=instant_ms("start"),
        until_ms=_after(instant_ms("end")),
        min_id=_number("min_id", MAX_ID),
        max_id=_number("max_id", MAX_ID),
    )
    _check_span("start", wanted.since_ms, "end", wanted.until_ms)
    _check_span("min_id", wanted.min_id, "max_id", wanted.max_id)
    records, total = current_service().telemetry.numbered_page(wanted, _order(), number, limit)
    return jsonify(
        data=[row_object(record) for record in records],
        page=number,
        limit=limit,
        total=total,
        total_pages=ceil(total / limit),
    )


@bp.get("/stats")
def stats() -> ResponseReturnValue:
    """Summarize the records in memory, of one model or of all."""
    model = request.args.get("model", "")
    wanted = Filter(models=(model,) if model else ())
    records = filter(wanted.matches, current_service().records())
    # In a thread, because many records take long and must not block the streams.
    return jsonify(get_hub().threadpool.apply(usage_statistics, (records,)))


def _order() -> Order:
    column, direction = request.args.get("sort", "id"), request.args.get("order", "desc").lower()
    if column not in COLUMNS:
        raise BadRequest(f"sort {column[:40]!r}: give one of {', '.join(COLUMNS)}", "sort")
    if direction not in {"asc", "desc"}:
        raise BadRequest(f"order {direction[:40]!r}: give asc or desc", "order")
    return Order(COLUMNS[column], descending=direction == "desc")


def _number(name: str, most: int) -> int | None:
    """Return a parameter that counts from 1; None if absent. Raises: BadRequest."""
    text = request.args.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and 1 <= int(text) <= most):
        raise BadRequest(f"{name} {text[:40]!r}: give a whole number from 1 to {most}", name)
    return int(text)


def instant_ms(name: str) -> int | None:
    """Return an RFC 3339 parameter as Unix milliseconds; None if absent. Raises: BadRequest."""
    text = request.args.get(name, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped plus sign of the zone
    except ValueError:
        raise BadRequest(
            f"{name} {text[:40]!r}: give an instant as RFC 3339 has it", name
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _after(instant_ms: int | None) -> int | None:
    """Return the exclusive end of a span that includes the millisecond *instant_ms*."""
    return None if instant_ms is None else instant_ms + 1


def _check_span(first: str, low: int | None, last: str, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        raise BadRequest(f"{first} is after {last}: nothing could match", first)
