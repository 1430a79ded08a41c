"""Kinds of values: each reads a node, reports invalid values, and has a default.

``keys`` combines these kinds into the declaration of the whole file.
"""

from __future__ import annotations

import math
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from llmsnap.errors import MacroProblem

from .macros import Macros, references
from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, describe, is_null
from .scalars import Timestamp, Value, as_written, render, resolve, strip_comments, yes_or_no

_PLACE_HOLDERS = {
    "PORT": (
        "${PORT} should have been substituted, but it is only available when used in cmd",
        "use ${PORT} in cmd, or write the port the command listens on",
    ),
    "MODEL_ID": ("${MODEL_ID} should have been substituted, but this is no model", "remove it"),
    "DEVICE": ("${DEVICE} is known in cmd only", "remove it"),
    "PID": ("${PID} is known in cmdStop only", "remove it"),
}


class ValueReader:
    """Reads scalars of one part of the file, with the macros that apply there."""

    def __init__(self, report: Report, macros: Macros | None = None) -> None:
        self.report = report
        self.macros = macros

    def mismatch(self, node: Node, path: Path, wanted: str, fix: str = "") -> None:
        """Report that *node* has the wrong type for *path*."""
        hidden = path[0] == "apiKeys" or path[-1] in ("env", "apiKey", "token")
        found = "" if hidden else f" (found {describe(node)})"
        self.report.error(path, f"must be {wanted}{found}", fix, node)

    def scalar(self, node: Node, path: Path, wanted: str, *, strict: bool = True) -> Value:
        """Return the value of *node*; None if it is null or was reported."""
        if not isinstance(node, Scalar):
            self.mismatch(node, path, wanted)
            return None
        if node.broken:
            self.report.suppress(path)
            return None
        if "${" in node.text and self.macros is not None:
            return self.expanded(node.text, node, path, strict=strict)
        return resolve(node.text) if node.plain else node.text

    def text(self, node: Node, path: Path, wanted: str, *, strict: bool = False) -> str | None:
        """Return *node* as text as written; None if it is null or was reported."""
        if isinstance(node, Scalar) and not node.broken and "${" not in node.text:
            return None if is_null(node) else node.text
        value = self.scalar(node, path, wanted, strict=strict)
        return None if value is None else render(value)

    def expanded(
        self, text: str, node: Node, path: Path, *, strict: bool, known_later: tuple[str, ...] = ()
    ) -> Value:
        """Return *text* with macros expanded; an unknown reference is an error if *strict*."""
        if self.macros is None or "${" not in text:
            return text
        try:
            value = self.macros.expand(text)
        except MacroProblem as problem:
            self.report.error(path, str(problem), "break the circle, or shorten them", node)
            return None
        left = references(value) if isinstance(value, str) else []
        left = [name for name in left if name not in known_later]
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
        """Return *node* as JSON data: keys are strings, macros keep their type."""
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


class Kind(ABC):
    """The kind of a key's values. Immutable."""

    # Not dataclasses: creating fifteen of them takes longer than loading most files.
    def __init__(self, default: Any = None) -> None:
        self.default = default

    @abstractmethod
    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the value of *node*; if invalid, report it and return the default."""


class Text(Kind):
    """A text. *strict*: an unknown macro in it is an error, else it stays and causes advice."""

    def __init__(self, default: Any = "", *, strict: bool = False) -> None:
        super().__init__(default)
        self.strict = strict

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the text as written."""
        text = reader.text(node, path, "a text", strict=self.strict)
        return self.default if text is None else text


class CommandLine(Kind):
    """A command line: comment lines are removed before macros are expanded."""

    def __init__(self, default: Any = "", *, known_later: tuple[str, ...] = ()) -> None:
        super().__init__(default)
        self.known_later = known_later

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the command without comments."""
        if not isinstance(node, Scalar) or "${" not in node.text:
            text = reader.text(node, path, "a text")
            return self.default if text is None else strip_comments(text)
        if node.broken:
            reader.report.suppress(path)
            return self.default
        text = strip_comments(node.text)
        value = reader.expanded(text, node, path, strict=True, known_later=self.known_later)
        return self.default if value is None else render(value)


class Choice(Kind):
    """One of a few words. *loose*: ignores case and blanks; other words mean the default."""

    def __init__(
        self, default: Any = "", *, words: tuple[str, ...] = (), loose: bool = False
    ) -> None:
        super().__init__(default)
        self.words = words
        self.loose = loose

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
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


class Number(Kind):
    """A number. *least* and *most* are limits; *whole* truncates fractions.

    Values below *raised_to* are raised to it, with advice; values below *advised* are unusual,
    which only the JSON schema reports.
    """

    def __init__(
        self,
        default: Any = None,
        *,
        least: float = -math.inf,
        most: float = 2**53,
        whole: bool = False,
        raised_to: int | None = None,
        advised: float | None = None,
    ) -> None:
        super().__init__(default)
        self.least = least
        self.most = most
        self.whole = whole
        self.raised_to = raised_to
        self.advised = advised

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the number as int if *whole*, else as float."""
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
            return self._raised(int(value) if self.whole else float(value), node, path, reader)
        return self.default

    def _raised(self, value: float, node: Node, path: Path, reader: ValueReader) -> float:
        least = self.raised_to
        if least is None or value >= least:
            return value
        what = f"is raised to {least}, the least there is (found {value})"
        reader.report.advise(path, what, f"write {least} or more", node)
        return least

    def _limits(self) -> str:
        if self.most == 2**53:
            return f"at least {render(self.least)}"
        return f"at least {render(self.least)} and at most {render(self.most)}"


