"""One request and its response: client connection, forms, content codings."""

from __future__ import annotations

import json
import re
import socket as stdlib_socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesParser
from functools import cached_property
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl

import gevent
from gevent import socket


class ClientLeft(Exception):
    """The client closed its connection before the answer was complete."""


class ClientSocket:
    """The client's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def wait(self, seconds: float) -> None:
        """Wait *seconds*. Raises ClientLeft as soon as the client disconnects. Blocks."""
        if seconds <= 0:
            gevent.sleep(0)
            return
        until = monotonic() + seconds
        if not self._readable(seconds):
            return
        if self._at_end():
            raise ClientLeft
        # A pipelined request is buffered, so a disconnect cannot be detected.
        gevent.sleep(max(until - monotonic(), 0))

    def wait_forever(self) -> None:
        """Block until the client disconnects, then raise ClientLeft."""
        while True:
            self.wait(3600)

    def hang_up(self) -> None:
        """Close the connection in the middle of the response, as a crash would."""
        with suppress(OSError):
            self._socket.shutdown(stdlib_socket.SHUT_RDWR)

    def _readable(self, timeout_s: float) -> bool:
        try:
            socket.wait_read(self._socket.fileno(), timeout=timeout_s)
        except TimeoutError:
            return False
        return True

    def _at_end(self) -> bool:
        try:
            return self._socket.recv(1, stdlib_socket.MSG_PEEK) == b""
        except OSError:
            return True


Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_FALSE = frozenset({"", "0", "false", "no", "none"})
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s|m|h)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Refusal(Exception):
    """An error response: its status and message."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


class SimRequest:
    """A request whose body has been read."""

    def __init__(self, environ: Json) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        self.target: str = environ["sim.target"]
        self.headers: list[tuple[str, str]] = environ["sim.headers"]
        self.query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        self.client = ClientSocket(environ["sim.socket"])
        self.stream = environ["wsgi.input"]
        self.body: bytes = _read(environ)

    def header(self, name: str, default: str = "") -> str:
        """Return the first value of header *name*, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), default)

    @cached_property
    def json(self) -> Json:
        """Return the body as a JSON object. Raises Refusal 400 if it is not one."""
        try:
            value = json.loads(self.body)
        except ValueError as exc:
            raise Refusal(400, f"the body is not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not a JSON object")
        return value

    @cached_property
    def _settings(self) -> Json:
        """The members of a JSON body, overridden by query parameters."""
        try:
            return {**self.json, **self.query}
        except Refusal:
            return dict(self.query)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return member or parameter *name*. Raises Refusal 400 unless it is a number >= 0."""
        value = self._settings.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise Refusal(400, f"{name} is not a number of at least 0: {value!r}")
        return number

    def flag(self, name: str) -> bool:
        """Return whether *name* is set and not false, 0, none or empty."""
        return is_true(self.text(name))

    @property
    def wants_stream(self) -> bool:
        """Whether the response is a stream; ``sim_whole`` simulates a server without streaming."""
        return self.flag("stream") and not self.flag("sim_whole")

    def text(self, name: str, default: str = "") -> str:
        """Return member or parameter *name* as text."""
        value = self._settings.get(name)
        return default if value is None else str(value)

    def seconds(self, name: str) -> float:
        """Return duration *name* (``1.5``, ``100ms``) in seconds. Raises Refusal 400 if invalid."""
        text = self.text(name, "0")
        match = _DURATION.fullmatch(text)
        if match is None:
            raise Refusal(400, f"{name} is not a duration: {text!r}")
        return float(match[1]) * _UNITS[match[2] or "s"]

    def describe(self, body_limit: int | None = None) -> Json:
        """Return the request as received, to test a proxy in between."""
        return {
            "method": self.method,
            "target": self.target,
            "path": self.path,
            "query": self.query,
            "headers": [list(pair) for pair in self.headers],
            "body": self.body[:body_limit].decode("utf-8", "replace"),
            "body_bytes": len(self.body),
        }


def _read(environ: Json) -> bytes:
    stream = environ["wsgi.input"]
    if environ["wsgi.input_terminated"]:
        body: bytes = stream.read()
    else:  # an upgrade: the bytes after the body belong to the next protocol
        body = stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


