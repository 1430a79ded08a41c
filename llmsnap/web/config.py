"""The configuration in force: how it stands, reading it again."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from llmsnap.errors import ConfigError, Problem
from llmsnap.service import ConfigStatus
from llmsnap.web.context import current_service

bp = Blueprint("config", __name__)

SCHEMA_VERSION = 1


@bp.get("/api/config/status")
def status() -> ResponseReturnValue:
    """Tell which file is in force since when, and what is wrong with what it holds now."""
    return jsonify(_document(current_service().config_status))


@bp.post("/api/config/reload")
def reload() -> ResponseReturnValue:
    """Read the file again; 200 with what changed, 422 with every problem and nothing changed."""
    service = current_service()
    try:
        changes = service.reload()
    except ConfigError:
        return jsonify(_document(service.config_status)), 422
    names = ("unchanged", "hot", "restart", "added", "removed")
    plan = {name: list(getattr(changes, name)) for name in names}
    return jsonify(**_document(service.config_status), changes=plan)


def _document(state: ConfigStatus) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "source": state.config.source,
        "hash": state.config.content_hash,
        "loaded_at": state.loaded_at,
        "errors": [_problem(problem) for problem in state.problems],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "line": problem.line,
        "column": problem.column,
        "where": problem.where,
        "what": problem.what,
        "fix": problem.fix,
    }