class Duration(Kind):
    """A duration in Go's format, such as ``15s`` or ``1m30s``, or in days; see ``duration_s``."""

    def __init__(self, default: str, *, least: str) -> None:
        super().__init__(default)
        self.least = least

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the text of the duration, which is at least *least*."""
        wanted = "a duration such as 15s or 1m30s"
        text = reader.text(node, path, wanted, strict=True)
        if text is None:
            return self.default
        seconds, least = duration_s(text), duration_s(self.least)
        if seconds is None:
            reader.mismatch(node, path, wanted)
        elif least is not None and seconds < least:
            reader.mismatch(node, path, f"at least {self.least}")
        else:
            return text
        return self.default


_PIECES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_DURATION_CHARS = 40


def duration_s(text: str) -> float | None:
    """Return a duration in Go's format, or in days (``7d``), as seconds; None for other texts."""
    text = text.strip()
    if not text or len(text) > _DURATION_CHARS or _PIECES.sub("", text):
        return 0.0 if text == "0" else None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PIECES.findall(text))


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB)", re.IGNORECASE)
_BYTES = {
    **{unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib"), start=1)},
    **{unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb", "tb"), start=1)},
}
WANTED_SIZE = "a size such as 18GiB or 512MiB"


MOST_SIZE_BYTES = 1 << 60
"""More is a mistake, and would not fit into the numbers of JSON's readers."""


def size_bytes(text: str) -> int | None:
    """Return a size such as ``18GiB`` in bytes; None for any other text, and for more than EiB."""
    match = _SIZE.fullmatch(text.strip())
    size = 0.0 if match is None else float(match[1]) * _BYTES[match[2].lower()]
    return None if match is None or size > MOST_SIZE_BYTES else int(size)


class Size(Kind):
    """A number of bytes with its unit, such as ``20GiB``; see ``size_bytes``."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the text of the size."""
        text = reader.text(node, path, WANTED_SIZE, strict=True)
        if text is None:
            return self.default
        if size_bytes(text) is not None:
            return text
        reader.mismatch(node, path, WANTED_SIZE, "write the number with its unit")
        return self.default


class Flag(Kind):
    """True or false."""

    def __init__(self, default: Any = False) -> None:
        super().__init__(default)

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the boolean; ``yes``, ``off`` and the like are accepted too."""
        value = reader.scalar(node, path, "true or false")
        if isinstance(value, str):
            value = yes_or_no(value)
            if value is None:
                reader.mismatch(node, path, "true or false")
        elif value is not None and not isinstance(value, bool):
            reader.mismatch(node, path, "true or false")
            value = None
        return self.default if value is None else value


CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Texts(Kind):
    """A list of texts; null entries are dropped."""

    def __init__(self, default: Any = ()) -> None:
        super().__init__(default)

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the texts as a tuple."""
        if is_null(node):
            return self.default
        if not isinstance(node, Sequence):
            reader.mismatch(node, path, "a list", "begin each entry with - in a line of its own")
            return self.default
        texts = (self.entry(item, (*path, index), reader) for index, item in enumerate(node.items))
        return tuple(text for text in texts if text is not None)

    def entry(self, node: Node, path: Path, reader: ValueReader) -> str | None:
        """Return the text of one entry; None if it is null or was reported."""
        return reader.text(node, path, "a text")


_GO_END = re.compile(r"((?<!\\)(?:\\\\)*)\\z")
_GO_ONLY = (
    (re.compile(r"\[:\^?\w+:\]"), "names a class of characters", "write its characters: a-z"),
    (re.compile(r"(?<!\\)\\[pP]"), "names a Unicode class", "write its characters, or \\w"),
    (re.compile(r"(?<!\\)\\[QEC]"), "quotes text", "put a backslash before each character"),
    (re.compile(r"(?<!\\)\\x\{"), "names a character", "write the character itself"),
    (re.compile(r"(?<!^)\(\?[imsU-]+\)"), "sets flags amid it", "write (?i:...) around its part"),
)
"""Parts of Go's regular expressions that Python's do not have, or read in another way."""


class Patterns(Texts):
    """A list of regular expressions, Python's; Go's ``\\z`` is taken as well."""

    def entry(self, node: Node, path: Path, reader: ValueReader) -> str | None:
        """Return one expression; report it if it is invalid."""
        pattern = super().entry(node, path, reader)
        if pattern is None:
            return None
        pattern = _GO_END.sub(r"\1\\Z", pattern)
        try:
            with warnings.catch_warnings(action="error", category=FutureWarning):
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError, FutureWarning) as error:
            for go, does, fix in _GO_ONLY:
                if found := go.search(pattern):
                    what = f"{found[0]} {does} in Go's regular expressions, but not here"
                    reader.report.error(path, what, fix, node)
                    return pattern
            if not isinstance(error, FutureWarning):
                what = f"is not a regular expression: {error}"
                reader.report.error(path, what, "correct it", node)
        return pattern


class HeaderNames(Texts):
    """Names of request headers, without duplicates in another case; none that hold credentials."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the names as a tuple, in their order; blank ones are left out."""
        first: dict[str, str] = {}
        for name in super().read(node, path, reader):
            first.setdefault(name.strip().lower(), name.strip())
        return tuple(filter(None, first.values()))

    def entry(self, node: Node, path: Path, reader: ValueReader) -> str | None:
        """Return one name; None if it is unusable and was reported."""
        name = super().entry(node, path, reader)
        if name is None or not (stripped := name.strip()):
            return name
        if stripped.lower() in CREDENTIAL_HEADERS:
            reader.report.error(path, f"{stripped} holds credentials", "name another header", node)
            return None
        if not _HEADER_NAME.fullmatch(stripped):
            reader.report.error(path, f"is no header name: {stripped[:40]!r}", "correct it", node)
            return None
        return name


class Choices(Texts):
    """A set of words from a fixed list, without duplicates."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = words

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the words as a tuple, in their order."""
        return tuple(dict.fromkeys(super().read(node, path, reader)))

    def entry(self, node: Node, path: Path, reader: ValueReader) -> str | None:
        """Return one word; None if it is unknown and was reported."""
        word = reader.text(node, path, "a text", strict=True)
        if word is None or word in self.words:
            return word
        fix = reader.report.nearest(word, self.words)
        reader.mismatch(node, path, f"one of {', '.join(self.words)}", fix)
        return None


class Words(Kind):
    """Words of a text, separated by commas, or of a list; case and blanks do not matter.

    *meanings* are the values that each word stands for; the value is a tuple of all of them, in
    ascending order. What is no such word is ignored, with advice.
    """

    def __init__(self, default: str, meanings: Values[str, tuple[str, ...]]) -> None:
        super().__init__(meanings[default])
        self.word = default
        self.meanings = meanings

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return what the words stand for; the default if there is none."""
        if is_null(node):
            return self.default
        items = node.items if isinstance(node, Sequence) else [node]
        found = [
            (word.strip().lower(), item)
            for item in items
            for word in self._text(item, path, reader).split(",")
        ]
        known = [self.meanings[word] for word, _ in found if word in self.meanings]
        odd = [(word, item) for word, item in found if word and word not in self.meanings]
        if odd or not known:
            word, item = odd[0] if odd else ("", node)
            used = "" if known else f"; {self.word} is used"
            fix = reader.report.nearest(word, self.meanings) or self._fix()
            what = f"has a word that is not known (found {describe(item)}){used}"
            reader.report.advise(path, what, fix, item)
        return (
            tuple(sorted({each for values in known for each in values})) if known else self.default
        )

    def _text(self, node: Node, path: Path, reader: ValueReader) -> str:
        if isinstance(node, Scalar):
            return reader.text(node, path, "a text") or ""
        reader.report.advise(path, f"is no word (found {describe(node)})", self._fix(), node)
        return ""

    def _fix(self) -> str:
        return f"write {', '.join(self.meanings)}, or several of them"


class Json(Kind):
    """A mapping of arbitrary JSON data."""

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(MappingProxyType({}))
        self.strict = strict

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the data as a dict."""
        if is_null(node):
            return self.default
        if not isinstance(node, Mapping):
            reader.mismatch(node, path, "a mapping")
            return self.default
        return reader.json(node, path, strict=self.strict)


class RawNode(Kind):
    """A value with special rules, read by the code of its section: the node itself, or None.

    *schema* is its JSON schema; *each* is the section of its entries, *one* its own section.
    *keep_null*: an empty key differs from an absent one.
    """

    def __init__(
        self,
        schema: Values[str, Any] | None = None,
        *,
        each: str = "",
        one: str = "",
        keep_null: bool = False,
    ) -> None:
        super().__init__()
        self.schema = schema or {}
        self.each = each
        self.one = one
        self.keep_null = keep_null

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return *node* unless it is null."""
        return None if is_null(node) and not self.keep_null else node


class Unsupported(Kind):
    """A key of llama-swap that has no effect, or is *refused* if ignoring it would be harmful.

    *why* states what to do instead, or the reason.
    """

    def __init__(self, *, why: str = "", refused: bool = False) -> None:
        super().__init__()
        self.why = why
        self.refused = refused

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Report the key as ignored or refused."""
        if is_null(node):
            return None
        if self.refused:
            reader.report.error(path, "not supported yet", self.why, node)
        else:
            reader.report.advise(path, "has no effect", self.why, node)
        return None
