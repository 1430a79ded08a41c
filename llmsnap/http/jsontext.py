"""Edits JSON as text: members that are not named stay unchanged, byte for byte.

Only the edited level is parsed (msgspec skips the values), so that a body of 20 MB costs
milliseconds, and number spellings, spacing and the order of members survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from llmsnap.http.jsonscan import JsonProblem, scan_array, scan_object
from llmsnap.installation import as_python_has_it

Value = Any
"""A msgspec.Raw or bytes. msgspec's stubs declare Raw a subclass of bytes, which is wrong and would
mislead mypyc."""
Members = list[tuple[str, Value]]
Edits = Mapping[str, bytes | None]
"""New JSON text per member name; None deletes the member."""

_SPACE = re.compile(rb"[ \t\n\r]*")
_MEMBER = re.compile(rb'[ \t\n\r]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
_INDEX = re.compile(r"-1|0|[1-9][0-9]{0,3}")


MAX_MEMBERS = 4096
"""Most members at the top level of a request. The largest API has about 60."""
MAX_ENTRIES = 1 << 14
"""Most members of a nested object or array that a filter path enters."""
MAX_COMMAS = 1 << 18
"""Most elements of an array that is split, at any depth; each takes 70 bytes of memory."""


@as_python_has_it
class _TooManyMembers(Exception):
    """Aborts the decoding of an object."""


class _Name:
    """A member's name as a unique dictionary key, so that repeated names are kept."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Allowance:
    """The number of further names that the object being decoded may have."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0


_ALLOWANCE = _Allowance()


def _named(_type: type, text: str) -> _Name:
    _ALLOWANCE.left -= 1
    if _ALLOWANCE.left < 0:
        raise _TooManyMembers
    return _Name(text)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_OBJECT = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=_named)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec. Their messages differ between versions and are not parsed."""


def json_members(text: bytes, most: int = MAX_MEMBERS) -> Members:
    """Return names and values of the object *text*, in order, repeated names included.

    Raises: JsonProblem, also for anything wrong deep inside a value, and for more than *most*.
    """
    _ALLOWANCE.left = most
    try:
        found = _OBJECT.decode(text)
    except _TooManyMembers:
        raise _too_many(most) from None
    except _REFUSALS:
        scanned = scan_object(text, most + 1)
        if len(scanned) > most:
            raise _too_many(most) from None
        return [(member.name, member.value) for member in scanned]
    return [(name.text, value) for name, value in found.items()]


def _elements(text: bytes) -> list[Value]:
    """Return the elements of the array *text*. Raises: JsonProblem, also for too many."""
    if text.count(b",") > MAX_COMMAS:
        raise _too_many(MAX_ENTRIES)
    try:
        found: list[Value] = _ARRAY.decode(text)
    except _REFUSALS:
        found = [element.value for element in scan_array(text, MAX_ENTRIES + 1)]
    if len(found) > MAX_ENTRIES:
        raise _too_many(MAX_ENTRIES)
    return found


def _too_many(most: int) -> JsonProblem:
    return JsonProblem(f"more than {most} members or elements in one object or array")


def dump_json(value: object) -> bytes:
    """Return *value* as compact JSON with sorted keys, safe to embed in HTML."""
    return _ENCODER.encode(value).translate(_HTML).encode("utf-8", "surrogatepass")


# --- paths -------------------------------------------------------------------------------------


def split_path(path: str) -> list[str]:
    r"""Return the segments of a dotted path; ``\.`` is a dot within a segment."""
    pieces = [""]
    characters = iter(path)
    for character in characters:
        if character == "\\":
            pieces[-1] += next(characters, "")
        elif character == ".":
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def path_problem(path: str) -> str:
    """Return why *path* cannot name one place in a document; "" if it can."""
    plain = re.sub(r"\\.", "", path)
    wild = sorted(set(plain) & set("*?#|@"))
    if wild:
        return f"{' '.join(wild)} must be escaped with a backslash; patterns are not supported"
    return "" if all(split_path(path)) else "a piece between the dots is empty"


def delete_path(text: bytes, path: Sequence[str]) -> bytes:
    """Return *text* without the value at *path*; the same object if there is none."""
    container = _open(text)
    position = container.find(path[0]) if container else None
    if container is None or position is None:
        return text
    if len(path) == 1:
        return container.replaced(position, None)
    inner = container.value(position)
    edited = delete_path(inner, path[1:])
    return text if edited is inner else container.replaced(position, edited)


def set_path(text: bytes | None, path: Sequence[str], new: bytes) -> bytes:
    """Return *text* with *new* at *path*, creating objects and arrays on the way as needed.

    A scalar on the way is replaced by an object. A name cannot be set in an array: *text* is then
    returned unchanged.
    """
    if not path:
        return new
    container = _open(text) if text is not None else None
    if container is None:
        return _fresh(path, new)
    if container.is_array and not _INDEX.fullmatch(path[0]):
        return container.text
    position = None if container.is_array and path[0] == "-1" else container.find(path[0])
    if position is None:
        return container.appended(path[0], set_path(None, path[1:], new))
    return container.replaced(position, set_path(container.value(position), path[1:], new))


