"""``/props`` without a model, as llama-server answers it in router mode."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from llmsnap import __version__
from llmsnap.http.routes import PROPS_PATH

bp = Blueprint("props", __name__)


@bp.get(PROPS_PATH)
def props() -> ResponseReturnValue:
    """Tell that there is no one model here; clients then ask for ``/props?model=``."""
    return jsonify(
        role="router",
        models_autoload=True,
        model_alias="llmsnap",
        model_path="none",
        default_generation_settings={"params": {}, "n_ctx": 0},
        modalities={"vision": False, "audio": False},
        chat_template="",
        total_slots=0,
        build_info=f"llmsnap {__version__}",
    )
