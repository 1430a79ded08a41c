"""``/upstream`` without a model; what stands below it goes past Flask."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from llmsnap.web.context import redirect_to

bp = Blueprint("upstream", __name__)


@bp.get("/upstream")
def upstream() -> ResponseReturnValue:
    """Lead a person to the list of models."""
    return redirect_to("/ui/#/models")
