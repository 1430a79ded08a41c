"""What readers of the event feed are sent: frames, for server-sent events and for WebSockets.

An *envelope* is what clients of the original read: a ``message`` whose ``data`` is JSON in JSON.
*Named* frames carry one change each, in plain JSON. Frames are shared by all readers, so that a
line of a log is encoded once and not once for each open tab.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from llmsnap.http import sse_event, sse_message

ENVELOPE = "message"


class Frame:
    """One thing to tell. *data* is JSON, *event* ``message`` for an envelope; *id* resumes."""

    __slots__ = ("_sse", "data", "event", "id")

    def __init__(self, event: str, data: str, frame_id: str = "") -> None:
        self.event = event
        self.data = data
        self.id = frame_id
        self._sse = b""

    def __repr__(self) -> str:
        return f"<Frame {self.event} {self.id}, {len(self.data)} characters>"

    def sse(self) -> bytes:
        """Return the frame as server-sent event; envelopes byte for byte as published."""
        if not self._sse and self.event == ENVELOPE:
            self._sse = sse_message(self.data)
        elif not self._sse:
            self._sse = sse_event(self.data, self.event, self.id)
        return self._sse

    def text(self) -> str:
        """Return the frame as message of a WebSocket: the envelope, or event, id and data."""
        if self.event == ENVELOPE:
            return self.data
        shown = f',"id":{dump(self.id)}' if self.id else ""
        return f'{{"event":{dump(self.event)}{shown},"data":{self.data}}}'


class LogPiece:
    """Some bytes of a log, as the frames they become. *dropped*: how many are missing before."""

    __slots__ = ("_envelope", "_named", "data", "dropped", "source")

    def __init__(self, source: str, data: bytes, dropped: int = 0) -> None:
        self.source = source
        self.data = data
        self.dropped = dropped
        self._envelope: Frame | None = None
        self._named: Frame | None = None

    def __repr__(self) -> str:
        return f"<LogPiece {self.source}, {len(self.data)} bytes>"

    def envelope(self) -> Frame:
        """Return the piece as text, in which what is not UTF-8 is replaced."""
        if self._envelope is None:
            text = self.data.decode("utf-8", "replace")
            self._envelope = envelope("logData", {"data": text, "source": self.source})
        return self._envelope

    def named(self) -> Frame:
        """Return the piece in base64, since it may be anything."""
        if self._named is None:
            document = {"data": base64.b64encode(self.data).decode(), "source": self.source}
            self._named = named(
                "logData", {**document, "dropped": self.dropped} if self.dropped else document
            )
        return self._named


def lost(source: str, dropped: int) -> LogPiece:
    """Return what tells a reader that it was too slow."""
    line = b"\n[llmsnap: %d bytes of log dropped, this reader is too slow]\n" % dropped
    return LogPiece(source, line, dropped)


def envelope(kind: str, document: Any) -> Frame:
    """Return the envelope of a *document*."""
    return wrapped(kind, dump(document))


def wrapped(kind: str, document: str) -> Frame:
    """Return the envelope of a document that is JSON already."""
    return Frame(ENVELOPE, dump({"type": kind, "data": document}))


def named(event: str, document: Any, frame_id: str = "") -> Frame:
    """Return a frame that only readers of *event* get."""
    return Frame(event, dump(document), frame_id)


def dump(document: Any) -> str:
    """Return compact JSON."""
    return msgspec.json.encode(document).decode()


def split_utf8(data: bytes) -> tuple[bytes, bytes]:
    """Return *data* without the beginning of a character at its end, and that beginning."""
    for size in range(1, min(4, len(data)) + 1):
        byte = data[-size]
        if byte & 0xC0 == 0x80:  # the inside of a character
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return (data, b"") if needed <= size else (data[:-size], data[-size:])
    return data, b""
