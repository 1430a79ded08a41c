"""The Prometheus page, and the last hour of the machine for the UI."""

from __future__ import annotations

import time
from dataclasses import replace

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from msgspec import json

from llmsnap.errors import BadRequest, HardwareUnknown
from llmsnap.service import Service
from llmsnap.tasks import count_tasks
from llmsnap.telemetry import Gauges, ModelGauges, llama_swap_samples
from llmsnap.web.context import current_service
from llmsnap.web.llama_swap import instant_ms

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Answer the counters and gauges in the format the scraper asks for."""
    service = current_service()
    accept = request.headers.get("Accept", "")
    gauges = _gauges(service)
    if request.args.get("compat") == "llama-swap":
        gauges = replace(gauges, llama_swap=service.telemetry.performance.last)
    body, content_type = service.telemetry.metrics.render(gauges, accept)
    return Response(body, content_type=content_type)


@bp.get("/api/performance")
def performance() -> ResponseReturnValue:
    """Answer the samples of host, GPUs and model processes.

    With ``?since=`` in Unix milliseconds in our own shape, with ``?after=`` in RFC 3339 in that of
    llama-swap, in both without either.
    """
    performance = current_service().telemetry.performance
    after_ms = instant_ms("after")
    theirs = llama_swap_samples(performance.samples(after_ms or 0))
    if after_ms is not None:
        return jsonify(theirs)
    since = request.args.get("since", "0")
    if not since.isascii() or not since.isdecimal():
        raise BadRequest(f"since must be Unix milliseconds, not {since[:40]!r}")
    ours = performance.history(int(since))
    return jsonify(ours if "since" in request.args else {**theirs, **ours})


@bp.get("/api/hardware")
def hardware() -> ResponseReturnValue:
    """Answer what the machine is made of."""
    probe = current_service().telemetry.hardware
    if probe.found is None:
        raise HardwareUnknown(has_failed=probe.has_ended)
    return Response(json.encode(probe.found.document()), content_type="application/json")


def _gauges(service: Service) -> Gauges:
    telemetry = service.telemetry
    last = telemetry.performance.last
    views = service.driver.scheduler.snapshot(time.monotonic())
    return Gauges(
        models=[ModelGauges(v.model_id, str(v.state), v.in_flight, v.waiting) for v in views],
        log_dropped=service.logs.dropped_bytes,
        stdout_dropped=service.logs.stdout.dropped_bytes,
        capture_bytes=telemetry.captures.used,
        store_lost_rows=telemetry.store.lost_rows if telemetry.store else 0,
        wrong_keys=telemetry.wrong_keys.total,
        tasks=count_tasks(),
        host=last.host if last else None,
        processes=last.processes if last else (),
        gpus=last.gpus if last else (),
    )
