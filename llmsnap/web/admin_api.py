"""Views for the web UI, dashboards and Prometheus: activity, captures, hardware, models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from gevent import get_hub
from msgspec import json

from llmsnap.config import ModelConfig, read_capacities
from llmsnap.errors import BadRequest, HardwareUnknown, NotFound, UnknownModel
from llmsnap.http import SANDBOX, masked
from llmsnap.installation import identify
from llmsnap.routing import ModelView, said_of_request, said_of_swap
from llmsnap.service import Service
from llmsnap.suggestions import shown
from llmsnap.tasks import count_tasks
from llmsnap.telemetry import (
    SCHEMA_VERSION,
    ActivityRecord,
    Filter,
    Gauges,
    ModelGauges,
    Order,
    activity_export,
    capture_curl,
    capture_har,
    capture_object,
    is_metric,
    llama_swap_samples,
    merge,
    metric_object,
    statistics,
)
from llmsnap.web import frames
from llmsnap.web.configuration import known_secrets
from llmsnap.web.current import current_service, current_telemetry, whole_number
from llmsnap.web.llama_swap import instant_ms
from llmsnap.web.models import place_document

bp = Blueprint("admin_api", __name__)

NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@bp.get("/api/version")
def version() -> ResponseReturnValue:
    """Return the program's version, commit and build date."""
    build = identify()
    return jsonify(build_date=build.date, commit=build.commit, version=build.version)


@bp.get("/api/metrics")
def metrics() -> ResponseReturnValue:
    """List the metrics of each successful request, oldest first."""
    records = current_service().records()
    response = jsonify([metric_object(one) for one in records if is_metric(one)])
    response.mimetype = "application/json"
    return response


@bp.get("/api/activity")
def activity() -> ResponseReturnValue:
    """Return a page of the records of all requests, failed ones included.

    ``model``, ``status``, ``key``, ``session``, ``selector``, ``peer``, ``id``, ``request_id``,
    ``since`` and ``until`` filter; ``sort``, ``cursor`` and ``limit`` page. With ``count=1``,
    ``total`` is the number of records that the filters leave.
    """
    wanted, telemetry = _wanted(), current_telemetry()
    order = Order.parse(request.args["sort"]) if "sort" in request.args else None
    page = telemetry.page(
        wanted, order, request.args.get("cursor"), whole_number("limit", 100) or 100
    )
    total = {"total": telemetry.count(wanted)} if whole_number("count") else {}
    return jsonify(**activity_export(page.records), cursor=page.cursor, **total)


@bp.get("/api/activity/stats")
def activity_stats() -> ResponseReturnValue:
    """Summarize the records in memory: totals, percentiles, histograms, overall and per model."""
    wanted = _wanted()
    records = list(filter(wanted.matches, current_service().records()))
    # In a thread, because many records take long and must not block the streams.
    found = get_hub().threadpool.apply(statistics, (records,))
    since_ms = records[0].ended_ns // 1_000_000 if records else None
    recorded = current_telemetry().count(wanted)
    return jsonify(schema_version=SCHEMA_VERSION, **found, recorded=recorded, since_ms=since_ms)


@bp.get("/api/swaps")
def swaps() -> ResponseReturnValue:
    """List recent swaps, oldest first; with a store, those of earlier runs too."""
    records = current_telemetry().last_swaps()
    return jsonify(schema_version=SCHEMA_VERSION, swaps=records)


@bp.get("/api/swaps/<int:swap_id>")
def swap(swap_id: int) -> ResponseReturnValue:
    """Return one of the recent swaps, with the plan it followed, and in sentences."""
    found = [each for each in current_telemetry().last_swaps() if each["id"] == swap_id]
    if not found:
        raise NotFound(f"there is no swap {swap_id} among the recent ones")
    sentences = list(said_of_swap(found[-1]))
    return jsonify(schema_version=SCHEMA_VERSION, swap=found[-1], sentences=sentences)


@bp.get("/api/requests/<path:request_id>")
def one_request(request_id: str) -> ResponseReturnValue:
    """Return a request in flight, or its record, with the swap it waited for, and in sentences.

    *request_id* is its id, or else the number of its record.
    """
    service, telemetry = current_service(), current_telemetry()
    observers = [each for each in service.in_flight() if each.context.request.id == request_id]
    found = frames.requests(service, observers, service.models_now()) if observers else []
    wanted = [Filter(request_id=request_id)]
    if NUMBER.fullmatch(request_id):
        wanted.append(Filter(min_id=int(request_id), max_id=int(request_id)))
    for each in wanted:
        found = found or activity_export(telemetry.page(each, limit=1).records)["records"]
    if not found:
        raise NotFound("no request of this id is in flight or among the recent ones")
    one = found[-1]
    swaps = (each for each in telemetry.last_swaps() if each["id"] == one["swap_id"])
    swap = next(swaps, None)
    sentences = list(said_of_request(one, swap))
    return jsonify(schema_version=SCHEMA_VERSION, request=one, swap=swap, sentences=sentences)


