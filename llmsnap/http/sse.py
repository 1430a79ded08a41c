"""Server-sent events: encoding and parsing of frames."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_FRAME_BYTES = 1 << 20
# The last frame of a chat or completion (OpenAI), a message (Anthropic), a response (OpenAI).
_END = re.compile(
    rb"(?:^|[\r\n])(?:data: ?\[DONE\]|"
    rb"event: ?(?:message_stop|response\.(?:completed|incomplete|failed))[\r\n]+data:[^\r\n]*)"
    rb"[\r\n]+\Z"
)
_FIELD = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")


@dataclass(frozen=True, slots=True)
class SseFrame:
    """One event of a stream. *event* and *id* are "" if the frame has none."""

    data: str
    event: str = ""
    id: str = ""


def sse_event(data: str, event: str = "", event_id: str = "") -> bytes:
    """Return the bytes of one frame; every line of *data* becomes a ``data:`` line."""
    head = ""
    if event:
        head += f"event: {_one_line(event)}\n"
    if event_id:
        head += f"id: {_one_line(event_id)}\n"
    return (head + "".join(f"data: {line}\n" for line in _lines(data)) + "\n").encode()


def sse_message(data: str) -> bytes:
    """Return an ``event:message`` frame of ``/api/events``, without blanks after the colons."""
    return ("event:message\n" + "".join(f"data:{line}\n" for line in _lines(data)) + "\n").encode()


def sse_comment(text: str = "") -> bytes:
    """Return a comment line, which clients ignore: a heartbeat between two frames.

    It lacks the blank line that ends a frame, because some clients would dispatch an empty event.
    """
    return f": {_one_line(text)}\n".encode()


def is_sse(body: bytes) -> bool:
    """Whether *body* looks like a stream of events."""
    return _FIELD.match(body) is not None


def ends_frame(sent: bytes) -> bool:
    """Whether a stream whose last bytes are *sent* is at the end of a frame."""
    return not sent or sent.endswith((b"\n\n", b"\r\r", b"\r\n\r\n"))


def ends_sse(sent: bytes) -> bool:
    """Whether *sent*, the last bytes of a model's stream, end with the final frame of its API."""
    return _END.search(sent) is not None


def _lines(data: str) -> list[str]:
    return data.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _one_line(text: str) -> str:
    return " ".join(_lines(text))


class SseParser:
    """Parses a stream in chunks split anywhere, and returns its frames as they become complete.

    A frame longer than *max_frame_bytes* is skipped, so that memory stays bounded.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._rest = b""
        self._after_cr = False
        self._at_start = True
        self._reset()

    def _reset(self) -> None:
        self._data: list[bytes] = []
        self._event = b""
        self._id = b""
        self._size = 0

    def feed(self, chunk: bytes) -> list[SseFrame]:
        """Return the frames that *chunk* completes."""
        if self._after_cr and chunk:
            # The CR already ended the line; this LF completes its CRLF.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        text = self._rest + chunk
        if self._at_start:
            if b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        return self._frames_of(text)

    def _frames_of(self, text: bytes) -> list[SseFrame]:
        lines = text.splitlines()
        self._after_cr = text.endswith(b"\r")
        rest = b"" if not lines or text.endswith((b"\r", b"\n")) else lines.pop()
        frames = [frame for line in lines if (frame := self._take(line))]
        if self._size + len(rest) > self._max and rest:
            # Treat the rest of this line as a comment.
            self._size, rest = self._max + 1, b":"
        self._rest = rest
        return frames

    def _take(self, line: bytes) -> SseFrame | None:
        if not line:
            return self._complete()
        self._size += len(line)
        if self._size > self._max:
            self._data.clear()
            return None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value
            case b"id":
                self._id = value
        return None

    def _complete(self) -> SseFrame | None:
        frame = None
        if self._data and self._size <= self._max:
            data = b"\n".join(self._data)
            frame = SseFrame(_text(data), _text(self._event), _text(self._id))
        self._reset()
        return frame


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
