"""Views of the configuration: its status, the file with secrets masked, the plan of a reload.

A file with errors is shown too, with its line numbers and comments, because masking works on lines
and not on the parsed document. In doubt, a value is masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from llmsnap.config import Config, compare, load
from llmsnap.errors import ConfigError, Problem
from llmsnap.http import REDACTED, is_reference, is_secret_name, masked, without_known
from llmsnap.service import ConfigStatus
from llmsnap.suggestions import folded
from llmsnap.web.current import current_service

bp = Blueprint("config", __name__)

SCHEMA_VERSION = 1


@bp.get("/api/config/status")
def status() -> ResponseReturnValue:
    """Return which file is in force since when, and the problems of its present content."""
    return jsonify(_document(current_service().config_status))


@bp.post("/api/config/reload")
def reload() -> ResponseReturnValue:
    """Reload the file: 200 with what changed, or 422 with every problem and nothing changed."""
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
        "files": [path for path, _ in state.config.texts if path],
        "hash": state.config.content_hash,
        "loaded_at": state.loaded_at,
        "only_simulated": is_only_simulated(state.config),
        "errors": [problem_document(problem, state.config) for problem in state.problems],
        "advice": [problem_document(problem, state.config) for problem in state.advice],
    }


_SIMULATOR = re.compile(r"(?:\S*/)?llmsnap\s+sim\s")


def is_only_simulated(config: Config) -> bool:
    """Whether all models are simulated, as in the image until a configuration is mounted."""
    models = config.models.values()
    return bool(models) and all(_SIMULATOR.match(model.cmd) for model in models)


# --- the file and the plan ----------------------------------------------------------------------


MAX_FILE_BYTES = 1024 * 1024


@bp.get("/api/config/file")
def config_file() -> ResponseReturnValue:
    """Return the configuration's files as they are on disk, with secrets masked.

    ``text`` and ``reason`` are those of the first file.
    """
    config = current_service().runtime.config
    if not config.source:
        reason = "The configuration did not come from a file."
        return jsonify(source="", text="", reason=reason, files=[])
    files = [_shown(path, config) for path in config.sources.paths()]
    first = files[0] if files else {"text": "", "reason": "There is no file now."}
    return jsonify(source=config.source, text=first["text"], reason=first["reason"], files=files)


def _shown(path: str, config: Config) -> dict[str, str]:
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES)
    except OSError as error:
        return {"path": path, "text": "", "reason": f"It cannot be read now: {error.strerror}."}
    text = mask(data.decode("utf-8", "replace"), known_secrets(config))
    return {"path": path, "text": text, "reason": ""}


@bp.get("/api/config/plan")
def config_plan() -> ResponseReturnValue:
    """Return what a reload would change now, or every problem that prevents it."""
    config = current_service().runtime.config
    if not config.source:
        return jsonify(schema_version=SCHEMA_VERSION, errors=[], changes=None)
    try:
        found = load(config.sources, previous=config)
    except ConfigError as error:
        errors = [problem_document(problem, config) for problem in error.problems]
        return jsonify(schema_version=SCHEMA_VERSION, errors=errors, changes=None)
    changes = {name: list(ids) for name, ids in asdict(compare(config, found)).items()}
    return jsonify(schema_version=SCHEMA_VERSION, errors=[], changes=changes)


def problem_document(problem: Problem, config: Config) -> dict[str, Any]:
    """Return a problem as in ``/api/config/status``, with secrets masked."""
    secrets = list(known_secrets(config))
    return {**asdict(problem), "what": masked(problem.what, secrets)}


def known_secrets(config: Config) -> Iterable[str]:
    """Yield every secret value the configuration holds."""
    yield from (key.key for key in config.api_keys)
    yield from (peer.api_key for peer in config.peers.values() if peer.api_key)
    for launcher in config.launchers.values():
        yield from filter(None, (launcher.token, *_secret_settings(launcher.env)))
    for model in config.models.values():
        yield from filter(None, (model.api_key, *(value for _, value in model.headers)))
        yield from _secret_settings(model.env)


def _secret_settings(env: Iterable[str]) -> Iterable[str]:
    for setting in env:
        name, _, value = setting.partition("=")
        if is_secret_name(name):
            yield value


# --- masking ------------------------------------------------------------------------------------


KEY_LISTS = frozenset({"apikeys", "keys", "authkeys", "accesskeys", "apitokens"})
"""Names of secret keys in lower case and without ``_ - .``; misspelt names are not masked."""
HARMLESS = frozenset({"name", "models", "admin", "upstream"})
"""Fields of an entry of ``apiKeys`` that are not secret."""
NOWHERE = 1_000_000
"""An indent greater than that of any line."""
OPENINGS = frozenset({"", "[", "{", "|", ">", "|-", ">-", "|+", ">+", "[]", "null", "~"})

_MEMBER = re.compile(r"^(\s*(?:#\s*)?(?:-\s+)?)([\"']?)([\w.-]+)\2(\s*:)(\s+|$)(.*)$")
_ITEM = re.compile(r"^(\s*(?:#\s*)?-\s+)(.*)$")


def mask(text: str, known: Iterable[str] = ()) -> str:
    """Return *text* with secrets masked, the *known* ones first. The number of lines stays."""
    masker = _Masker()
    return without_known("\n".join(masker.line(line) for line in text.split("\n")), known)


class _Masker:
    """Masks line by line, and tracks whether a line is below a secret member."""

    def __init__(self) -> None:
        self._below = NOWHERE
        """Indent of the secret member that the current line belongs to."""
        self._keys = False
        """Whether that member is the list of API keys, some fields of which are not secret."""

    def line(self, line: str) -> str:
        if not line.strip():
            return line
        if not self._belongs(line):
            self._below = NOWHERE
        if self._below < NOWHERE:
            return self._secret_line(line)
        member = _MEMBER.match(line)
        if member is None:
            return masked(line)
        before, quote, name, colon, space, value = member.groups()
        lists_keys = folded(name) in KEY_LISTS
        if lists_keys or is_secret_name(name):
            self._below = _indent(line)
            self._keys = lists_keys
            return f"{before}{quote}{name}{quote}{colon}{space}{_value(value)}"
        return masked(line)

    def _belongs(self, line: str) -> bool:
        deeper = _indent(line) > self._below
        is_item = line.lstrip().startswith(("-", "#", "]", "}")) and _indent(line) == self._below
        return deeper or is_item

    def _secret_line(self, line: str) -> str:
        member = _MEMBER.match(line)
        if member is not None:
            before, quote, name, colon, space, value = member.groups()
            shown = value if self._keys and name in HARMLESS else _value(value)
            return f"{before}{quote}{name}{quote}{colon}{space}{shown}"
        item = _ITEM.match(line)
        if item is not None:
            return f"{item[1]}{_value(item[2])}"
        bare = line.lstrip()
        return line if bare in {"]", "}"} else line[: len(line) - len(bare)] + _value(bare)


def _indent(line: str) -> int:
    """Return the column where a member's name begins; the dash of a list counts as indent."""
    return len(line) - len(line.lstrip(" "))


def _value(text: str) -> str:
    """Return a masked value. References to the environment and block indicators are kept."""
    return text if text.strip() in OPENINGS or is_reference(text) else REDACTED
