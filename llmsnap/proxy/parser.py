"""Parses the responses of upstreams: httptools (llhttp), and repairs of heads that it refuses.

It accepts what RFC 9112 allows in a response and what real servers send; see
docs/adr/0005-upstream-client.md.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from llmsnap.http import Headers

MALFORMED = (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError)
"""What feeding a parser raises for bytes that are not HTTP/1.1."""
MAX_HEAD_BYTES = 1 << 18
"""Limit of a response head, interim responses included. Go's client allows 1 MiB, nginx 4 or 8 KiB.
"""
END_OF_HEAD = re.compile(rb"\n\r?\n")
BLANKS = b" \t"


class ResponseParser:
    """Collects what httptools parses of one response after another; one per connection."""

    __slots__ = (
        "_head", "_is_malformed", "chunks", "complete", "early", "has_length", "headers", "http",
        "in_body", "is_chunked", "keep_alive", "on_body", "reason", "switched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        """Chunks of the body that have been received; the reader clears the list."""
        self.on_body = self.chunks.append
        self.http: Any = self._new_parser()
        self.begin()

    def __repr__(self) -> str:
        state = "complete" if self.complete else "in its body" if self.in_body else "begun"
        return f"<ResponseParser {state}>"

    def _new_parser(self) -> Any:
        """Return a parser that accepts what RFC 9112 sections 6.3 and 7.1.1 allow in a response."""
        http = httptools.HttpResponseParser(self)
        http.set_dangerous_leniencies(
            lenient_chunked_length=True, lenient_spaces_after_chunk_size=True
        )
        return http

    def begin(self) -> None:
        """Reset for the next response; the previous one was read to its end."""
        self.reason = ""
        self.headers: Headers = []
        self.chunks.clear()
        self.in_body = False
        self.complete = False
        self.keep_alive = False
        self.has_length = False
        """Whether the head gives the length of the body, or excludes a body."""
        self.is_chunked = False
        self.switched = False
        """Whether another protocol follows the head; *early* holds its bytes that were read."""
        self.early = b""
        self._head = b""
        self._is_malformed = False

    @property
    def has_begun(self) -> bool:
        """Whether part of a head, or an interim response, was read."""
        return bool(self._head)

    def release(self) -> None:
        """Drop the httptools parser, which refers to this object; nothing is parsed after that."""
        self.http = None

    def feed_head(self, data: bytes) -> None:
        """Parse *data*: the start or continuation of a head, perhaps followed by the body.

        Raises: HttpParserError, ValueError.
        """
        self._head += data
        if not self._is_malformed:
            try:
                self._feed(data)
            except httptools.HttpParserError:
                if self.in_body or not self._head.lstrip(b"\r\n").startswith(b"HTTP/1."):
                    raise
                self._is_malformed = True
        if self._is_malformed and not self.in_body:
            self._repair()
        if self.in_body:
            self._head = b""
        elif len(self._head) > MAX_HEAD_BYTES:
            raise ValueError(f"the head of its answer is longer than {MAX_HEAD_BYTES} bytes")

    def _feed(self, data: bytes) -> None:
        try:
            self.http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.in_body = self.switched = True
            self.early = data[upgrade.args[0] :]

    def _repair(self) -> None:
        """Parse the repaired head as soon as it is complete."""
        self._head = self._head.lstrip(b"\r\n")
        while (end := END_OF_HEAD.search(self._head)) is not None:
            head, rest = self._head[: end.start()], self._head[end.end() :]
            self._head = rest.lstrip(b"\r\n")  # another head follows, if that was an interim one
            self.http = self._new_parser()
            self._feed(mended(head))
            if self.switched:
                self.early = rest
                return
            if self.in_body:
                self._feed(rest)
                return

    # --- callbacks of httptools ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Reset the head fields. Raises: ValueError for a response without a request."""
        if self.complete:
            raise ValueError("more than one answer")
        self.reason = ""
        self.headers = []

    def on_status(self, status: bytes) -> None:
        """Store the reason phrase."""
        self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header; one after the body is a trailer, and is dropped."""
        if not self.in_body:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Evaluate the complete head; heads of interim (1xx) responses are ignored.

        Raises: ValueError for a transfer coding other than chunked.
        """
        status = self.http.get_status_code()
        if status < 200:
            return
        self.in_body = True
        self.has_length = status in {204, 304}
        for name, value in self.headers:
            lower = name.lower()
            if lower == "content-length":
                self.has_length = True
            elif lower == "transfer-encoding":
                if value.strip().lower() != "chunked":
                    raise ValueError(f"Transfer-Encoding {value!r} is not supported")
                self.is_chunked = True
        if self.is_chunked and self.has_length:
            # RFC 9112 section 6.3: the length is ignored, and must not be forwarded.
            self._is_malformed = True
            self.has_length = False
            self.headers = [one for one in self.headers if one[0].lower() != "content-length"]

    def on_message_complete(self) -> None:
        """Mark the response as complete. A connection with a malformed response is not reused."""
        self.complete = self.in_body  # interim responses are messages of their own
        self.keep_alive = self.http.should_keep_alive() and not self._is_malformed


def mended(head: bytes) -> bytes:
    """Return *head*, without the blank line at its end, with known defects repaired.

    RFC 9112: lines may end in LF alone (2.2), blanks before the colon are removed (5.1), folded
    lines are joined (5.2). RFC 9110 8.6: repeated, equal values of Content-Length count as one.
    Raises: ValueError for a malformed or ambiguous head.
    """
    status, *lines = (line.removesuffix(b"\r") for line in head.split(b"\n"))
    fields: list[tuple[bytes, bytes]] = []
    length: bytes | None = None
    for line in _unfolded(lines):
        name, colon, value = line.partition(b":")
        name, value = name.rstrip(BLANKS), value.strip(BLANKS)
        if not colon:
            raise ValueError(f"a line of its head has no colon: {line[:80]!r}")
        if name.lower() == b"content-length":
            lengths = {one.strip(BLANKS) for one in value.split(b",")}
            if length is not None:
                lengths.add(length)
            if len(lengths) > 1:
                raise ValueError(f"Content-Length has two values: {_both(lengths)}")
            if length is not None:
                continue
            length = value = lengths.pop()
        if name:
            fields.append((name, value))
    return b"\r\n".join([status, *(b"%b: %b" % field for field in fields), b"", b""])


def _unfolded(lines: list[bytes]) -> list[bytes]:
    whole: list[bytes] = []
    for line in lines:
        if line[:1] not in {b" ", b"\t"}:
            whole.append(line)
        elif whole:
            whole[-1] = whole[-1].rstrip(BLANKS) + b" " + line.strip(BLANKS)
        else:
            raise ValueError("the first header of its head begins with a blank")
    return whole


def _both(lengths: set[bytes]) -> str:
    return " and ".join(sorted(repr(one.decode("latin-1")) for one in lengths))
