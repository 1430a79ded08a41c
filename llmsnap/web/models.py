"""What models there are, which are loaded, and unloading them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from llmsnap.web import listing
from llmsnap.web.context import current_context, current_runtime, current_service
from llmsnap.web.listing import Catalog

bp = Blueprint("models", __name__)


@bp.get("/v1/models")
@bp.get("/models")
@bp.get("/v/models")
def models() -> ResponseReturnValue:
    """List the models the key may use, as OpenAI does."""
    return jsonify(object="list", data=_catalog().records())


@bp.get("/v1/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """Answer the record of one model, by any of its names."""
    route = current_runtime().names.resolve(name, current_context().request.key.may_use)
    return jsonify(_catalog().record(route))


@bp.get("/running")
def running() -> ResponseReturnValue:
    """List every model that is not stopped."""
    response = jsonify(running=listing.running(current_service(), current_context().request.key))
    response.mimetype = "application/json"
    return response


@bp.get("/unload")
def unload_all() -> ResponseReturnValue:
    """Stop all models; answers when they are gone."""
    current_service().driver.unload(None, drain=_drain())
    return _ok()


@bp.post("/api/models/unload")
def api_unload_all() -> ResponseReturnValue:
    """Stop all models; answers when they are gone."""
    current_service().driver.unload(None, drain=_drain())
    return jsonify(msg="ok")


@bp.post("/api/models/unload/<path:name>")
def unload(name: str) -> ResponseReturnValue:
    """Stop one model; answers when it is gone."""
    current_service().driver.unload(_local_id(name), drain=_drain())
    return _ok()


@bp.post("/api/models/sleep/<path:name>")
def sleep(name: str) -> ResponseReturnValue:
    """Put one model to sleep; answers when it sleeps."""
    current_service().driver.sleep(_local_id(name), drain=request.args.get("drain") != "0")
    return _ok()


@bp.post("/api/models/load/<path:name>")
def load(name: str) -> ResponseReturnValue:
    """Make one model ready; answers when it is, or at once with ``?wait=0``."""
    wait = request.args.get("wait") != "0"
    current_service().driver.load(_local_id(name), wait=wait)
    return _ok() if wait else (jsonify(msg="loading"), 202)


def _catalog() -> Catalog:
    return Catalog(current_service(), current_runtime().config, current_context().request.key)


def _local_id(name: str) -> str:
    names, may_use = current_runtime().names, current_context().request.key.may_use
    model_id = names.local_id(name)
    if model_id is None or not may_use(model_id):
        raise names.unknown(name, names.local_names(), may_use)
    return model_id


def _drain() -> bool:
    return request.args.get("drain") == "1"


def _ok() -> Response:
    return Response("OK", mimetype="text/plain")
