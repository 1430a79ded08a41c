"""``${env.NAME}`` and ``${file.PATH}``: values from outside, put into scalars after parsing.

As they come after parsing, a value can never change the structure of the file; unquoted, it may
still become a number or a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .command import strip_comments
from .nodes import Path, Scalar
from .report import Report

ReadFile = Callable[[str], str]
"""Returns the text of a file by its path, relative to the configuration's folder.

Raises: OSError, ValueError with the reason.
"""

_VARIABLE = r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}"
_IN_PATH = re.compile(_VARIABLE)
_REFERENCE = re.compile(_VARIABLE + r"|\$\{file\.((?:\$\{env\.[A-Za-z_][A-Za-z0-9_]*\}|[^{}])+)\}")
_COMMANDS = ("cmd", "cmdStop")


class Environment:
    """Fills the references of one file; what is missing goes to *report*."""

    def __init__(self, environ: Mapping[str, str], read_file: ReadFile, report: Report) -> None:
        self._environ = environ
        self._read_file = read_file
        self._report = report

    def fill(self, node: Scalar, path: Path, *, double_quoted: bool = False) -> None:
        """Replace each reference in *node*, which stands at *path*."""
        if _is_command(path):
            node.text = strip_comments(node.text)

        def value(reference: re.Match[str]) -> str:
            variable, file = reference.groups()
            text = self._value(variable, node, path) if variable else self._text(file, node, path)
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
        elif _has_lines(value):
            what = f"the value of environment variable {name} contains newlines or NUL"
            fix = "give it a value of one line"
        else:
            return value
        return self._refuse(node, path, what, fix)

    def _text(self, file: str, node: Scalar, path: Path) -> str:
        name = _IN_PATH.sub(lambda found: self._value(found[1], node, path), file)
        if node.broken:
            return ""
        try:
            text = self._read_file(name).removesuffix("\n").removesuffix("\r")
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        except ValueError as error:
            reason = str(error)
        else:
            if text and not _has_lines(text):
                return text
            reason = "contains newlines or NUL" if text else "is empty"
        what = f"the file of ${{file.{file}}} {reason}"
        return self._refuse(node, path, what, "name a readable file that holds one line")

    def _refuse(self, node: Scalar, path: Path, what: str, fix: str) -> str:
        node.broken = True
        self._report.error(path, what, fix, node)
        return ""


def variables(text: str) -> list[str]:
    """Return the variables whose values become part of *text*, as it is written in the file.

    Those that are part of the path of a file are not among them.
    """
    return [found[1] for found in _REFERENCE.finditer(text) if found[1]]


def has_broken_reference(text: str) -> bool:
    """Tell whether *text*, as it is written in the file, has a reference that is not filled in."""
    rest = _REFERENCE.sub("", text)
    return "${env." in rest or "${file." in rest


def _has_lines(text: str) -> bool:
    return any(character in text for character in "\n\r\0")


def _is_command(path: Path) -> bool:
    return len(path) in (2, 3) and path[-1] in _COMMANDS  # a shared anchor stands anywhere


def _becomes_words(path: Path) -> bool:
    """Tell whether the text at *path* is a command or a macro, of which commands are made."""
    return _is_command(path) or path[-2:-1] == ("macros",)
