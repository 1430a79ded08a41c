"""The files of a configuration: one, those of a directory, or both; several become one tree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import NamedTuple

from llmsnap.errors import ConfigError, Problem

from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, describe, is_null
from .scalars import resolve

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILES = 256
SUFFIXES = (".yml", ".yaml")

Contents = tuple[tuple[str, bytes], ...]
"""The path and the bytes of each file, in the order in which they are merged."""


class Sources(NamedTuple):
    """Where a configuration comes from: *file*, and the files of *folder*; either may be empty."""

    file: str
    folder: str = ""

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Sources) -> Sources:
        """Return *source* itself, or the path of one file as the only source."""
        return source if isinstance(source, cls) else cls(os.fspath(source))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return " and ".join(filter(None, self))

    def paths(self) -> list[str]:
        """Return the path of every file: *file*, then those of the folder by name."""
        return [*([self.file] if self.file else []), *self.below()]

    def below(self) -> list[str]:
        """Return the files of the folder; none while it cannot be read.

        Hidden files and those of subfolders do not count: editors and Kubernetes keep others there.
        """
        if not self.folder:
            return []
        try:
            found = sorted(FilePath(self.folder).iterdir())
        except OSError:
            return []
        wanted = (each for each in found if each.suffix in SUFFIXES and each.name[0] != ".")
        return [str(each) for each in wanted if not each.is_dir()]


def read_contents(sources: Sources) -> Contents:
    """Return the content of every file. Raises: ConfigError."""
    paths = sources.paths()
    problem = None
    if not paths:
        what = f"there is no *.yml or *.yaml file in {sources.folder}"
        problem = Problem("", what, "write one, or name a file with --config")
    elif len(paths) > MAX_FILES:
        what = f"{sources.folder} has more than {MAX_FILES} files"
        problem = Problem("", what, "merge some of them")
    elif sources.file and _is_among(sources.file, sources.below()):
        what = f"{sources.file} is in the directory {sources.folder} too"
        problem = Problem("", what, "name only the directory, or move the file elsewhere")
    if problem is not None:
        raise ConfigError([problem], str(sources))
    return tuple((path, read_bytes(path)) for path in paths)


def _is_among(file: str, others: Iterable[str]) -> bool:
    wanted = FilePath(file).resolve()
    return any(FilePath(other).resolve() == wanted for other in others)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of the file at *path*. Raises: ConfigError."""
    try:
        with FilePath(path).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise unreadable(os.fspath(path), error) from error


def unreadable(source: str, error: OSError | ValueError) -> ConfigError:
    """Return the error that says why the file *source* cannot be read."""
    if isinstance(error, FileNotFoundError):
        problem = Problem("", f"there is no file {source}", "write it, or name another one")
    else:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem("", f"cannot read {source}: {reason}", "name a readable YAML file")
    return ConfigError([problem], source)


# --- several trees become one --------------------------------------------------------------------

_UNIQUE = {
    *((name,) for name in ("models", "groups", "profiles", "selectors", "peers", "launchers")),
    ("matrix",),
    ("routing", "router", "settings", "groups"),
    ("routing", "router", "settings", "matrix"),
}
"""Mappings whose entries are in one file only, lest one file change what another describes."""


def mark(tree: Node | None, file: str) -> None:
    """Note in each node of *tree* which file it is from."""
    ahead = [tree] if tree is not None else []
    while ahead:
        node = ahead.pop()
        if node.file:
            continue  # an alias: it was marked where it is defined
        node.file = file
        ahead += _below(node)


def _below(node: Node) -> Iterator[Node]:
    if isinstance(node, Mapping):
        yield from node.keys.values()
        yield from node.entries.values()
    elif isinstance(node, Sequence):
        yield from node.items


def merge(trees: Iterable[Mapping], report: Report) -> Mapping:
    """Return one tree of all *trees*, and report values that contradict each other.

    Mappings are merged and lists appended; a scalar may be given twice if it is the same, and an
    empty value gives way to any other.
    """
    merged = Mapping(1, 1)
    for tree in trees:
        _merge_into(merged, tree, (), report)
    return merged


def _merge_into(merged: Mapping, more: Mapping, path: Path, report: Report) -> None:
    for name, node in more.entries.items():
        here, key, before = (*path, name), more.keys[name], merged.entries.get(name)
        if before is None or is_null(before):
            merged.keys[name], merged.entries[name] = key, _own(node)
        elif is_null(node):
            continue
        elif path in _UNIQUE:
            first = f"{before.file}, line {merged.keys[name].line}"
            report.error(here, f"is in {first} already", "remove or rename one of them", key)
        else:
            merged.entries[name] = _joined(before, node, here, report)


def _own(node: Node) -> Node:
    """Return *node*, mappings and lists as new ones: the file's own may be used in other places."""
    if isinstance(node, Mapping):
        made = Mapping(node.line, node.column)
        made.entries, made.keys, made.weight = dict(node.entries), dict(node.keys), node.weight
    elif isinstance(node, Sequence):
        return _at(Sequence(list(node.items), node.line, node.column, node.weight), node)
    else:
        return node
    return _at(made, node)


def _at(made: Node, like: Node) -> Node:
    made.file = like.file
    return made


def _joined(before: Node, node: Node, path: Path, report: Report) -> Node:
    match before, node:
        case Mapping(), Mapping():
            before = _own(before)
            assert isinstance(before, Mapping)  # noqa: S101 - as it was
            _merge_into(before, node, path, report)
        case Sequence(), Sequence():
            before = _own(before)
            assert isinstance(before, Sequence)  # noqa: S101 - as it was
            before.items += node.items
        case Scalar(), Scalar():
            if _value(before) != _value(node):
                first = f"{describe(before)} in {before.file}, line {before.line}"
                what = f"is {describe(node)} here, and {first}"
                if path[0] == "macros":  # which may hold secrets
                    what = f"has another value in {before.file}, line {before.line}"
                report.error(path, what, "keep one of the two", node)
        case _:
            first = f"{describe(before)} in {before.file}, line {before.line}"
            report.error(
                path, f"is {describe(node)} here, and {first}", "keep one of the two", node
            )
    return before


def _value(node: Scalar) -> tuple[type, object]:
    value = resolve(node.text) if node.plain else node.text
    return type(value), value
