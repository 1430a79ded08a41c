"""Macros, environment variables and files: ``${NAME}``, ``${env.NAME}``, ``${file.PATH}``.

References between macros form a graph, so the order of definitions does not matter. A value that is
exactly one reference keeps the macro's type; within other text the value is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Values
from typing import TypeAlias

from llmsnap.errors import MacroProblem

from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, is_null
from .scalars import Timestamp, as_written, render, strip_comments

MacroValue: TypeAlias = bool | int | float | str

REFERENCE = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
RESERVED = ("PORT", "MODEL_ID")
MAX_NAME_BYTES = 63
MAX_EXPANDED = 32 * 1024 * 1024  # expanded characters per file

_PER_REFERENCE = 32  # cost of following a reference, in characters
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Budget:
    """The remaining expansion budget of a file, which stops macros that double repeatedly."""

    def __init__(self, characters: int = MAX_EXPANDED) -> None:
        self._left = characters

    def spend(self, characters: int) -> None:
        """Subtract *characters*. Raises: MacroProblem if the budget is exhausted."""
        self._left -= characters
        if self._left < 0:
            raise MacroProblem("the macros of this file expand to more than 32 MB of text")


class Macros:
    """The macros available to a value."""

    def __init__(self, values: Values[str, MacroValue], budget: Budget | None = None) -> None:
        self._values = values
        self._budget = budget or Budget()

    def having(self, values: Values[str, MacroValue]) -> Macros:
        """Return these macros, overridden by *values*."""
        return Macros({**self._values, **values}, self._budget)

    def names(self) -> Iterable[str]:
        """Return every name that is defined."""
        return self._values.keys()

    def expand(self, text: str) -> MacroValue:
        """Return *text* with every known reference replaced; unknown ones stay.

        Raises: MacroProblem when macros refer to each other in a circle, or grow too large.
        """
        expanded = text
        for _ in range(len(self._values) + text.count("${") + 1):
            whole = REFERENCE.fullmatch(expanded)
            value = self._values.get(whole[1]) if whole else self._replace(expanded)
            if value is None or value == expanded:
                return expanded
            if not isinstance(value, str):
                return value
            expanded = value
        raise MacroProblem(f"macros refer to each other in a circle: {self._circle(text)}")

    def _replace(self, text: str) -> str:
        return REFERENCE.sub(self._rendered, text)

    def _rendered(self, reference: re.Match[str]) -> str:
        value = self._values.get(reference[1])
        if value is None:
            return reference[0]
        text = render(value)
        self._budget.spend(len(text) + _PER_REFERENCE)
        return text

    def _circle(self, text: str) -> str:
        """Return the first circle reached from *text*, as ``a -> b -> a``."""
        graph = self._reachable(text)
        while ends := [name for name, below in graph.items() if not graph.keys() & below]:
            for name in ends:
                del graph[name]
        if not graph:
            return ", ".join(references(text))  # the circle arises from parts of several macros
        way = [next(iter(graph))]
        while True:
            name = next(name for name in graph[way[-1]] if name in graph)
            if name in way:
                return " -> ".join([*way[way.index(name) :], name])
            way.append(name)

    def _reachable(self, text: str) -> dict[str, list[str]]:
        """Return the references of each macro that is reachable from *text*."""
        graph: dict[str, list[str]] = {}
        ahead = references(text)
        while ahead:
            name = ahead.pop(0)
            if name not in graph:
                graph[name] = references(str(self._values.get(name, "")))
                ahead += graph[name]
        return graph


def references(text: str) -> list[str]:
    """Return the names *text* refers to, each once."""
    return list(dict.fromkeys(REFERENCE.findall(text)))


def define(node: Node | None, path: Path, report: Report) -> dict[str, MacroValue]:
    """Return the macros defined by the ``macros`` key at *path*; add errors to *report*."""
    if node is None or is_null(node) or (isinstance(node, Sequence) and not node.items):
        return {}
    if not isinstance(node, Mapping):
        report.error(path, "macros must be a mapping", "write a line NAME: value for each", node)
        return {}
    found: dict[str, MacroValue] = {}
    for name, value_node in node.entries.items():
        value = _value(value_node)
        fault = _name_fault(name) or _value_fault(name, value)
        if fault:
            report.error((*path, name), fault, _FIXES.get(fault, ""), node.keys[name])
        elif value is not None:
            found[name] = value
    return found


def _value(node: Node) -> MacroValue | None:
    """Return the value; None if *node* is not a suitable scalar."""
    if not isinstance(node, Scalar):
        return None
    value = as_written(node.text) if node.plain else node.text
    return None if isinstance(value, Timestamp) else value


_RESERVED = "is reserved: llmsnap gives it its value"
_CHARACTERS = "the name contains invalid characters; it must match [A-Za-z0-9_-]+"
_TOO_LONG = f"the name exceeds maximum of {MAX_NAME_BYTES} bytes"
_NOT_SCALAR = "the value must be a scalar type: a text, a number or a boolean"
_SELF = "the value is a self-reference"
_FIXES = {
    _RESERVED: "choose another name",
    _CHARACTERS: "use letters, digits, - and _",
    _TOO_LONG: "choose a shorter name",
    _NOT_SCALAR: "quote it to make it a text",
    _SELF: "refer to another macro",
}


def _name_fault(name: str) -> str:
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return _TOO_LONG
    if not _NAME.fullmatch(name):
        return _CHARACTERS
    return _RESERVED if name in RESERVED else ""


def _value_fault(name: str, value: MacroValue | None) -> str:
    if value is None:
        return _NOT_SCALAR
    return _SELF if isinstance(value, str) and f"${{{name}}}" in value else ""


# --- environment variables and files --------------------------------------------------------------

ReadFile = Callable[[str], str]
"""Returns the text of a file by its path, relative to the configuration's folder.

