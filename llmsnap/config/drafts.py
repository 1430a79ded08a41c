"""Models before ports are given out: their macros, and what makes their process what it is."""

from __future__ import annotations

from typing import NamedTuple

from llmsnap.errors import CommandProblem, MacroProblem

from . import command
from .keys import MODEL
from .macros import Macros, define
from .nodes import Mapping, Node, Scalar, Sequence, is_null
from .report import Report
from .scalars import render

_PORT = "${PORT}"
_DEFAULT_PROXY: str = MODEL.default["proxy"]
MAX_COMMAND = 2 * 1024 * 1024  # more than any system starts
_WORDS_FOLLOW = "\0"


class Draft(NamedTuple):
    """A model whose macros are known but whose port is not."""

    id: str
    node: Node
    macros: Macros
    blueprint: tuple[str, ...]
    wants_port: bool
    """Its command contains ``${PORT}``."""
    has_words: bool
    """Its command is not empty."""


def draft(model_id: str, node: Node, macros: Macros, report: Report) -> Draft:
    """Return *model_id* as far as it can be known before ports are given out."""
    path = ("models", model_id)
    entries = node.entries if isinstance(node, Mapping) else {}
    own = define(entries.get("macros"), (*path, "macros"), report)
    macros = macros.having({"MODEL_ID": model_id, **own})
    cmd = _expand(command.strip_comments(_text(entries.get("cmd"))), macros)
    proxy = _expand(_text(entries.get("proxy")) or _DEFAULT_PROXY, macros)
    env = [_expand(_text(item), macros) for item in _items(entries.get("env"))]
    words = _words(cmd)
    return Draft(
        id=model_id,
        node=node,
        macros=macros,
        blueprint=(proxy, *env, _WORDS_FOLLOW, *words),
        wants_port=_PORT in cmd,
        has_words=bool(words),
    )


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and not is_null(node) else ""


def _items(node: Node | None) -> list[Node]:
    return node.items if isinstance(node, Sequence) else []


def _expand(text: str, macros: Macros) -> str:
    try:
        return render(macros.expand(text)) if "${" in text else text
    except MacroProblem:
        return text  # told when the key is read


def _words(cmd: str) -> list[str]:
    try:
        return command.split(cmd) if len(cmd) <= MAX_COMMAND else [cmd]
    except CommandProblem:
        return []
