"""The tree of a YAML document with source positions, and the report of its problems."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import TypeAlias

from llmsnap import suggestions
from llmsnap.errors import Problem


class Node:
    """A node and its position in the file; *line* and *column* count from 1.

    *weight* is its size with every alias expanded, which is the cost of a traversal. *file* is the
    path of its file where the configuration has several.
    """

    __slots__ = ("column", "file", "line", "weight")

    def __init__(self, line: int, column: int, weight: int = 1) -> None:
        self.file = ""
        self.line = line
        self.column = column
        self.weight = weight


class Scalar(Node):
    """A scalar. *plain*: unquoted, so that it may be a number, a boolean or null."""

    __slots__ = ("broken", "plain", "text", "written")

    def __init__(self, text: str, line: int, column: int, *, plain: bool) -> None:
        self.file = ""
        self.line = line
        self.column = column
        self.weight = 1 + len(text) // 256
        self.text = text
        self.plain = plain
        self.written = text
        """The text in the file, without values from the environment: safe to show."""
        self.broken = False
        """Already reported: reading it returns the default without another report."""

    def __repr__(self) -> str:
        return f"<Scalar {self.written!r} {self.line}:{self.column}>"


class Sequence(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, items: list[Node], line: int, column: int, weight: int = 1) -> None:
        super().__init__(line, column, weight)
        self.items = items

    def __repr__(self) -> str:
        return f"<Sequence of {len(self.items)} {self.line}:{self.column}>"


class Mapping(Node):
    """Keys and values in file order, merge keys applied, each key once."""

    __slots__ = ("entries", "keys")

    def __init__(self, line: int, column: int) -> None:
        super().__init__(line, column)
        self.entries: dict[str, Node] = {}
        self.keys: dict[str, Scalar] = {}

    def __repr__(self) -> str:
        return f"<Mapping {list(self.entries)} {self.line}:{self.column}>"


Path: TypeAlias = tuple[str | int, ...]


def dotted(path: Items[str | int]) -> str:
    """Return *path* in display form: ``models.llama.aliases[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_macro(path: Path) -> bool:
    """Return whether *path* is the definition of a macro, global or of a model."""
    return (len(path) == 2 and path[0] == "macros") or (
        len(path) == 4 and path[0] == "models" and path[2] == "macros"
    )


def find_node(root: Node | None, path: Items[str | int]) -> Node | None:
    """Return the node at *path*, or its deepest existing ancestor."""
    node = root
    for part in path:
        below: Node | None = None
        if isinstance(node, Mapping) and isinstance(part, str):
            below = node.entries.get(part)
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            below = node.items[part]
        if below is None:
            return node
        node = below
    return node


def has_node(root: Node | None, path: Items[str | int]) -> bool:
    """Return whether there is a value at *path*, and not null."""
    node = root
    for part in path:
        node = node.entries.get(str(part)) if isinstance(node, Mapping) else None
    return not is_null(node)


def is_null(node: Node | None) -> bool:
    """Return whether *node* is absent or null (``~``, ``null``, empty)."""
    if node is None:
        return True
    return (
        isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null", "Null", "NULL")
    )


def describe(node: Node) -> str:
    """Return a description of *node* for ``(found ...)``; long texts are truncated."""
    if isinstance(node, Scalar):
        if is_null(node):
            return "nothing"
        shown = node.written if len(node.written) <= 60 else node.written[:57] + "..."
        return shown if node.plain else f'"{shown}"'
    return "a list" if isinstance(node, Sequence) else "a mapping"


# --- the report -----------------------------------------------------------------------------------

MOST = 500  # an invalid file must not produce a report larger than itself
MOST_SUGGESTIONS = 50  # comparing names is slow
MOST_CHARS = 500  # length of a message about one value, which may quote long names

_SAFE_WORDS = ("apiKeys", "key", "name", "models", "admin", "upstream")


class Report:
    """Collects problems (the file is rejected) and advice (it is accepted)."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.advice: list[Problem] = []
        self._suggestions = 0
        self._reported: set[Path] = set()

    def error(self, path: Path, what: str, fix: str = "", at: Node | None = None) -> None:
        """Add a problem, for which the file is rejected."""
        self.suppress(path)
        self._add(self.problems, path, what, fix, at)

    def suppress(self, path: Path) -> None:
        """Mark *path* as already reported."""
        self._reported.add(path)

    def already_reported(self, path: Path) -> bool:
        """Return whether the value at *path*, or one of its ancestors, was already reported."""
        return any(path[:length] in self._reported for length in range(1, len(path) + 1))

    def advise(self, path: Path, what: str, fix: str = "", at: Node | None = None) -> None:
        """Add advice about a value that is accepted."""
        self._add(self.advice, path, what, fix, at)

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """Return ``did you mean "x"?`` for the closest of *known*, or an empty text."""
        if self._suggestions >= MOST_SUGGESTIONS:
            return ""
        self._suggestions += 1
        close = suggestions.nearest(name, known)
        return f'did you mean "{close[0]}"?' if close else ""

    @staticmethod
    def _add(found: list[Problem], path: Path, what: str, fix: str, at: Node | None) -> None:
        if len(found) < MOST:
            line, column = (at.line, at.column) if at else (0, 0)
            where = dotted(_shortened(_without_secrets(path)))
            what, fix = suggestions.shown(what, MOST_CHARS), suggestions.shown(fix, MOST_CHARS)
            found.append(Problem(where, what, fix, line, column, at.file if at else ""))


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return *problems* in file order, without duplicates."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda problem: (problem.file, problem.line, problem.column)))


def _shortened(path: Path) -> Path:
    return tuple(
        suggestions.shown(part, MOST_CHARS) if isinstance(part, str) else part for part in path
    )


def _without_secrets(path: Path) -> Path:
    """Remove API keys from *path*, where they appear if a mapping was written by mistake."""
    if path[:1] != ("apiKeys",):
        return path
    return tuple(
        part if part in _SAFE_WORDS or isinstance(part, int) else "(hidden)" for part in path
    )
