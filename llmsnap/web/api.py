"""What the UI and dashboards ask: events, metrics, activity, captures, requests in flight."""

from __future__ import annotations

import re

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from gevent import get_hub

from llmsnap.errors import BadRequest, NotFound
from llmsnap.http import SANDBOX
from llmsnap.installation import identify
from llmsnap.telemetry import (
    SCHEMA_VERSION,
    Filter,
    Order,
    activity_export,
    capture_curl,
    capture_har,
    capture_object,
    is_metric,
    metric_object,
    statistics,
)
from llmsnap.web import statuses
from llmsnap.web.context import current_context, current_service
from llmsnap.web.feed import Feed, Form
from llmsnap.web.gateway import FLUSH
from llmsnap.web.streams import FeedBody

bp = Blueprint("api", __name__, url_prefix="/api")

EVENT_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}
NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
FORMS = {"message": Form.MESSAGE, "named": Form.NAMED, "both": Form.BOTH}


@bp.get("/version")
def version() -> ResponseReturnValue:
    """Tell which program this is."""
    build = identify()
    return jsonify(build_date=build.date, commit=build.commit, version=build.version)


@bp.get("/events")
def events() -> ResponseReturnValue:
    """Stream all that happens: envelopes, or with ``?format=`` ``named`` frames or ``both``."""
    request.environ[FLUSH] = True
    return Response(FeedBody(new_feed(), current_context().request.monitor), headers=EVENT_HEADERS)


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """List what is known of each successful request, oldest first."""
    records = current_service().telemetry.activity.snapshot()
    response = jsonify([metric_object(one) for one in records if is_metric(one)])
    response.mimetype = "application/json"
    return response


@bp.get("/activity")
def activity() -> ResponseReturnValue:
    """Page through the records of all requests, failed ones too.

    ``model``, ``status``, ``key``, ``since`` and ``until`` filter; ``sort``, ``cursor`` and
    ``limit`` page.
    """
    order = Order.parse(request.args["sort"]) if "sort" in request.args else None
    page = current_service().telemetry.page(
        _wanted(), order, request.args.get("cursor"), _number("limit", 100) or 100
    )
    return jsonify(**activity_export(page.records), cursor=page.cursor)


@bp.get("/activity/stats")
def activity_stats() -> ResponseReturnValue:
    """Sum up the records in memory: totals, percentiles and histograms, for all and per model."""
    wanted = _wanted()
    records = filter(wanted.matches, current_service().telemetry.activity.snapshot())
    # In a thread: over many records it takes long, and streams are to go on meanwhile.
    found = get_hub().threadpool.apply(statistics, (records,))
    return jsonify(schema_version=SCHEMA_VERSION, **found)


@bp.get("/swaps")
def swaps() -> ResponseReturnValue:
    """List the last swaps, oldest first; of earlier runs too, where a store keeps them."""
    records = current_service().telemetry.last_swaps()
    return jsonify(schema_version=SCHEMA_VERSION, swaps=records)


@bp.get("/inflight")
def inflight() -> ResponseReturnValue:
    """List the requests in flight, oldest first."""
    service = current_service()
    records = statuses.requests(service, service.telemetry.recorder.in_flight())
    return jsonify(schema_version=SCHEMA_VERSION, requests=records)


@bp.post("/inflight/<int:serial>/cancel")
def cancel(serial: int) -> ResponseReturnValue:
    """End a request in flight; its client gets an error."""
    if not current_service().telemetry.recorder.cancel(serial):
        raise NotFound(f"no request {serial} is in flight")
    return jsonify(msg="ok")


@bp.after_request
def keep_captures_inert(response: Response) -> Response:
    """Run nothing of what clients and models said, in a browser that is led to it."""
    if request.endpoint == "api.capture":
        response.headers["Content-Security-Policy"] = SANDBOX
    return response


@bp.get("/captures/<capture_id>")
def capture(capture_id: str) -> ResponseReturnValue:
    """Answer what one request and its answer were; ``?format=curl`` or ``har`` to use elsewhere."""
    if not NUMBER.fullmatch(capture_id):
        return jsonify(error="invalid capture ID"), 400
    found = current_service().telemetry.captures.get(int(capture_id))
    if found is None:
        return jsonify(error="capture not found"), 404
    base_url = request.host_url.rstrip("/")
    match request.args.get("format", ""):
        case "":
            return jsonify(capture_object(found))
        case "curl":
            return Response(capture_curl(found, base_url), mimetype="text/plain")
        case "har":
            return jsonify(capture_har(found, base_url))
        case other:
            raise BadRequest(f"format must be curl or har, not {other!r}")


def new_feed() -> Feed:
    """Return the feed that the running request asks for, not open yet. Raises: BadRequest."""
    wanted = request.args.get("format") or "message"
    form = FORMS.get(wanted)
    if form is None:
        raise BadRequest(f"format must be message, named or both, not {wanted[:40]!r}")
    # A WebSocket of a browser cannot send headers of its own.
    resume = request.headers.get("Last-Event-ID") or request.args.get("lastEventId", "")
    return Feed(current_service(), form, resume)


def _wanted() -> Filter:
    wanted = Filter(
        model=request.args.get("model") or None,
        status=request.args.get("status") or None,
        key_name=request.args.get("key") or None,
        since_ms=_number("since"),
        until_ms=_number("until"),
    )
    wanted.status_range()
    return wanted


def _number(name: str, default: int | None = None) -> int | None:
    text = request.args.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise BadRequest(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)
