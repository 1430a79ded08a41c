"""Logs as text: what there is, and what comes."""

from __future__ import annotations

import re
from contextlib import closing

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from llmsnap.errors import BadRequest
from llmsnap.logs import LogStream
from llmsnap.web.context import current_context, current_runtime, current_service, redirect_to
from llmsnap.web.gateway import FLUSH
from llmsnap.web.streams import LogBody, LogEvents

bp = Blueprint("logs", __name__)

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}
TEXT = "text/plain"
EVENTS = "text/event-stream"
POSITION = re.compile(r"[0-9]{1,18}")


@bp.get("/logs")
def history() -> ResponseReturnValue:
    """Answer the combined log; browsers are sent to the UI."""
    if "text/html" in request.headers.get("Accept", ""):
        return redirect_to("/ui/")
    text = current_service().logs.combined.snapshot()
    return Response(text, headers={"Content-Type": TEXT})


@bp.get("/logs/stream", strict_slashes=False)
@bp.get("/logs/stream/<path:name>")
def stream(name: str = "") -> ResponseReturnValue:
    """Answer a log as it grows: combined, ``proxy``, ``upstream``, or that of a model.

    ``?no-history`` leaves out what is there, ``?no-follow`` what comes. ``?format=sse`` makes it
    events; whatever Accept says, it is text otherwise, as the Go programs have it.
    """
    as_events = request.args.get("format") == "sse"
    last_id = request.headers.get("Last-Event-ID", "")
    body = (LogEvents if as_events else LogBody)(
        current_service(),
        _log(name),
        current_context().request.monitor,
        skip_history="no-history" in request.args,
        after=int(last_id) if as_events and POSITION.fullmatch(last_id) else None,
        follow="no-follow" not in request.args,
    )
    headers = {**HEADERS, "Content-Type": EVENTS if as_events else TEXT}
    if body.follow:
        request.environ[FLUSH] = True
        return Response(body, headers=headers)
    with closing(body):
        return Response(b"".join(body), headers=headers)


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
    # As the client sent it: Flask's is decoded already, and "%25" must not become a "%" twice.
    raw = current_context().request.raw_path.partition("?")[0].removeprefix("/logs/stream/")
    found = current_runtime().names.in_path(raw)
    model_id = current_runtime().names.local_id(found[0]) if found else None
    if model_id is None:
        raise BadRequest(f"invalid logger {name!r}: use proxy, upstream or a model id")
    return logs.model(model_id).stream
