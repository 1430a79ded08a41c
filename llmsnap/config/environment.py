"""``${env.NAME}``: values of the environment, put into scalars after the file is parsed.

As they come after parsing, a value can never change the structure of the file; unquoted, it may
still become a number or a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .command import strip_comments
from .nodes import Path, Scalar
from .report import Report

_REFERENCE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
_COMMANDS = ("cmd", "cmdStop")


class Environment:
    """Fills the references of one file from *environ*; what is missing goes to *report*."""

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report

    def fill(self, node: Scalar, path: Path, *, double_quoted: bool = False) -> None:
        """Replace each reference in *node*, which stands at *path*."""
        if _is_command(path):
            node.text = strip_comments(node.text)

        def value(reference: re.Match[str]) -> str:
            text = self._value(reference[1], node, path)
            if double_quoted or not _becomes_words(path):
                return text
            # Commands are split into words after this, which takes the escapes away again.
            return text.replace("\\", "\\\\").replace('"', '\\"')

        node.text = _REFERENCE.sub(value, node.text)
        if node.plain:
            node.text = node.text.strip(" \t")
        node.weight = 1 + len(node.text) // 256

    def _value(self, name: str, node: Scalar, path: Path) -> str:
        value = self._environ.get(name)
        if value is None:
            what = f"environment variable {name} is not set"
            fix = f"set it, or remove ${{env.{name}}}"
        elif any(character in value for character in "\n\r\0"):
            what = f"the value of environment variable {name} contains newlines or NUL"
            fix = "give it a value of one line"
        else:
            return value
        node.broken = True
        self._report.error(path, what, fix, node)
        return ""


def _is_command(path: Path) -> bool:
    return len(path) in (2, 3) and path[-1] in _COMMANDS  # a shared anchor stands anywhere


def _becomes_words(path: Path) -> bool:
    """Tell whether the text at *path* is a command or a macro, of which commands are made."""
    return _is_command(path) or path[-2:-1] == ("macros",)
