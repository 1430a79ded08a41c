"""Request filters in their final form: cleaned and sorted, ``model`` excluded.

A parameter whose name ends in ``?`` is soft: it is set only where a request lacks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .kinds import ValueReader
from .nodes import Mapping, Node, Path, find_node, is_null
from .parts import Filters, JsonValue

_PROTECTED = "model"
_FIRST_ELEMENT = re.compile(r"(?:[^.\\]|\\.)*+", re.DOTALL)
_WILD = re.compile(r"(?:[^\\*?#|@]|\\.)*+[*?#|@]", re.DOTALL)
_LIST = "stripParams"


def build(
    values: Values[str, Any],
    node: Node | None,
    path: Path,
    reader: ValueReader,
    *,
    literal_names: bool = False,
) -> Filters:
    """Return the filters read as *values* from the ``filters`` key at *path*.

    *literal_names*: macros are not expanded in the names of ``setParamsByID``.
    """
    if node is None:
        return Filters()
    text = values["stripParams"] or values.get("strip_params", "")
    names = [name for part in text.split(",") if (name := part.strip())]
    return Filters(
        strip_params=tuple(sorted(set(_usable(names, (*path, _LIST), node, reader)))),
        set_params=_parameters(values["setParams"], (*path, "setParams"), node, reader),
        set_params_by_id=_by_id(
            values.get("setParamsByID"),
            (*path, "setParamsByID"),
            reader,
            ValueReader(reader.report) if literal_names else reader,
        ),
    )


def _by_id(
    node: Node | None, path: Path, reader: ValueReader, names: ValueReader
) -> Values[str, Values[str, JsonValue]]:
    found: dict[str, Values[str, JsonValue]] = {}
    if node is None:
        return MappingProxyType(found)
    if not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line NAME: for each requested name")
        return MappingProxyType(found)
    for key, below in node.entries.items():
        here = (*path, key)
        name = names.text(node.keys[key], here, "a name") or ""
        if name in found:
            what = f'"{name}" stands here twice once macros are expanded'
            reader.report.error(here, what, "keep one", node.keys[key])
        elif is_null(below):
            found[name] = MappingProxyType({})
        elif not isinstance(below, Mapping):
            reader.mismatch(below, here, "a mapping of parameters")
        elif name:
            data = reader.json(below, here, strict=False)
            found[name] = _parameters(data, here, below, reader)
    return MappingProxyType(found)


def _parameters(
    data: Values[str, JsonValue], path: Path, node: Node, reader: ValueReader
) -> Values[str, JsonValue]:
    names = sorted(_usable(data, path, node, reader, may_be_soft=True))
    return MappingProxyType({name: data[name] for name in names})


def is_soft(name: str) -> bool:
    """Return whether a parameter's *name* ends in a ``?`` without a backslash before it."""
    plain = name.removesuffix("?")
    return plain != name and (len(plain) - len(plain.rstrip("\\"))) % 2 == 0


def _usable(
    names: Iterable[str], path: Path, node: Node, reader: ValueReader, *, may_be_soft: bool = False
) -> list[str]:
    """Return the valid filter names among *names*; report advice about the others."""
    kept: list[str] = []
    given = frozenset(names)
    for name in names:
        plain = name[:-1] if may_be_soft and is_soft(name) else name
        if plain == _PROTECTED:
            continue  # reserved; no advice, because many files strip it to be safe
        what, fix = _fault(plain)
        if plain != name and plain in given:
            what, fix = f"is set without the ? as well, by {plain}", "keep one of the two"
        if not what:
            kept.append(name)
        else:
            at = find_node(node, path[-1:] if isinstance(node, Mapping) else ())
            reader.report.advise(path, f'"{name}" {what}, so it is left out', fix, at or node)
    return kept


def _fault(name: str) -> tuple[str, str]:
    first = _FIRST_ELEMENT.match(name)
    if first and first[0].replace("\\", "") == _PROTECTED:
        return "would change the model's name", "remove it"
    if not name:
        return "names no parameter", "write the name before the ?"
    if _WILD.match(name):
        return "contains one of * ? # | @", "write a backslash before that character"
    return "", ""
