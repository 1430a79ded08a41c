"""The tree a YAML document is read into: positions kept, nothing converted yet."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import TypeAlias


class Node:
    """A place in the file; *line* and *column* count from 1.

    *weight* is its size with every alias written out, which is what walking it costs.
    """

    __slots__ = ("column", "line", "weight")

    def __init__(self, line: int, column: int, weight: int = 1) -> None:
        self.line = line
        self.column = column
        self.weight = weight


class Scalar(Node):
    """A text. *plain*: unquoted, so that it may stand for a number, a boolean or nothing."""

    __slots__ = ("broken", "plain", "text", "written")

    def __init__(self, text: str, line: int, column: int, *, plain: bool) -> None:
        self.line = line
        self.column = column
        self.weight = 1 + len(text) // 256
        self.text = text
        self.plain = plain
        self.written = text
        """As in the file, before environment values came in: safe to show."""
        self.broken = False
        """Already reported: whoever reads it uses the default and stays silent."""

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
    """Return *path* as people write it: ``models.llama.aliases[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_macro(path: Path) -> bool:
    """Tell whether *path* is that of a macro's definition, global or of a model."""
    return (len(path) == 2 and path[0] == "macros") or (
        len(path) == 4 and path[0] == "models" and path[2] == "macros"
    )


def find(root: Node | None, path: Items[str | int]) -> Node | None:
    """Return the node at *path*, or the deepest one on the way to it."""
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


def is_null(node: Node | None) -> bool:
    """Tell whether *node* is absent or stands for nothing (``~``, ``null``, empty)."""
    if node is None:
        return True
    return (
        isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null", "Null", "NULL")
    )


def describe(node: Node) -> str:
    """Return what *node* is, for ``(found ...)``; long texts are cut."""
    if isinstance(node, Scalar):
        if is_null(node):
            return "nothing"
        shown = node.written if len(node.written) <= 60 else node.written[:57] + "..."
        return shown if node.plain else f'"{shown}"'
    return "a list" if isinstance(node, Sequence) else "a mapping"