@dataclass(slots=True)
class SimResponse:
    """A status, headers, and a body as the chunks in which it is sent."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Iterable[bytes] = ()
    streamed: bool = False


def dump(value: object) -> bytes:
    """Return *value* as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def json_response(value: object, status: int = 200) -> SimResponse:
    """Return *value* as a JSON response."""
    return data_response(dump(value), "application/json", status)


def text_response(text: str, status: int = 200) -> SimResponse:
    """Return *text* as a plain-text response."""
    return data_response(text.encode("utf-8", "replace"), "text/plain; charset=utf-8", status)


def data_response(data: bytes, content_type: str, status: int = 200) -> SimResponse:
    """Return *data* as a response of known length."""
    headers = [("Content-Type", content_type), ("Content-Length", str(len(data)))]
    return SimResponse(status, headers, [data])


def event_stream(frames: Iterable[bytes]) -> SimResponse:
    """Return *frames* as a stream of server-sent events."""
    headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    return SimResponse(200, headers, frames, streamed=True)


def sse(value: object, event: str = "") -> bytes:
    """Return one server-sent event that carries *value* as JSON."""
    head = f"event: {event}\n".encode() if event else b""
    return b"%sdata: %s\n\n" % (head, dump(value))


def is_true(text: str) -> bool:
    """Return whether *text* is not false, 0, none or empty."""
    return text.lower() not in _FALSE


def mapping(value: object) -> Json:
    """Return *value* if it is a JSON object, else an empty dict."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Json]:
    """Return the JSON objects in the list *value*; empty if it is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


# Requested name -> Content-Encoding, and zlib's window bits for that format.
_CODINGS = {"gzip": ("gzip", 31), "deflate": ("deflate", 15), "raw-deflate": ("deflate", -15)}


def encode(response: SimResponse, coding: str) -> SimResponse:
    """Return *response* in *coding*, flushed after each chunk. Raises Refusal 400."""
    if coding not in _CODINGS:
        raise Refusal(400, f"sim_encoding is not one of {', '.join(_CODINGS)}: {coding}")
    name, window_bits = _CODINGS[coding]
    headers = [pair for pair in response.headers if pair[0] != "Content-Length"]
    headers.append(("Content-Encoding", name))
    body: Iterable[bytes] = _compress(response.body, window_bits)
    if not response.streamed:
        body = [b"".join(body)]
        headers.append(("Content-Length", str(len(body[0]))))
    return replace(response, headers=headers, body=body)


def _compress(chunks: Iterable[bytes], window_bits: int) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=window_bits)
    for chunk in chunks:
        yield packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


@dataclass(frozen=True, slots=True)
class SimFormPart:
    """One field of a form; *filename* is empty unless it is a file."""

    name: str
    filename: str
    content_type: str
    data: bytes

    @property
    def text(self) -> str:
        """The data as text."""
        return self.data.decode("utf-8", "replace")


def parse_form(request: SimRequest) -> list[SimFormPart]:
    """Return the parts of *request* in order. Raises Refusal 400 if it is not a form."""
    head = Message()
    head["Content-Type"] = request.header("Content-Type")
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise Refusal(400, "the body is not multipart/form-data")
    # The first delimiter has no line break before it.
    pieces = (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Refusal(400, "the multipart body is cut short")
    return [_part(piece) for piece in pieces[1:-1]]


def form_field(parts: list[SimFormPart], name: str) -> str:
    """Return the text of the first field *name*; empty if absent."""
    return next((part.text for part in parts if part.name == name and not part.filename), "")


def form_file(parts: list[SimFormPart], *names: str) -> SimFormPart:
    """Return the first file field with one of *names*. Raises Refusal 400 if absent."""
    for part in parts:
        if part.name in names and part.filename:
            return part
    raise Refusal(400, f"the file {names[0]} is missing")


def _part(piece: bytes) -> SimFormPart:
    head, separator, data = piece.partition(b"\r\n\r\n")
    if not separator:
        raise Refusal(400, "a part of the form has no headers")
    headers = BytesParser().parsebytes(head.lstrip(b"\r\n"), headersonly=True)
    name = headers.get_param("name", "", header="Content-Disposition")
    return SimFormPart(str(name), headers.get_filename(""), headers.get_content_type(), data)
