"""Composes YAML text into a tree of nodes with positions.

PyYAML parses. ``yaml.compose`` would also keep positions and duplicate keys, but it rejects
redefined anchors and files of two documents, loses the positions of aliases and explicit tags, and
recurses without a limit; so the tree is composed here, from the parser's events, within bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Environ
from typing import Any

import yaml

from .macros import Environment, ReadFile
from .nodes import Mapping, Node, Report, Scalar, Sequence, is_macro

MAX_DEPTH = 100
MAX_WEIGHT = 2_000_000

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD_TAG = "tag:yaml.org,2002:"
_QUOTES = ("'", '"')

# Within [...] and {...} a brace ends an unquoted scalar, so that ``[${env.KEY}]`` is not YAML.
# Such files are parsed a second time with the braces of references replaced (by one character each,
# which keeps the columns).
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_.-]+|file\.[^{}\[\],\"'\n]+)\}")
_DISGUISE = "$\ue000\\1\ue001"
_DISGUISED = re.compile("\\$\ue000([^\ue000\ue001]+)\ue001")

_KEYS_BEYOND = re.compile(r"""^[\s"'{]*api[-_. ]*keys?["'\s]*:""", re.IGNORECASE | re.MULTILINE)

_HINTS = {
    "\t": "indent with blanks instead of tabs",
    **dict.fromkeys("@`%", "quote a text that begins with a special character"),
    ":": 'quote a text that contains ": "',
}
"""Fixes by the character at which a syntax error occurs."""
_HINTS_OF_OPEN = {
    "-": "align the entries of the list",
    "[": "close the bracket, or quote a text that has one in it",
    "{": "close the brace, or quote a text that has one in it",
}
"""Fixes by the first character of the collection that could not be parsed."""
_MISALIGNED = "align this line with its neighbours, or close the quote before"


def compose(
    text: str, environ: Environ[str, str], report: Report, read_file: ReadFile | None = None
) -> Node | None:
    """Return the tree of the first document in *text*, with external references resolved.

    None for an empty document, and for invalid YAML, which is added to *report*.
    """
    found = Report()
    read_file = read_file or _no_file
    try:
        tree = _Composer(text, Environment(environ, read_file, found), found).compose()
    except (yaml.YAMLError, UnicodeError, _LimitExceeded) as error:
        second = _compose_disguised(text, environ, read_file)
        if second is None:
            report.problems += found.problems
            _report_failure(error, text, report)
            return None
        tree, found = second
    report.problems += found.problems
    report.advice += found.advice
    return tree


def _compose_disguised(
    text: str, environ: Environ[str, str], read_file: ReadFile
) -> tuple[Node | None, Report] | None:
    disguised, count = _REFERENCE.subn(_DISGUISE, text)
    disguised = _REFERENCE.sub(_DISGUISE, disguised)  # the outer ones
    found = Report()
    try:
        composer = _Composer(disguised, Environment(environ, read_file, found), found)
        return (composer.compose(), found) if count else None
    except (yaml.YAMLError, UnicodeError, _LimitExceeded):
        return None


def _no_file(path: str) -> str:
    raise ValueError(f"is not looked for: {path} belongs to no configuration file")


class _LimitExceeded(Exception):
    """The document exceeds a limit."""

    def __init__(self, what: str, mark: Any = None) -> None:
        super().__init__(what)
        self.problem = what
        self.problem_mark = mark


class _Composer:
    """Composes a tree from the events of PyYAML's parser."""

    def __init__(self, text: str, environment: Environment, report: Report) -> None:
        self._next: Callable[[], Any] = _Loader(text).get_event
        self._text = text
        self._disguised = "\ue000" in text
        self._report = report
        self._environment = environment
        self._path: list[str | int] = []  # of the current node
        self._anchors: dict[str, Node | None] = {}  # None: the collection is still open

    def compose(self) -> Node | None:
        """Return the root of the first document."""
        self._next()  # start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        root = self._node(self._next())
        self._report_rest(self._next().end_mark.line)
        return root

    def _report_rest(self, line: int) -> None:
        """Report that text after the first document, from *line* (from 0) on, is ignored."""
        try:
            if isinstance(self._next(), yaml.StreamEndEvent):
                return
        except yaml.YAMLError:
            pass  # which may not be valid YAML
        at, what = Node(line + 1, 1), "a second document begins here, and is not read"
        if _KEYS_BEYOND.search("\n".join(self._text.split("\n")[line:])):
            self._report.error((), what, "remove the --- above apiKeys", at)
        else:
            self._report.advise((), what, "remove the --- line, or what follows it", at)

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if len(self._path) >= MAX_DEPTH:
            raise _LimitExceeded(_TOO_DEEP, event.start_mark)
        if event.anchor:
            self._anchors[event.anchor] = None
        of_kind = self._sequence if isinstance(event, yaml.SequenceStartEvent) else self._mapping
        node = of_kind(event.start_mark)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any) -> Scalar:
        mark, text, tag = event.start_mark, event.value, event.tag
        if self._disguised:
            text = _DISGUISED.sub(r"${\1}", _DISGUISED.sub(r"${\1}", text))
        plain = event.implicit[0] if tag is None else _may_be_other_than_text(tag)
        node = Scalar(text, mark.line + 1, mark.column + 1, plain=plain)
        if "${env." in text or "${file." in text:
            self._environment.fill(node, tuple(self._path), double_quoted=event.style == '"')
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is not None:
            return node
        what = "contains itself" if event.anchor in self._anchors else "is not defined before it"
        raise _LimitExceeded(f"alias *{event.anchor} {what}", event.start_mark)

    def _below(self, parent: Node, here: str | int, event: Any) -> Node:
        """Return the node that starts with *event*, at *here* in *parent*."""
        self._path.append(here)
        node = self._node(event)
        self._path.pop()
        parent.weight += node.weight
        if parent.weight > MAX_WEIGHT:
            raise _LimitExceeded("too large once every alias is written out", event.start_mark)
        return node

    def _sequence(self, mark: Any) -> Node:
        sequence = Sequence([], mark.line + 1, mark.column + 1)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            sequence.items.append(self._below(sequence, len(sequence.items), event))
        return sequence

    def _mapping(self, mark: Any) -> Node:
        mapping = Mapping(mark.line + 1, mark.column + 1)
        merged: list[tuple[Scalar, Node]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(self._below(mapping, "?", event))
            value = self._below(mapping, key.text, self._next())
            if key.text == "<<" and key.plain:
                merged.append((key, value))
                continue
            if key.text in mapping.entries:
                self._report_duplicate(mapping.keys[key.text], key)
            mapping.entries[key.text] = value
            mapping.keys[key.text] = key
        for key, source in merged:
            self._merge(mapping, key, source)
        return mapping

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        path = (*self._path, "?")
        self._report.error(path, "a key must be a text", "write a plain word", node)
        return Scalar("?", node.line, node.column, plain=False)

    def _report_duplicate(self, first: Scalar, second: Scalar) -> None:
        path = (*self._path, second.text)
        what = f"appears twice, in lines {first.line} and {second.line}"
        if is_macro(path):
            self._report.advise(path, what, "remove one; the later one counts", second)
        else:
            self._report.error(path, what, "remove or rename one of them", second)

    def _merge(self, mapping: Mapping, key: Scalar, merged: Node) -> None:
        sources = merged.items if isinstance(merged, Sequence) else [merged]
        for source in sources:
            if not isinstance(source, Mapping):
                path = (*self._path, "<<")
                self._report.error(path, "only mappings can be merged", "name a mapping", key)
                continue
            for name, node in source.entries.items():
                mapping.entries.setdefault(name, node)
                mapping.keys.setdefault(name, source.keys[name])


def _may_be_other_than_text(tag: str) -> bool:
    return tag.startswith(_STANDARD_TAG) and tag not in (
        f"{_STANDARD_TAG}str",
        f"{_STANDARD_TAG}binary",
    )


def _report_failure(error: Exception, text: str, report: Report) -> None:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    at = Node(*_position(error, text))
    hint = ""
    if isinstance(error, yaml.MarkedYAMLError):
        hint = _hint(error, text)
        problem = _TOO_DEEP if _is_too_deep(error, text) else f"not valid YAML: {problem}"
    elif not isinstance(error, _LimitExceeded):
        problem = f"not valid YAML: {problem}"
    report.error((), problem, hint, at)


def _hint(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return a fix based on the text, since the messages of the parsers vary."""
    at, begun = _character(text, error.problem_mark), _character(text, error.context_mark)
    if begun in _QUOTES and not at:
        return "close the quote"
    if not isinstance(error, yaml.parser.ParserError) or begun == at:
        return _HINTS.get(at, "")
    return _HINTS_OF_OPEN.get(begun) or _HINTS.get(at) or (_MISALIGNED if begun else "")


def _character(text: str, mark: Any) -> str:
    """Return the character at *mark*; "" at the end of the text or without a mark."""
    return text[mark.index : mark.index + 1] if mark is not None else ""


def _is_too_deep(error: yaml.MarkedYAMLError, text: str) -> bool:
    """Whether the parser, which reads ahead, reached its own depth limit before ours."""
    before = text[: error.problem_mark.index] if error.problem_mark else ""
    opened, closed = (sum(map(before.count, pair)) for pair in ("[{", "]}"))
    return opened - closed > MAX_DEPTH


def _position(error: Exception, text: str) -> tuple[int, int]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return mark.line + 1, mark.column + 1
    if isinstance(error, UnicodeEncodeError):
        before = text[: error.start]
    else:  # libyaml counts bytes
        before = text.encode("utf-8", "replace")[: getattr(error, "position", 0)].decode(
            "utf-8", "replace"
        )
    return before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
