"""The Prometheus page, and the last hour of the machine for the UI."""

from __future__ import annotations

import time

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from msgspec import json

from llmsnap.errors import BadRequest, HardwareUnknown
from llmsnap.service import Service
from llmsnap.tasks import count_tasks
from llmsnap.telemetry import Gauges, ModelGauges
from llmsnap.web.context import current_service

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Answer the counters and gauges in the format the scraper asks for."""
    service = current_service()
    accept = request.headers.get("Accept", "")
    body, content_type = service.observations.metrics.render(_gauges(service), accept)
    return Response(body, content_type=content_type)


@bp.get("/api/performance")
def performance() -> ResponseReturnValue:
    """Answer the samples of host, GPUs and model processes; ``?since=`` in Unix milliseconds."""
    since = request.args.get("since", "0")
    if not since.isascii() or not since.isdecimal():
        raise BadRequest(f"since must be Unix milliseconds, not {since[:40]!r}")
    return jsonify(current_service().observations.performance.history(int(since)))


@bp.get("/api/hardware")
def hardware() -> ResponseReturnValue:
    """Answer what the machine is made of."""
    probe = current_service().observations.hardware
    if probe.found is None:
        raise HardwareUnknown(has_failed=probe.has_ended)
    return Response(json.encode(probe.found.document()), content_type="application/json")


def _gauges(service: Service) -> Gauges:
    observations = service.observations
    last = observations.performance.last
    views = service.driver.scheduler.snapshot(time.monotonic())
    return Gauges(
        models=[ModelGauges(v.model_id, str(v.state), v.in_flight, v.waiting) for v in views],
        log_dropped=service.logs.dropped_bytes,
        stdout_dropped=service.logs.stdout.dropped_bytes,
        capture_bytes=observations.captures.used,
        store_lost_rows=observations.store.lost_rows if observations.store else 0,
        wrong_keys=observations.wrong_keys.total,
        tasks=count_tasks(),
        host=last.host if last else None,
        processes=last.processes if last else (),
        gpus=last.gpus if last else (),
    )
