"""Finds the parts of a multipart body that arrives in pieces (RFC 2046 section 5.1, RFC 7578).

Werkzeug's decoder is not used because (as of 3.1.9) it adds the CR before a delimiter to the data
when a chunk ends right after that delimiter, and loses the original spelling of part headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

MAX_PARTS = 1000
MAX_HEAD_BYTES = 1 << 14

# What follows "--boundary" in a delimiter: the end of the form, or blanks and the end of the line.
_TAIL = re.compile(rb"--|[ \t]{0,64}\r\n")
_TAIL_BEGUN = re.compile(rb"-?|[ \t\v\f]{0,64}\r?")
# What lenient parsers also accept there; more blanks are refused, to bound the held-back data.
_LENIENT_TAIL = re.compile(rb"--|[ \t\v\f]{0,64}[\r\n]|[ \t\v\f]{65}")
_HEADER_LINES = re.compile(
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n(?:[ \t][^\r\n\0]*\r\n)*)*"
)


class FormProblem(ValueError):
    """A body that is not a valid multipart form."""


@dataclass(frozen=True, slots=True)
class PartHead:
    """The start of a part; *text* is its header lines as sent, each with its CRLF."""

    text: bytes


@dataclass(frozen=True, slots=True)
class PartData:
    """A chunk of the current part's data."""

    data: bytes


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEAD = auto()
    DATA = auto()
    DONE = auto()


class FormParser:
    """Parses a form, fed in chunks split anywhere, into the heads and data of its parts.

    Buffers no more than a delimiter or a head. Text before and after the parts is dropped. A form
    that lenient parsers, which accept other line ends, would split differently is refused.
    """

    def __init__(self, boundary: bytes) -> None:
        self._dashes = b"--" + boundary
        # The first delimiter may be at the start of the body, without a line end before it.
        self._buffer = b"\r\n"
        self._at = 0
        self._state = _State.PREAMBLE
        self._before = _State.PREAMBLE
        self._after_crlf = False
        """Whether the delimiter that was found begins with CRLF, as required."""
        self._parts = 0

    def feed(self, chunk: bytes) -> list[PartHead | PartData]:
        """Return the heads and data that *chunk* completes. Raises: FormProblem."""
        found: list[PartHead | PartData] = []
        behind = min(self._at, 2)  # a line end that decides how to read what follows
        self._buffer = self._buffer[self._at - behind :] + chunk
        self._at = behind
        while self._step(found):
            pass
        return found

    def finish(self) -> None:
        """Mark the end of the body. Raises: FormProblem if the form is incomplete."""
        if self._state is not _State.DONE:
            raise FormProblem("it ends before its last part does")

    def _step(self, found: list[PartHead | PartData]) -> bool:
        """Advance to the next state if the buffer allows; return False if more data is needed."""
        match self._state:
            case _State.DELIMITER:
                return self._settle_delimiter(found)
            case _State.HEAD:
                return self._take_head(found)
            case _State.DONE:
                self._at = len(self._buffer)
                return False
            case _State.PREAMBLE | _State.DATA:
                return self._search(found)

    def _search(self, found: list[PartHead | PartData]) -> bool:
        position = self._buffer.find(self._dashes, self._at)
        while position >= 0 and self._buffer[position - 1] not in b"\r\n":
            position = self._buffer.find(self._dashes, position + 1)
        if position < 0:
            # The buffer may end with the start of a delimiter.
            self._pass(max(self._at, len(self._buffer) - len(self._dashes) - 1), found)
            return False
        crlf = self._buffer[position - 2 : position] == b"\r\n"
        self._after_crlf = crlf and position - 2 >= self._at
        self._pass(position - 2 if self._after_crlf else position, found)
        self._before, self._state = self._state, _State.DELIMITER
        return True

    def _settle_delimiter(self, found: list[PartHead | PartData]) -> bool:
        tail_at = self._at + len(self._dashes) + (2 if self._after_crlf else 0)
        tail = _TAIL.match(self._buffer, tail_at) if self._after_crlf else None
        if tail:
            self._at = tail.end()
            self._state = _State.DONE if tail[0] == b"--" else _State.HEAD
        elif _TAIL_BEGUN.fullmatch(self._buffer, tail_at):
            return False
        elif self._before is _State.DATA and _LENIENT_TAIL.match(self._buffer, tail_at):
            raise FormProblem(
                "a line within a part begins with the boundary; send it with another boundary"
            )
        else:
            # A longer word that begins like the boundary is data.
            self._state = self._before
            self._pass(tail_at, found)
        return True

    def _pass(self, end: int, found: list[PartHead | PartData]) -> None:
        """Advance to *end*; the bytes before it are data, or are outside any part."""
        if end > self._at and self._state is _State.DATA:
            found.append(PartData(self._buffer[self._at : end]))
        self._at = end

    def _take_head(self, found: list[PartHead | PartData]) -> bool:
        end = self._end_of_head()
        if (len(self._buffer) if end is None else end) - self._at > MAX_HEAD_BYTES:
            raise FormProblem(f"the headers of a part are longer than {MAX_HEAD_BYTES} bytes")
        if end is None:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormProblem(f"it has more than {MAX_PARTS} parts")
        head = self._buffer[self._at : end]
        if not _HEADER_LINES.fullmatch(head):
            raise FormProblem("a part has a line that is no header")
        found.append(PartHead(head))
        self._at = end + 2
        self._state = _State.DATA
        return True

    def _end_of_head(self) -> int | None:
        """Return where the blank line after the headers begins; None if it has not arrived yet."""
        if self._buffer.startswith(b"\r\n", self._at):
            return self._at
        position = self._buffer.find(b"\r\n\r\n", self._at)
        return None if position < 0 else position + 2
