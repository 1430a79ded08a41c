"""Reads the answers that come over one connection: httptools (llhttp) finds heads and framing."""

from __future__ import annotations

from typing import Any

import httptools

Headers = list[tuple[str, str]]


class ResponseParser:
    """Collects what httptools tells about one answer after the other; one for each connection."""

    __slots__ = (
        "chunks", "complete", "headers", "http", "in_body", "keep_alive", "on_body", "reason",
    )  # fmt: skip

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        """Pieces of the body that have come; whoever takes them clears the list."""
        self.on_body = self.chunks.append
        self.http: Any = httptools.HttpResponseParser(self)
        self.begin()

    def __repr__(self) -> str:
        state = "complete" if self.complete else "in its body" if self.in_body else "begun"
        return f"<ResponseParser {state}>"

    def begin(self) -> None:
        """Expect a new answer. The one before was read to its end."""
        self.reason = ""
        self.headers: Headers = []
        self.chunks.clear()
        self.in_body = False
        self.complete = False
        self.keep_alive = False

    def release(self) -> None:
        """Let go of httptools, which holds on to us: nothing is read any more."""
        self.http = None

    # --- what httptools calls ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head follows. Raises: ValueError for an answer that nobody asked for."""
        if self.complete:
            raise ValueError("more than one answer")
        self.reason = ""
        self.headers = []

    def on_status(self, status: bytes) -> None:
        """Take the reason phrase."""
        self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The head is over; those of interim (1xx) answers do not count."""
        self.in_body = self.http.get_status_code() >= 200

    def on_message_complete(self) -> None:
        """The answer is over."""
        self.complete = self.in_body  # interim answers are messages of their own
        self.keep_alive = self.http.should_keep_alive()
