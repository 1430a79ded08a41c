"""Scalars and data of one part of the file, with the macros that apply there."""

from __future__ import annotations

import math
from typing import Any

from llmsnap.errors import MacroProblem

from .macros import Macros, references
from .nodes import Mapping, Node, Path, Scalar, Sequence, describe, is_null
from .report import Report
from .scalars import Timestamp, Value, as_written, render, resolve

_PLACE_HOLDERS = {
    "PORT": (
        "${PORT} should have been substituted, but it is only available when used in cmd",
        "use ${PORT} in cmd, or write the port the command listens on",
    ),
    "MODEL_ID": ("${MODEL_ID} should have been substituted, but this is no model", "remove it"),
    "PID": ("${PID} is known in cmdStop only", "remove it"),
}


class Reader:
    """Reads the scalars of one part of the file, with the macros that apply there."""

    def __init__(self, report: Report, macros: Macros | None = None) -> None:
        self.report = report
        self.macros = macros

    def mismatch(self, node: Node, path: Path, wanted: str, fix: str = "") -> None:
        """Report that *node* is not what *path* needs."""
        hidden = path[0] == "apiKeys" or path[-1] in ("env", "apiKey")
        found = "" if hidden else f" (found {describe(node)})"
        self.report.error(path, f"must be {wanted}{found}", fix, node)

    def scalar(self, node: Node, path: Path, wanted: str, *, strict: bool = True) -> Value:
        """Return what *node* stands for; None when it is nothing or was reported."""
        if not isinstance(node, Scalar):
            self.mismatch(node, path, wanted)
            return None
        if node.broken:
            self.report.silence(path)
            return None
        if "${" in node.text and self.macros is not None:
            return self.expanded(node.text, node, path, strict=strict)
        return resolve(node.text) if node.plain else node.text

    def text(self, node: Node, path: Path, wanted: str, *, strict: bool = False) -> str | None:
        """Return *node* as text in its own spelling; None when it is nothing or was reported."""
        if isinstance(node, Scalar) and not node.broken and "${" not in node.text:
            return None if is_null(node) else node.text
        value = self.scalar(node, path, wanted, strict=strict)
        return None if value is None else render(value)

    def expanded(
        self, text: str, node: Node, path: Path, *, strict: bool, known_later: str = ""
    ) -> Value:
        """Return *text* with its macros; a reference left over is an error if *strict*."""
        if self.macros is None or "${" not in text:
            return text
        try:
            value = self.macros.expand(text)
        except MacroProblem as problem:
            self.report.error(path, str(problem), "break the circle, or shorten them", node)
            return None
        left = references(value) if isinstance(value, str) else []
        left = [name for name in left if name != known_later]
        for name in left:
            self._report_leftover(name, node, path, strict=strict)
        return None if left and strict else value

    def _report_leftover(self, name: str, node: Node, path: Path, *, strict: bool) -> None:
        what, fix = _PLACE_HOLDERS.get(name, (f"unknown macro ${{{name}}}", ""))
        if not fix:
            known = self.macros.names() if self.macros else ()
            fix = self.report.nearest(name, known) or f"define {name} under macros"
        if strict:
            self.report.error(path, what, fix, node)
        else:
            self.report.advise(path, f"{what}; it is left as it is", fix, node)

    def json(self, node: Node, path: Path, *, strict: bool) -> Any:
        """Return *node* as JSON data: keys are texts, macros keep their type."""
        if isinstance(node, Mapping):
            return {
                key: self.json(value, (*path, key), strict=strict)
                for key, value in node.entries.items()
            }
        if isinstance(node, Sequence):
            return [
                self.json(item, (*path, index), strict=strict)
                for index, item in enumerate(node.items)
            ]
        value = self.scalar(node, path, "JSON data", strict=strict)
        if isinstance(value, Timestamp):
            return str(value)
        if isinstance(value, float) and isinstance(node, Scalar) and "${" not in node.text:
            value = as_written(node.text)
        if isinstance(value, float) and not math.isfinite(value):
            self.report.advise(path, "is not a number in JSON; it becomes a text", "quote it", node)
            return render(value)
        return value
