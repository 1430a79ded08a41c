"""YAML text in, a tree of nodes with positions out.

PyYAML parses; its own composing and converting is not used, because it forgets positions, keeps
the last of two equal keys in silence, and recurses as deep as the file tells it to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Environ
from typing import Any

import yaml

from .macros import Environment, ReadFile
from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, is_macro

MAX_DEPTH = 100
MAX_WEIGHT = 2_000_000

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD_TAG = "tag:yaml.org,2002:"
_QUOTES = ("'", '"')

# Within [...] and {...} a brace ends an unquoted scalar, so that ``[${env.KEY}]`` is not YAML.
# Such files are read a second time with the braces of references in disguise (one character each,
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
"""What helps, by the character at which the text stops being YAML."""
_HINTS_OF_OPEN = {
    "-": "align the entries of the list",
    "[": "close the bracket, or quote a text that has one in it",
    "{": "close the brace, or quote a text that has one in it",
}
"""What helps, by the character at which the collection begins that could not be read."""
_MISALIGNED = "align this line with its neighbours, or close the quote before"


def compose(
    text: str, environ: Environ[str, str], report: Report, read_file: ReadFile | None = None
) -> Node | None:
    """Return the tree of the first document in *text*, values from outside filled in.

    None for an empty document, and for one that is not YAML, which *report* then tells.
    """
    found = Report()
    read_file = read_file or _no_file
    try:
        tree = _Composer(text, Environment(environ, read_file, found), found).compose()
    except (yaml.YAMLError, UnicodeError, _TooMuch) as error:
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
    disguised = _REFERENCE.sub(_DISGUISE, disguised)  # those around others
    found = Report()
    try:
        composer = _Composer(disguised, Environment(environ, read_file, found), found)
        return (composer.compose(), found) if count else None
    except (yaml.YAMLError, UnicodeError, _TooMuch):
        return None


def _no_file(path: str) -> str:
    raise ValueError(f"is not looked for: {path} belongs to no configuration file")


class _TooMuch(Exception):
    """The document is beyond what any configuration needs."""

    def __init__(self, what: str, mark: Any = None) -> None:
        super().__init__(what)
        self.problem = what
        self.problem_mark = mark


class _Open:
    """A collection whose end has not come yet."""

    def __init__(self, node: Sequence | Mapping, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Scalar | None = None
        self.merged: list[tuple[Scalar, Node]] = []

    def here(self) -> str | int:
        if isinstance(self.node, Sequence):
            return len(self.node.items)
        return self.key.text if self.key else "?"


class _Composer:
    def __init__(self, text: str, environment: Environment, report: Report) -> None:
        self._next: Callable[[], Any] = _Loader(text).get_event
        self._text = text
        self._disguised = "\ue000" in text
        self._report = report
        self._environment = environment
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None: its collection is still open
        self._handlers: dict[type, Callable[[Any], Node | None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceEndEvent: self._end,
            yaml.MappingEndEvent: self._end,
            yaml.StreamStartEvent: _nothing,
            yaml.DocumentStartEvent: _nothing,
        }

    def compose(self) -> Node | None:
        root: Node | None = None
        while True:
            event = self._next()
            handler = self._handlers.get(type(event))
            if handler is None:  # end of the document, or of a file without one
                found_one = isinstance(event, yaml.DocumentEndEvent)
                if found_one:
                    self._report_rest(event.end_mark.line)
                return root
            node = handler(event)
            if node is None:
                continue
            if self._open:
                self._add(self._open[-1], node, event)
            else:
                root = node

    def _report_rest(self, line: int) -> None:
        """Report what follows the first document, from *line* (counted from 0): it is not read."""
        try:
            if isinstance(self._next(), yaml.StreamEndEvent):
                return
        except yaml.YAMLError:
            pass  # it need not be YAML either
        at, what = Node(line + 1, 1), "a second document begins here, and is not read"
        if _KEYS_BEYOND.search("\n".join(self._text.split("\n")[line:])):
            self._report.error((), what, "remove the --- above apiKeys", at)
        else:
            self._report.advise((), what, "remove the --- line, or what follows it", at)

    def _path(self) -> Path:
        return tuple(collection.here() for collection in self._open)

    def _scalar(self, event: Any) -> Scalar:
        mark, text, tag = event.start_mark, event.value, event.tag
        if self._disguised:
            text = _DISGUISED.sub(r"${\1}", _DISGUISED.sub(r"${\1}", text))
        plain = event.implicit[0] if tag is None else _may_be_other_than_text(tag)
        node = Scalar(text, mark.line + 1, mark.column + 1, plain=plain)
        if "${env." in text or "${file." in text:
            self._environment.fill(node, self._path(), double_quoted=event.style == '"')
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is not None:
            return node
        what = "contains itself" if event.anchor in self._anchors else "is not defined before it"
        raise _TooMuch(f"alias *{event.anchor} {what}", event.start_mark)

    def _start(self, event: Any) -> Node | None:
        mark = event.start_mark
        if len(self._open) >= MAX_DEPTH:
            raise _TooMuch(_TOO_DEEP, mark)
        node: Sequence | Mapping
        if isinstance(event, yaml.SequenceStartEvent):
            node = Sequence([], mark.line + 1, mark.column + 1)
        else:
            node = Mapping(mark.line + 1, mark.column + 1)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(node, event.anchor))
        return None

    def _end(self, _event: Any) -> Node:
        collection = self._open[-1]
        for key, merged in collection.merged:
            self._merge(key, merged)
        self._open.pop()
        if collection.anchor:
            self._anchors[collection.anchor] = collection.node
        return collection.node

    def _add(self, collection: _Open, node: Node, event: Any) -> None:
        parent = collection.node
        parent.weight += node.weight
        if parent.weight > MAX_WEIGHT:
            raise _TooMuch("too large once every alias is written out", event.start_mark)
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif collection.key is None:
            collection.key = self._key(node)
        else:
            self._set(collection, parent, node)
            collection.key = None

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self._report.error(self._path(), "a key must be a text", "write a plain word", node)
        return Scalar("?", node.line, node.column, plain=False)

    def _set(self, collection: _Open, parent: Mapping, node: Node) -> None:
        key = collection.key
        assert key is not None  # noqa: S101 - _add has seen it
        if key.text == "<<" and key.plain:
            collection.merged.append((key, node))
            return
        if key.text in parent.entries:
            self._report_duplicate(parent.keys[key.text], key)
        parent.entries[key.text] = node
        parent.keys[key.text] = key

    def _report_duplicate(self, first: Scalar, second: Scalar) -> None:
        path = self._path()
        what = f"appears twice, in lines {first.line} and {second.line}"
        if is_macro(path):
            self._report.advise(path, what, "remove one; the later one counts", second)
        else:
            self._report.error(path, what, "remove or rename one of them", second)

    def _merge(self, key: Scalar, merged: Node) -> None:
        parent = self._open[-1].node
        sources = merged.items if isinstance(merged, Sequence) else [merged]
        for source in sources:
            if not isinstance(source, Mapping) or not isinstance(parent, Mapping):
                path = (*self._path()[:-1], "<<")
                self._report.error(path, "only mappings can be merged", "name a mapping", key)
                continue
            for name, node in source.entries.items():
                parent.entries.setdefault(name, node)
                parent.keys.setdefault(name, source.keys[name])


def _nothing(_event: Any) -> None:
    """Some events are of no interest."""


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
    elif not isinstance(error, _TooMuch):
        problem = f"not valid YAML: {problem}"
    report.error((), problem, hint, at)


def _hint(error: yaml.MarkedYAMLError, text: str) -> str:
    """Say what may help, from the text itself: the parsers differ in words and change them."""
    at, begun = _character(text, error.problem_mark), _character(text, error.context_mark)
    if begun in _QUOTES and not at:
        return "close the quote"
    if not isinstance(error, yaml.parser.ParserError) or begun == at:
        return _HINTS.get(at, "")
    return _HINTS_OF_OPEN.get(begun) or _HINTS.get(at) or (_MISALIGNED if begun else "")


def _character(text: str, mark: Any) -> str:
    """Return the character at *mark*; "" at the end of the text, and without a mark."""
    return text[mark.index : mark.index + 1] if mark is not None else ""


def _is_too_deep(error: yaml.MarkedYAMLError, text: str) -> bool:
    """Whether the parser, which reads ahead, met a limit of its own before we counted to ours."""
    before = text[: error.problem_mark.index] if error.problem_mark else ""
    opened, closed = (sum(map(before.count, pair)) for pair in ("[{", "]}"))
    return opened - closed > MAX_DEPTH


def _position(error: Exception, text: str) -> tuple[int, int]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return mark.line + 1, mark.column + 1
    if isinstance(error, UnicodeEncodeError):
        before = text[: error.start]
    else:  # libyaml counts the bytes of what it was given
        before = text.encode("utf-8", "replace")[: getattr(error, "position", 0)].decode(
            "utf-8", "replace"
        )
    return before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