@bp.get("/api/plan")
def plan() -> ResponseReturnValue:
    """Return what loading ``model`` would do now, or with the models in ``running`` loaded.

    ``memory`` supposes that devices have other capacities.
    """
    service = current_service()
    config = service.runtime.config

    def known(name: str) -> str:
        model_id = name if name in config.models else config.aliases.get(name)
        if model_id is None:
            raise UnknownModel(f'model not found: "{shown(name)}"')
        return model_id

    running = None
    if "running" in request.args:
        names = request.args["running"].split(",")
        running = {known(name.strip()) for name in names if name.strip()}
    model_id = known(request.args.get("model", ""))
    capacities = None
    if "memory" in request.args:
        if config.residency != "memory":
            raise BadRequest("memory= needs a memory budget: routing.router.use: memory")
        try:
            capacities = read_capacities(request.args["memory"])
        except ValueError as error:
            raise BadRequest(str(error)) from error
    document = service.preview(model_id, running, capacities)
    return jsonify(schema_version=SCHEMA_VERSION, **document)


@bp.get("/api/memory")
def memory() -> ResponseReturnValue:
    """Return what each device of the memory budget holds, and what each model needs."""
    service = current_service()
    found = asdict(service.occupancy())
    last = service.last_sample
    gpus = {f"gpu{gpu.index}": gpu for gpu in last.gpus} if last else {}
    for device in found["devices"]:
        gpu = gpus.get(device["name"])
        device["label"] = gpu.name if gpu else None
        device["uuid"] = gpu.uuid if gpu else None
    return jsonify(schema_version=SCHEMA_VERSION, **found)


@bp.get("/api/inflight")
def inflight() -> ResponseReturnValue:
    """List the requests in flight, oldest first."""
    service = current_service()
    records = frames.requests(service, service.in_flight(), service.models_now())
    return jsonify(schema_version=SCHEMA_VERSION, requests=records)


@bp.post("/api/inflight/<int:serial>/cancel")
def cancel(serial: int) -> ResponseReturnValue:
    """Cancel a request in flight; its client gets an error."""
    if not current_telemetry().recorder.cancel(serial):
        raise NotFound(f"no request {serial} is in flight")
    return jsonify(msg="ok")


@bp.after_request
def keep_captures_inert(response: Response) -> Response:
    """Add headers that keep a browser from running content of clients and models as a page."""
    if request.endpoint == "admin_api.capture":
        response.headers["Content-Security-Policy"] = SANDBOX
    return response


@bp.get("/api/captures/<capture_id>")
def capture(capture_id: str) -> ResponseReturnValue:
    """Return one captured exchange as JSON, or in ``?format=curl`` or ``har``."""
    if not NUMBER.fullmatch(capture_id):
        return jsonify(error="invalid capture ID"), 400
    found = current_telemetry().capture(int(capture_id))
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


def _wanted() -> Filter:
    record_id = whole_number("id")
    wanted = Filter(
        min_id=record_id,
        max_id=record_id,
        request_id=request.args.get("request_id") or None,
        model=request.args.get("model") or None,
        status=request.args.get("status") or None,
        key_name=request.args.get("key") or None,
        session=request.args.get("session") or None,
        selector=request.args.get("selector") or None,
        peer=request.args.get("peer") or None,
        since_ms=whole_number("since"),
        until_ms=whole_number("until"),
    )
    wanted.status_range()
    return wanted


# --- model status -------------------------------------------------------------------------------


MOVES = ("start", "wake", "sleep", "stop")


@bp.get("/api/models")
def models() -> ResponseReturnValue:
    """List all models with name, description and state, those of peers too, as the events do."""
    return jsonify(schema_version=SCHEMA_VERSION, models=frames.model_list(current_service()))


@bp.get("/api/overview")
def overview() -> ResponseReturnValue:
    """Return the status of every model, stopped ones included, the groups, and the peers."""
    service = current_service()
    config = service.runtime.config
    memory = _memory(service)
    secrets = list(known_secrets(config))
    models = [
        {
            **model_document(view, config.models[view.model_id], secrets),
            "memory_bytes": memory.get(view.model_id),
            "place": place_document(service, config.models[view.model_id]),
            "prompts": _prompts(service, config.models[view.model_id]),
            "sleep_off": service.checks.sleep_off(config.models[view.model_id]),
        }
        for view in service.models_now()
        if view.model_id in config.models
    ]
    groups = [asdict(group) for group in config.groups.values()]
    peers = _peers(config.peers, service.records())
    return jsonify(schema_version=SCHEMA_VERSION, models=models, groups=groups, peers=peers)


