"""A tolerant JSON scanner for texts that msgspec refuses; it locates real errors.

msgspec describes errors only in messages that change between versions, and refuses what clients of
the Go programs send: lone surrogates (which RFC 8259 permits, section 8.2), raw line breaks and
other control characters in strings, NaN and Infinity (Python's ``json`` writes them), and blanks or
NULs after the end. None of these affects where the members are.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

SCAN_LIMIT_BYTES = 1 << 20
SCAN_LIMIT_CONTAINERS = 10_000
"""Longest prefix that is scanned: about 50 ms of work in the worst case."""
MAX_DEPTH = 500

# All quantifiers are possessive, so that time is linear and memory constant.
_WS = rb"[ \t\n\r]*+"
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_TEXT_BEGUN = rb'"[^"\\]*+(?:' + _ESCAPE + rb'[^"\\]*+)*+'
_TEXT = _TEXT_BEGUN + rb'"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:(?![.eE])|(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)"
_WORDS = rb"true|false|null|NaN|-?Infinity"
_PLAIN = rb"(?:%b|%b|%b|\[%b\]|\{%b\})" % (_TEXT, _WORDS, _NUMBER, _WS, _WS)
_NAME = _TEXT + _WS + rb":" + _WS

_SPACE = re.compile(_WS)
_TRAILER = re.compile(rb"(?:[\x00-\x20]|\xc2\xa0|\xef\xbb\xbf)*+")
_VALUE = re.compile(_PLAIN)
_WHOLE_TEXT = re.compile(_TEXT)
_TEXT_SO_FAR = re.compile(_TEXT_BEGUN)
_MEMBER_NAME = re.compile(rb"(%b)%b:%b" % (_TEXT, _WS, _WS))
_PLAIN_ELEMENTS = re.compile(rb"(?:%b%b,%b)*+" % (_PLAIN, _WS, _WS))
_PLAIN_MEMBERS = re.compile(rb"(?:%b%b%b,%b)*+" % (_NAME, _PLAIN, _WS, _WS))
_CLOSERS = {b"[": b"]", b"{": b"}"}
_KINDS = {b"[": "an array", b'"': "a text", b"t": "true", b"f": "false", b"n": "null"}


class JsonProblem(ValueError):
    """A text that is not the expected JSON: *what* is wrong, and at which byte (-1: unknown)."""

    def __init__(self, what: str, position: int = -1) -> None:
        self.what = what
        self.position = position
        super().__init__(what)


class Member(NamedTuple):
    """A member of an object, or an element of an array, which has no name."""

    name: str
    value: bytes


def scan_object(text: bytes, most: int) -> list[Member]:
    """Return the first *most* members of the object *text*, in order, repeated names included.

    Raises: JsonProblem, also for anything wrong deep inside a value, and for a text that takes
    too long to read.
    """
    return _Scanner(text).read(b"{", most)


def scan_array(text: bytes, most: int) -> list[Member]:
    """Return the first *most* elements of the array *text*. Raises: as ``scan_object``."""
    return _Scanner(text).read(b"[", most)


class _Scanner:
    """Scans one text; positions are byte offsets."""

    def __init__(self, text: bytes) -> None:
        self._text = text[:SCAN_LIMIT_BYTES]
        self._is_cut = len(text) > SCAN_LIMIT_BYTES
        self._containers = 0

    def read(self, opener: bytes, most: int) -> list[Member]:
        """Return the top-level members of the container that *opener* starts."""
        at = self._skip_space(0)
        if self._byte(at) != opener:
            raise self._wrong_kind(at, opener)
        found: list[Member] = []
        at = self._skip_space(at + 1)
        is_last = self._byte(at) == _CLOSERS[opener]
        while not is_last:
            name, at = self._read_name(at) if opener == b"{" else ("", at)
            end = self._skip_value(at)
            found.append(Member(name, self._text[at:end]))
            if len(found) >= most:
                return found
            at = self._skip_space(end)
            is_last = self._byte(at) == _CLOSERS[opener]
            if not is_last:
                at = self._skip_comma(at, _CLOSERS[opener])
        trailer = _TRAILER.match(self._text, at + 1)
        at = trailer.end() if trailer else at + 1
        if at < len(self._text) or self._is_cut:
            raise self._fault(at, "the end")
        return found

    def _read_name(self, at: int) -> tuple[str, int]:
        """Return the name at *at*, and the position of its value."""
        match = _MEMBER_NAME.match(self._text, at)
        if match is None:
            raise self._no_name(at)
        try:
            name = match[1].decode()
        except UnicodeDecodeError as error:
            raise JsonProblem("a name that is not UTF-8", at + error.start) from error
        plain = name[1:-1] if "\\" not in name else json.loads(name, strict=False)
        return plain, match.end()

    def _skip_value(self, at: int) -> int:
        """Return the end of the value at *at*. Not recursive."""
        closers: list[bytes] = []
        while True:
            plain = _VALUE.match(self._text, at)
            if plain is None:
                at = self._enter(at, closers)
                continue
            at = self._leave(plain.end(), closers) if closers else plain.end()
            if not closers:
                return at
            at = self._next_value(self._skip_comma(at, closers[-1]), closers[-1])

    def _enter(self, at: int, closers: list[bytes]) -> int:
        """Enter the container at *at*; return the position of its first non-scalar value."""
        closer = _CLOSERS.get(self._byte(at))
        if closer is None:
            raise self._fault(at, "a value")
        closers.append(closer)
        self._containers += 1
        if len(closers) > MAX_DEPTH:
            raise JsonProblem("nested too deeply", at)
        if self._containers > SCAN_LIMIT_CONTAINERS:
            raise _beyond(at)
        return self._next_value(self._skip_space(at + 1), closer)

    def _next_value(self, at: int, closer: bytes) -> int:
        """Skip scalar members; return the position of the next value, after its name."""
        if closer == b"]":
            plain = _PLAIN_ELEMENTS.match(self._text, at)
            return plain.end() if plain else at
        plain = _PLAIN_MEMBERS.match(self._text, at)
        at = plain.end() if plain else at
        named = _MEMBER_NAME.match(self._text, at)
        if named is None:
            raise self._no_name(at)
        return named.end()

    def _leave(self, at: int, closers: list[bytes]) -> int:
        """Leave all containers that end at *at*; return the end of the outermost one."""
        after = self._skip_space(at)
        while closers and self._byte(after) == closers[-1]:
            closers.pop()
            at = after + 1
            after = self._skip_space(at)
        return after if closers else at

    def _skip_comma(self, at: int, closer: bytes) -> int:
        if self._byte(at) != b",":
            raise self._fault(at, f"',' or '{closer.decode()}'")
        return self._skip_space(at + 1)

    def _skip_space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at

    def _byte(self, at: int) -> bytes:
        return self._text[at : at + 1]

    # --- errors ----------------------------------------------------------------------------------

    def _no_name(self, at: int) -> JsonProblem:
        text = _WHOLE_TEXT.match(self._text, at)
        if text is None:
            return self._fault(at, "a name in double quotes")
        return self._fault(self._skip_space(text.end()), "':'")

    def _fault(self, at: int, wanted: str) -> JsonProblem:
        """Return the error for the text at *at*, where *wanted* was expected."""
        begun = _TEXT_SO_FAR.match(self._text, at)
        if begun is None or wanted == "the end" or _WHOLE_TEXT.match(self._text, at):
            early = self._early_end(at)
            return early or JsonProblem(f"expected {wanted}, found {self._found(at)}", at)
        at = begun.end()
        return self._early_end(at) or JsonProblem("an unknown escape in a text", at)

    def _early_end(self, at: int) -> JsonProblem | None:
        """Return the error for a text, or scanned prefix, that ends at *at*."""
        if self._is_cut and at > len(self._text) - 8:  # a literal or an escape may be incomplete
            return _beyond(SCAN_LIMIT_BYTES)
        is_end = self._text[at:] in {b"", b"\\"}
        return JsonProblem("it ends too early", len(self._text)) if is_end else None

    def _found(self, at: int) -> str:
        character = self._text[at : at + 4].decode("utf-8", "replace")[0]
        printable = character.isprintable() and character != "\ufffd"
        return repr(character) if printable else f"byte 0x{self._text[at]:02x}"

    def _wrong_kind(self, at: int, opener: bytes) -> JsonProblem:
        wanted = "an object" if opener == b"{" else "an array"
        if _VALUE.match(self._text, at) or self._byte(at) in _CLOSERS:
            found = _KINDS.get(self._byte(at), "a number" if opener == b"{" else "an object")
            return JsonProblem(f"expected {wanted}, found {found}", at)
        return self._fault(at, wanted)


def _beyond(at: int) -> JsonProblem:
    return JsonProblem("not valid beyond this point", at)
