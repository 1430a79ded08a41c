"""What the user interface asks beyond the published API: how models fare, states, the file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from llmsnap.config import Config, ModelConfig, compare, load
from llmsnap.errors import ConfigError, Problem
from llmsnap.http import is_secret_name, masked
from llmsnap.routing import ModelView
from llmsnap.service import Service
from llmsnap.web.context import current_service
from llmsnap.web.masking import mask

bp = Blueprint("insight", __name__, url_prefix="/api")

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 1024 * 1024
MOVES = ("start", "wake", "sleep", "stop")


@bp.get("/overview")
def overview() -> ResponseReturnValue:
    """Tell how every model fares, stopped ones too, and how they are grouped."""
    service = current_service()
    config = service.runtime.config
    memory = _memory(service)
    secrets = list(known_secrets(config))
    models = [
        {
            **model_document(view, config.models[view.model_id], secrets),
            "memory_bytes": memory.get(view.model_id),
        }
        for view in service.driver.scheduler.snapshot(time.monotonic())
        if view.model_id in config.models
    ]
    groups = [asdict(group) for group in config.groups.values()]
    return jsonify(schema_version=SCHEMA_VERSION, models=models, groups=groups)


@bp.get("/timeline")
def timeline() -> ResponseReturnValue:
    """Tell the states of the last hours, per model."""
    service = current_service()
    history = service.telemetry.states
    states = {name: history.bars(name) for name in service.runtime.config.models}
    return jsonify(schema_version=SCHEMA_VERSION, states=states)


@bp.get("/config/file")
def config_file() -> ResponseReturnValue:
    """Answer the configuration file as it is on disk, secrets masked."""
    config = current_service().runtime.config
    if not config.source:
        return jsonify(source="", text="", reason="The configuration did not come from a file.")
    try:
        with Path(config.source).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES)
    except OSError as error:
        reason = f"It cannot be read now: {error.strerror}."
        return jsonify(source=config.source, text="", reason=reason)
    text = mask(data.decode("utf-8", "replace"), known_secrets(config))
    return jsonify(source=config.source, text=text, reason="")


@bp.get("/config/plan")
def config_plan() -> ResponseReturnValue:
    """Tell what a reload would do now, or every problem that stands in its way."""
    config = current_service().runtime.config
    if not config.source:
        return jsonify(schema_version=SCHEMA_VERSION, errors=[], changes=None)
    try:
        found = load(config.source, previous=config)
    except ConfigError as error:
        errors = [problem_document(problem, config) for problem in error.problems]
        return jsonify(schema_version=SCHEMA_VERSION, errors=errors, changes=None)
    changes = {name: list(ids) for name, ids in asdict(compare(config, found)).items()}
    return jsonify(schema_version=SCHEMA_VERSION, errors=[], changes=changes)


def model_document(view: ModelView, model: ModelConfig, secrets: Iterable[str]) -> dict[str, Any]:
    """Return how one model fares. Durations in seconds, null where unknown."""
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


def problem_document(problem: Problem, config: Config) -> dict[str, Any]:
    """Return a problem as ``/api/config/status`` does, secrets masked."""
    secrets = list(known_secrets(config))
    return {**asdict(problem), "what": masked(problem.what, secrets)}


def known_secrets(config: Config) -> Iterable[str]:
    """Yield every secret value the configuration holds."""
    yield from (key.key for key in config.api_keys)
    yield from (peer.api_key for peer in config.peers.values() if peer.api_key)
    for model in config.models.values():
        yield from filter(None, (model.api_key, *(value for _, value in model.headers)))
        for setting in model.env:
            name, _, value = setting.partition("=")
            if is_secret_name(name):
                yield value


def _memory(service: Service) -> dict[str, int]:
    last = service.telemetry.performance.last
    return {one.model_id: one.rss_bytes for one in last.processes} if last else {}