@bp.get("/api/timeline")
def timeline() -> ResponseReturnValue:
    """Return the states of the last days, per model; ``since`` leaves out earlier ones."""
    service, since_ms = current_service(), whole_number("since") or 0
    history, config = service.telemetry.states, service.runtime.config
    states = {name: history.bars(name, since_ms) for name in config.models}
    return jsonify(schema_version=SCHEMA_VERSION, states=states)


def model_document(view: ModelView, model: ModelConfig, secrets: Iterable[str]) -> dict[str, Any]:
    """Return the status of one model. Durations are in seconds, None if unknown."""
    shown = asdict(view)
    durations = {name: shown.pop(name) for name in MOVES}
    for name in ("state", "rest"):
        shown[name] = None if shown[name] is None else str(shown[name])
    return {
        **shown,
        "durations": durations,
        "aliases": list(model.aliases),
        "cmd": masked(model.cmd, secrets),
        "proxy": masked(model.proxy, secrets),
        "ttl_s": model.ttl_s,
        "sleep_after_s": model.sleep_after_s,
        "concurrency_limit": model.concurrency_limit,
    }


def _peers(peers: Iterable[str], records: Sequence[ActivityRecord]) -> list[dict[str, Any]]:
    """Return each peer with the outcome of its last request; peers are not asked for their health.

    A request that its client ended says nothing.
    """
    last: dict[str, ActivityRecord] = {}
    wanted = set(peers)
    for record in reversed(records):
        if len(last) == len(wanted):
            break
        if record.peer in wanted and not record.client_left:
            last.setdefault(record.peer, record)
    return [{"id": peer, "last": _outcome(last[peer]) if peer in last else None} for peer in peers]


def _outcome(record: ActivityRecord) -> dict[str, Any]:
    ended_ms = record.ended_ns // 1_000_000
    return {"ended_ms": ended_ms, "status": record.status, "reason": record.reason}


def _prompts(service: Service, model: ModelConfig) -> dict[str, Any] | None:
    """Return what is kept of a model's prompts over swaps; None where none are to be."""
    return asdict(service.prompts.summary(model.id)) if model.prompt_cache else None


def _memory(service: Service) -> dict[str, int]:
    last = service.last_sample
    return {one.model_id: one.rss_bytes for one in last.processes} if last else {}


# --- hardware and metrics -----------------------------------------------------------------------


@bp.get("/metrics")
def prometheus() -> ResponseReturnValue:
    """Return counters and gauges in the exposition format that the scraper accepts.

    With ``?upstream=1`` the metrics of the ready models follow, in the text format.
    """
    service = current_service()
    upstream = request.args.get("upstream") == "1"
    accept = "" if upstream else request.headers.get("Accept", "")
    gauges = _gauges(service)
    if request.args.get("compat") == "llama-swap":
        gauges = replace(gauges, llama_swap=service.last_sample)
    metrics = service.telemetry.metrics
    body, content_type = metrics.render(gauges, accept)
    if upstream:  # in a thread, because the pages of many models must not block the streams
        body += get_hub().threadpool.apply(merge, (service.model_metrics(),))
    return Response(body, content_type=content_type)


@bp.get("/api/performance")
def performance() -> ResponseReturnValue:
    """Return the samples of host, GPUs and model processes.

    With ``?since=`` (Unix milliseconds) in llmsnap's own shape, with ``?after=`` (RFC 3339) in that
    of llama-swap, without either in both. With sampling disabled, ``?after=`` gets 503.
    """
    performance = current_telemetry().performance
    after_ms = instant_ms("after")
    if after_ms is not None and not performance.enabled:
        return jsonify(enabled=False), 503
    ours = {} if after_ms is not None else performance.history(whole_number("since") or 0)
    if "since" in request.args and after_ms is None:  # what open pages ask for every few seconds
        if limit := whole_number("limit"):
            ours["samples"] = ours["samples"][-limit:]
        return jsonify(ours)
    samples = performance.samples(after_ms or 0)
    return jsonify({**llama_swap_samples(samples, enabled=performance.enabled), **ours})


@bp.get("/api/hardware")
def hardware() -> ResponseReturnValue:
    """Return the hardware that was detected at startup."""
    probe = current_telemetry().hardware
    if probe.found is None:
        raise HardwareUnknown(has_failed=probe.has_ended)
    return Response(json.encode(probe.found.document()), content_type="application/json")


def _gauges(service: Service) -> Gauges:
    telemetry = service.telemetry
    last, logs = service.last_sample, service.logs
    views = service.models_now()
    return Gauges(
        models=[ModelGauges(v.model_id, str(v.state), v.in_flight, v.waiting) for v in views],
        log_dropped=logs.dropped_bytes,
        stdout_dropped=logs.stdout.dropped_bytes,
        capture_bytes=telemetry.captures.used,
        store_lost_rows=telemetry.store.lost_rows if telemetry.store else 0,
        wrong_keys=telemetry.wrong_keys.total,
        tasks=count_tasks(),
        host=last.host if last else None,
        processes=last.processes if last else (),
        gpus=last.gpus if last else (),
    )