def lacks_path(text: bytes | None, path: Sequence[str]) -> bool:
    """Return whether nothing is at *path* in *text*, and no scalar on the way there."""
    if text is None or not path:
        return text is None
    container = _open(text)
    if container is None:
        return False
    position = container.find(path[0])
    return position is None or lacks_path(container.value(position), path[1:])


def _fresh(path: Sequence[str], new: bytes) -> bytes:
    for piece in reversed(path):
        if _INDEX.fullmatch(piece):
            new = b"[" + b"null," * max(0, int(piece)) + new + b"]"
        else:
            new = b"{" + dump_json(piece) + b":" + new + b"}"
    return new


# --- splicing ----------------------------------------------------------------------------------


class _Span(NamedTuple):
    """The extent of one member or element between the commas, and of its value."""

    start: int
    value_start: int
    value_end: int
    end: int


def splice_json(text: bytes, found: Members, edits: Edits) -> tuple[bytes, Members]:
    """Return the object *text*, with members *found*, after *edits*, and its new members.

    A member is set at its first occurrence and not repeated; new members are appended.
    """
    spans = _spans(text, [value for _, value in found], _MEMBER)
    kept: list[bytes | memoryview] = []
    left: Members = []
    view = memoryview(text)
    waiting = dict(edits)
    for (name, value), span in zip(found, spans, strict=True):
        if name not in edits:
            kept.append(view[span.start : span.end])
            left.append((name, value))
        elif (new := waiting.pop(name, None)) is not None:
            kept.append(text[span.start : span.value_start] + new + text[span.value_end : span.end])
            left.append((name, new))
    added = [(name, new) for name, new in waiting.items() if new is not None]
    kept += [dump_json(name) + b":" + new for name, new in added]
    return _wrapped(text, spans, kept), left + added


def _spans(text: bytes, values: Iterable[Value], head: re.Pattern[bytes]) -> list[_Span]:
    position = _opening(text) + 1
    spans = []
    for value in values:
        value_start = _end_of(head, text, position)
        value_end = end = value_start + memoryview(value).nbytes
        if text[end] in b" \t\n\r":
            end = _end_of(_SPACE, text, end)
        spans.append(_Span(position, value_start, value_end, end))
        position = end + 1
    return spans


def _wrapped(text: bytes, spans: Sequence[_Span], parts: Sequence[bytes | memoryview]) -> bytes:
    """Return *parts*, joined by commas, within the brackets and surrounding blanks of *text*."""
    opening = _opening(text) + 1
    closing = spans[-1].end if spans else _end_of(_SPACE, text, opening)
    pieces: list[bytes | memoryview] = [text[:opening]]
    for part in parts:
        pieces += [part, b","]
    if parts:
        pieces.pop()
    return b"".join([*pieces, text[closing:]])


def _opening(text: bytes) -> int:
    return _end_of(_SPACE, text, 0)


def _end_of(pattern: re.Pattern[bytes], text: bytes, position: int) -> int:
    match = pattern.match(text, position)
    if match is None:
        raise JsonProblem("a member was expected", position)
    return match.end()


class _Container:
    """An object or array, and the positions of its values."""

    def __init__(self, text: bytes, names: list[str] | None, values: Sequence[Value]) -> None:
        self.text = text
        self.is_array = names is None
        self._names = names
        self._values = values
        self._spans = _spans(text, values, _SPACE if names is None else _MEMBER)

    def find(self, piece: str) -> int | None:
        """Return the index of the value named *piece*; the last of repeated names, as parsers."""
        if self._names is not None:
            found = [i for i, name in enumerate(self._names) if name == piece]
            return found[-1] if found else None
        if not _INDEX.fullmatch(piece):
            return None
        position = len(self._values) - 1 if piece == "-1" else int(piece)
        return position if 0 <= position < len(self._values) else None

    def value(self, position: int) -> bytes:
        return bytes(self._values[position])

    def replaced(self, position: int, new: bytes | None) -> bytes:
        """Return the text with *new* for that value, or without it; duplicates are removed."""
        name = self._names[position] if self._names is not None else None
        parts: list[bytes | memoryview] = []
        for i, span in enumerate(self._spans):
            if i == position:
                if new is not None:
                    head = self.text[span.start : span.value_start]
                    parts.append(head + new + self.text[span.value_end : span.end])
            elif self._names is None or self._names[i] != name:
                parts.append(self.text[span.start : span.end])
        return _wrapped(self.text, self._spans, parts)

    def appended(self, piece: str, new: bytes) -> bytes:
        """Return the text with *new* appended; an array is first padded to the index *piece*."""
        parts = [self.text[span.start : span.end] for span in self._spans]
        if self._names is None:
            missing = 0 if piece == "-1" else int(piece) - len(parts)
            parts += [b"null"] * missing + [new]
        else:
            parts.append(dump_json(piece) + b":" + new)
        return _wrapped(self.text, self._spans, parts)


def _open(text: bytes) -> _Container | None:
    """Return *text* as a container; None if it is a scalar."""
    match text[_opening(text) : _opening(text) + 1]:
        case b"{":
            found = json_members(text, MAX_ENTRIES)
            return _Container(text, [name for name, _ in found], [value for _, value in found])
        case b"[":
            return _Container(text, None, _elements(text))
    return None