Raises: OSError, ValueError with the reason.
"""

_VARIABLE = r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}"
_IN_PATH = re.compile(_VARIABLE)
_REFERENCE = re.compile(_VARIABLE + r"|\$\{file\.((?:\$\{env\.[A-Za-z_][A-Za-z0-9_]*\}|[^{}])+)\}")
_COMMANDS = ("cmd", "cmdStop")


class Environment:
    """Resolves the references of one file; adds missing ones to *report*."""

    def __init__(self, environ: Values[str, str], read_file: ReadFile, report: Report) -> None:
        self._environ = environ
        self._read_file = read_file
        self._report = report

    def fill(self, node: Scalar, path: Path, *, double_quoted: bool = False) -> None:
        """Replace each reference in *node*, located at *path*."""
        if _is_command(path):
            node.text = strip_comments(node.text)

        def value(reference: re.Match[str]) -> str:
            variable, file = reference.groups()
            text = self._value(variable, node, path) if variable else self._text(file, node, path)
            if double_quoted or not _becomes_words(path):
                return text
            # Commands are split into words later, which removes the escapes again.
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
    """Return the variables whose values become part of *text*, given as written in the file.

    Variables within the path of a file are not included.
    """
    return [found[1] for found in _REFERENCE.finditer(text) if found[1]]


def has_broken_reference(text: str) -> bool:
    """Return whether *text*, as written in the file, has an unresolved reference."""
    rest = _REFERENCE.sub("", text)
    return "${env." in rest or "${file." in rest


def _has_lines(text: str) -> bool:
    return any(character in text for character in "\n\r\0")


def _is_command(path: Path) -> bool:
    return len(path) in (2, 3) and path[-1] in _COMMANDS  # a shared anchor may be used anywhere


def _becomes_words(path: Path) -> bool:
    """Return whether the text at *path* is a command, or a macro that commands may use."""
    return _is_command(path) or path[-2:-1] == ("macros",)
