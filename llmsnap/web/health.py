"""Is it alive, does it accept work."""

from __future__ import annotations

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from llmsnap.web.context import current_service

bp = Blueprint("health", __name__)


@bp.get("/health")
@bp.get("/wol-health")
def health() -> ResponseReturnValue:
    """Answer OK while the process runs; ``/wol-health`` is not logged."""
    return Response("OK", mimetype="text/plain")


@bp.get("/ready")
def ready() -> ResponseReturnValue:
    """Answer OK while requests are accepted, 503 before and after."""
    current_service().check_accepting()
    return Response("OK", mimetype="text/plain")
