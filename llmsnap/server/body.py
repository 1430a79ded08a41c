"""The body of a request as ``wsgi.input``: of known length, or chunked (RFC 9112 section 7.1)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from llmsnap.errors import BadRequest, BodyTimeout, ClientGone
from llmsnap.server.reader import Reader

CHUNK_LINE_BYTES = 4096
TRAILER_LINES = 100
TRAILER_BYTES = 8192

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Raw:
    """Holds the client's socket under the name by which simple-websocket finds it in pywsgi."""

    __slots__ = ("_sock",)

    def __init__(self, sock: Any) -> None:
        self._sock = sock


class Body:
    """Reads exactly one body. *invite* asks the client for it, where it waits to be asked.

    Every way of reading raises BadRequest for a body that ends too early or is framed wrongly,
    BodyTimeout for one that does not go on, and ClientGone; where the next request would begin is
    then unknown (``broken``).
    """

    __slots__ = ("_chunked", "_first", "_invite", "_left", "_reader", "broken", "done")

    def __init__(
        self, reader: Reader, length: int | None, invite: Callable[[], None] | None = None
    ) -> None:
        self._reader = reader
        self._chunked = length is None
        self._left = length or 0
        self._first = True
        self._invite = invite
        self.done = length == 0
        """Whether all of it has been read."""
        self.broken = False

    def __repr__(self) -> str:
        state = "broken" if self.broken else "done" if self.done else f"{self._left} left"
        return f"<Body {'chunked, ' if self._chunked else ''}{state}>"

    @property
    def may_not_come(self) -> bool:
        """Whether the client still waits for a word, and may or may not send it without."""
        return self._invite is not None

    def is_within(self, limit: int) -> bool:
        """Whether what is left is known, and at most *limit* bytes."""
        return self.done or not (self._chunked or self._left > limit)

    def read(self, size: int | None = -1) -> bytes:
        """Return *size* bytes, fewer only at the end; all there are without a size. Blocks."""
        return self._read(sys.maxsize if size is None or size < 0 else size, whole=True)

    def read1(self, size: int) -> bytes:
        """Return 1 to *size* bytes, as they have come; b"" at the end. Blocks for the first."""
        return self._read(size, whole=False)

    def _read(self, wanted: int, *, whole: bool) -> bytes:
        pieces: list[bytes] = []
        if self.broken:
            raise BadRequest("the body is broken")
        try:
            while wanted and not self.done:
                if pieces and not whole and not (self._left and self._reader.waiting):
                    break  # what follows, be it the next chunk's length, may be waited for
                if not self._left:
                    self._next_chunk()
                    continue
                piece = self._piece(wanted)
                wanted -= len(piece)
                pieces.append(piece)
        except (ValueError, EOFError, OSError) as error:
            raise self._break(error) from error
        except BodyTimeout:
            self.broken = True
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Return one line. Byte by byte: WSGI demands it, nothing here uses it. Blocks."""
        limit = sys.maxsize if size is None or size < 0 else size
        line = bytearray()
        while len(line) < limit and (byte := self.read(1)):
            line += byte
            if byte == b"\n":
                break
        return bytes(line)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Return all lines. Blocks."""
        del hint
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _piece(self, wanted: int) -> bytes:
        if self._invite is not None:
            self._ask()
        piece = self._reader.some(min(wanted, self._left))
        if not piece:
            raise EOFError
        self._left -= len(piece)
        if not self._left and not self._chunked:
            self.done = True
        return piece

    def _ask(self) -> None:
        invite, self._invite = self._invite, None
        if invite is not None and not self._reader.waiting:
            invite()

    def _next_chunk(self) -> None:
        """Read up to the data of the next chunk, or through the trailers after the last one."""
        self._ask()
        if not self._first and self._reader.line(0):
            raise ValueError("a chunk is longer than it says")
        self._first = False
        found = _CHUNK.fullmatch(self._reader.line(CHUNK_LINE_BYTES))
        if found is None:
            raise ValueError("not the length of a chunk")
        self._left = int(found[1], 16)
        if not self._left:
            self._skip_trailers()
            self.done = True

    def _skip_trailers(self) -> None:
        for _ in range(TRAILER_LINES):
            line = self._reader.line(TRAILER_BYTES)
            if not line:
                return
            if not _TRAILER.fullmatch(line):
                raise ValueError("not a trailer")
        raise ValueError("too many trailers")

    def _break(self, error: Exception) -> BadRequest | ClientGone:
        self.broken = True
        if isinstance(error, EOFError):
            return BadRequest("the body ended before it was complete")
        if isinstance(error, OSError):
            return ClientGone("the client left while it sent its body")
        return BadRequest(f"the body is not chunked as it should be: {error}")


class SocketBody(Body):
    """The body of a request for an upgrade, from which simple-websocket takes the socket."""

    __slots__ = ("raw",)

    def __init__(
        self,
        reader: Reader,
        length: int | None,
        invite: Callable[[], None] | None,
        sock: Any,
    ) -> None:
        super().__init__(reader, length, invite)
        self.raw = Raw(sock)
