"""Logs as text: what there is, and what comes."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue

from llmsnap.errors import BadRequest
from llmsnap.logs.stream import LogStream
from llmsnap.web.context import current_call, current_runtime, current_service
from llmsnap.web.gateway import FLUSH
from llmsnap.web.streams import LogBody, LogEvents

bp = Blueprint("logs", __name__)

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}


@bp.get("/logs")
def history() -> ResponseReturnValue:
    """Answer the combined log; browsers are sent to the UI."""
    if "text/html" in request.headers.get("Accept", ""):
        return redirect("/ui/", 302)
    return Response(current_service().logs.combined.snapshot(), mimetype="text/plain")


@bp.get("/logs/stream", strict_slashes=False)
@bp.get("/logs/stream/<path:name>")
def stream(name: str = "") -> ResponseReturnValue:
    """Answer a log as it grows: combined, ``proxy``, ``upstream``, or that of a model.

    ``?no-history`` leaves out what is there. ``?format=sse`` (or that Accept) makes it events.
    """
    log = _log(name)
    as_events = request.args.get("format") == "sse" or "text/event-stream" in request.headers.get(
        "Accept", ""
    )
    last_id = request.headers.get("Last-Event-ID", "")
    after = int(last_id) if as_events and last_id.isdigit() else None
    past, reader = log.subscribe(after=after)
    if "no-history" in request.args:
        past = b""
    body = (LogEvents if as_events else LogBody)(past, reader)
    current_call().presence.open(body.end)
    request.environ[FLUSH] = True
    mimetype = "text/event-stream" if as_events else "text/plain"
    return Response(body, mimetype=mimetype, headers=HEADERS)


def _log(name: str) -> LogStream:
    logs = current_service().logs
    name = name.rstrip("/")
    match name:
        case "":
            return logs.combined
        case "proxy":
            return logs.proxy
        case "upstream":
            return logs.upstream
    found = current_runtime().names.in_path(name)
    model_id = current_runtime().names.local_id(found[0]) if found else None
    if model_id is None:
        raise BadRequest(f"invalid logger {name!r}: use proxy, upstream or a model id")
    return logs.model(model_id).stream
