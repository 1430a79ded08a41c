"""Bodies that do not end by themselves: a feed, a log. Each unsubscribes when it is closed."""

from __future__ import annotations

from collections.abc import Iterator

from llmsnap.logs.subscription import Chunk, Subscription
from llmsnap.web.feed import Feed, Frame
from llmsnap.wire import sse

HEARTBEAT_S = 15.0


class FeedBody:
    """A feed as server-sent events."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        frames = self._feed.wait(HEARTBEAT_S)
        if self._feed.is_over:
            raise StopIteration
        return b"".join(map(encode, frames)) or sse.comment("heartbeat")

    def close(self) -> None:
        """Unsubscribe."""
        self._feed.close()


class LogBody:
    """A log as plain text: what is there, then what comes."""

    def __init__(self, history: bytes, reader: Subscription) -> None:
        self._history = history
        self._reader = reader

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._history:
            history, self._history = self._history, b""
            return self._encode(Chunk(history, self._reader.position))
        while True:
            chunk = self._reader.get(HEARTBEAT_S)
            if chunk is not None:
                return self._encode(chunk)
            if self._reader.closed:
                raise StopIteration
            if beat := self._heartbeat():
                return beat

    def close(self) -> None:
        """Unsubscribe."""
        self._reader.close()

    def end(self) -> None:
        """Have the reader stop. Never switches."""
        self._reader.close()

    def _encode(self, chunk: Chunk) -> bytes:
        return chunk.data

    def _heartbeat(self) -> bytes:
        return b""


class LogEvents(LogBody):
    """A log as server-sent events: a frame for some lines, its id the position behind them."""

    def _encode(self, chunk: Chunk) -> bytes:
        text = chunk.data.decode("utf-8", "replace").removesuffix("\n")
        return sse.encode(text, event_id=str(chunk.end))

    def _heartbeat(self) -> bytes:
        return sse.comment("heartbeat")


def encode(frame: Frame) -> bytes:
    """Return a frame as server-sent event; envelopes byte for byte as published."""
    if frame.event == "message":
        return sse.message(frame.data)
    return sse.encode(frame.data, frame.event, frame.id)
