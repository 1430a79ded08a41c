"""Finds the parts of a multipart body that arrives in pieces (RFC 2046 section 5.1, RFC 7578).

Own code, because werkzeug's decoder (seen in 3.1.9) puts the CR before a delimiter into the data
when a piece ends right behind that delimiter, and drops the original spelling of part headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

MAX_PARTS = 1000
MAX_HEAD_BYTES = 1 << 14

# What makes a delimiter of "--boundary": the end of the form, or blanks and the end of the line.
_TAIL = re.compile(rb"--|[ \t]{0,64}\r\n")
_TAIL_BEGUN = re.compile(rb"-?|[ \t]{0,64}\r?")


class FormProblem(ValueError):
    """A body that is not the multipart form it should be."""


@dataclass(frozen=True, slots=True)
class PartHead:
    """A part begins; *text* is its header lines as sent, each with its CRLF."""

    text: bytes


@dataclass(frozen=True, slots=True)
class PartData:
    """More of what the last part holds."""

    data: bytes


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEAD = auto()
    DATA = auto()
    DONE = auto()


class FormParser:
    """Turns a form, fed in pieces cut anywhere, into heads and data of its parts.

    Holds back no more than a delimiter or a head. What stands around the parts is dropped.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may open the body; then no line end stands before it.
        self._buffer = b"\r\n"
        self._at = 0
        self._state = _State.PREAMBLE
        self._before = _State.PREAMBLE
        self._parts = 0

    def feed(self, chunk: bytes) -> list[PartHead | PartData]:
        """What *chunk* makes known. Raises: FormProblem."""
        found: list[PartHead | PartData] = []
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        while self._step(found):
            pass
        return found

    def finish(self) -> None:
        """Tell that the body has ended. Raises: FormProblem if the form has not."""
        if self._state is not _State.DONE:
            raise FormProblem("it ends before its last part does")

    def _step(self, found: list[PartHead | PartData]) -> bool:
        """Go on to the next state if what has come allows it; False when more is needed."""
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
        position = self._buffer.find(self._delimiter, self._at)
        # Without a delimiter, the beginning of one may still stand at the end.
        kept = len(self._delimiter) - 1
        end = position if position >= 0 else max(self._at, len(self._buffer) - kept)
        if end > self._at and self._state is _State.DATA:
            found.append(PartData(self._buffer[self._at : end]))
        self._at = end
        if position < 0:
            return False
        self._at += len(self._delimiter)
        self._before, self._state = self._state, _State.DELIMITER
        return True

    def _settle_delimiter(self, found: list[PartHead | PartData]) -> bool:
        tail = _TAIL.match(self._buffer, self._at)
        if tail:
            self._at = tail.end()
            self._state = _State.DONE if tail[0] == b"--" else _State.HEAD
        elif _TAIL_BEGUN.fullmatch(self._buffer, self._at):
            return False
        else:
            # Something longer that begins like the boundary: it belongs to the data.
            if self._before is _State.DATA:
                found.append(PartData(self._delimiter))
            self._state = self._before
        return True

    def _take_head(self, found: list[PartHead | PartData]) -> bool:
        end = self._end_of_head()
        if (len(self._buffer) if end is None else end) - self._at > MAX_HEAD_BYTES:
            raise FormProblem(f"the headers of a part are longer than {MAX_HEAD_BYTES} bytes")
        if end is None:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormProblem(f"it has more than {MAX_PARTS} parts")
        found.append(PartHead(self._buffer[self._at : end]))
        self._at = end + 2
        self._state = _State.DATA
        return True

    def _end_of_head(self) -> int | None:
        """Where the blank line behind the headers begins, None while it has not come."""
        if self._buffer.startswith(b"\r\n", self._at):
            return self._at
        position = self._buffer.find(b"\r\n\r\n", self._at)
        return None if position < 0 else position + 2
