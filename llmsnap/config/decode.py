"""Typed decoding: each kind of value reads a node, reports what does not fit, and has a default.

``keys`` puts these kinds together to the declaration of the whole file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Values
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .command import strip_comments
from .nodes import Mapping, Node, Path, Scalar, Sequence, describe, is_null
from .reader import Reader
from .scalars import render, yes_or_no


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key holds."""

    default: Any = None

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the value of *node*, or the default after reporting what is wrong with it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """A text. *strict*: an unknown macro in it is an error, else it stays and is advised about."""

    default: Any = ""
    strict: bool = False

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the text in its own spelling."""
        text = reader.text(node, path, "a text", strict=self.strict)
        return self.default if text is None else text


@dataclass(frozen=True, slots=True)
class Command(Kind):
    """A command line: comment lines go before macros come."""

    default: Any = ""
    known_later: str = ""

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the command without comments."""
        if not isinstance(node, Scalar) or "${" not in node.text:
            text = reader.text(node, path, "a text")
            return self.default if text is None else strip_comments(text)
        if node.broken:
            reader.report.silence(path)
            return self.default
        text = strip_comments(node.text)
        value = reader.expanded(text, node, path, strict=True, known_later=self.known_later)
        return self.default if value is None else render(value)


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words. *loose*: case and blanks do not matter, others mean the default."""

    default: Any = ""
    words: tuple[str, ...] = ()
    loose: bool = False

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the word."""
        wanted = f"one of {', '.join(word or repr(word) for word in self.words)}"
        text = reader.text(node, path, wanted, strict=not self.loose)
        if text is None:
            return self.default
        word = text.strip().lower() if self.loose else text
        if word in self.words:
            return word
        if not self.loose:
            reader.mismatch(node, path, wanted)
        else:
            fix = reader.report.nearest(word, self.words) or f"write {wanted}"
            what = f'is not known (found {describe(node)}); "{self.default}" is used'
            reader.report.advise(path, what, fix, node)
        return self.default


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number. *least* and *most* are limits; *whole* cuts fractions off."""

    least: float = -math.inf
    most: float = 2**53
    whole: bool = False

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the number as int when *whole*, else as float."""
        wanted = "a whole number" if self.whole else "a number"
        value = reader.scalar(node, path, wanted)
        if value is None:
            return self.default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            quoted = isinstance(node, Scalar) and not node.plain and "${" not in node.text
            reader.mismatch(node, path, wanted, "write it without quotes" if quoted else "")
        elif not (max(self.least, -(2**53)) <= value <= self.most):
            reader.mismatch(node, path, self._limits())
        else:
            return int(value) if self.whole else float(value)
        return self.default

    def _limits(self) -> str:
        if self.most == 2**53:
            return f"at least {render(self.least)}"
        return f"at least {render(self.least)} and at most {render(self.most)}"


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """True or false."""

    default: Any = False

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the boolean; ``yes`` and ``off`` count where one is expected."""
        value = reader.scalar(node, path, "true or false")
        if isinstance(value, str):
            value = yes_or_no(value)
            if value is None:
                reader.mismatch(node, path, "true or false")
        elif value is not None and not isinstance(value, bool):
            reader.mismatch(node, path, "true or false")
            value = None
        return self.default if value is None else value


@dataclass(frozen=True, slots=True)
class Texts(Kind):
    """A list of texts; entries that are nothing are dropped."""

    default: Any = ()

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the texts as a tuple."""
        if is_null(node):
            return self.default
        if not isinstance(node, Sequence):
            reader.mismatch(node, path, "a list", "begin each entry with - in a line of its own")
            return self.default
        texts = (
            reader.text(item, (*path, index), "a text") for index, item in enumerate(node.items)
        )
        return tuple(text for text in texts if text is not None)


@dataclass(frozen=True, slots=True)
class Json(Kind):
    """A mapping of arbitrary JSON data."""

    default: Any = field(default_factory=lambda: MappingProxyType({}))
    strict: bool = True

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the data as a dict."""
        if is_null(node):
            return self.default
        if not isinstance(node, Mapping):
            reader.mismatch(node, path, "a mapping")
            return self.default
        return reader.json(node, path, strict=self.strict)


@dataclass(frozen=True, slots=True)
class ByHand(Kind):
    """Something with rules of its own: the node itself, or None."""

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return *node* unless it is nothing."""
        return None if is_null(node) else node


@dataclass(frozen=True, slots=True)
class Without(Kind):
    """A key of a related program. *refused* when ignoring it would change what the file does."""

    why: str = ""
    refused: bool = False

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Report it."""
        if is_null(node):
            return None
        if self.refused:
            reader.report.error(path, "not supported yet", self.why, node)
        else:
            reader.report.advise(path, "has no effect", self.why, node)
        return None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section. *restarts*: changing it replaces a running model's process."""

    name: str
    kind: Kind
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class Section(Kind):
    """A mapping with known keys."""

    keys: Values[str, Key] = field(default_factory=dict)

    @classmethod
    def of(cls, *keys: Key) -> Section:
        """Return the section that has *keys*, all at their defaults when it is absent."""
        defaults = MappingProxyType({key.name: key.kind.default for key in keys})
        return cls(defaults, MappingProxyType({key.name: key for key in keys}))

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the value of every key; unknown ones are advised about."""
        if is_null(node):
            return self.default
        if not isinstance(node, Mapping):
            reader.mismatch(node, path, "a mapping")
            return self.default
        values = dict(self.default)
        for name, child in node.entries.items():
            key = self.keys.get(name)
            if key is not None:
                values[name] = key.kind.read(child, (*path, name), reader)
            elif not name.startswith(("x-", ".")):
                fix = reader.report.nearest(name, self.keys) or "remove it"
                reader.report.advise((*path, name), "unknown key", fix, node.keys[name])
        return values


@dataclass(frozen=True, slots=True)
class Sections(Kind):
    """A list of sections."""

    default: Any = ()
    section: Section = field(default_factory=Section)

    def read(self, node: Node, path: Path, reader: Reader) -> Any:
        """Return the value of each entry, with its node."""
        if is_null(node):
            return self.default
        if not isinstance(node, Sequence):
            reader.mismatch(node, path, "a list", "begin each entry with - in a line of its own")
            return self.default
        return tuple(
            (self.section.read(item, (*path, index), reader), item)
            for index, item in enumerate(node.items)
        )
