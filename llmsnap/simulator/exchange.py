"""One request and its response, without a framework."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from llmsnap.simulator.client import Client

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_FALSE = frozenset({"", "0", "false", "no", "none"})
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s|m|h)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Refusal(Exception):
    """An answer that is an error: its status, and what to say."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


class Request:
    """A request whose body has been read."""

    def __init__(self, environ: Json) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        self.target: str = environ["sim.target"]
        self.headers: list[tuple[str, str]] = environ["sim.headers"]
        self.query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        self.client = Client(environ["sim.socket"])
        self.stream = environ["wsgi.input"]
        self.body: bytes = _read(environ)

    def header(self, name: str, default: str = "") -> str:
        """Return the first value of header *name*, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), default)

    @cached_property
    def json(self) -> Json:
        """The body as a JSON object. Raises Refusal 400 when it is none."""
        try:
            value = json.loads(self.body)
        except ValueError as exc:
            raise Refusal(400, f"the body is not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not a JSON object")
        return value

    @cached_property
    def _settings(self) -> Json:
        """The members of a JSON body, and the query, which wins."""
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
        """Tell whether *name* is set and neither false, nor 0, nor none, nor empty."""
        return is_true(self.text(name))

    @property
    def wants_stream(self) -> bool:
        """Whether the answer is a stream: ``sim_whole`` stands for a server that has none."""
        return self.flag("stream") and not self.flag("sim_whole")

    def text(self, name: str, default: str = "") -> str:
        """Return member or parameter *name* as text."""
        value = self._settings.get(name)
        return default if value is None else str(value)

    def seconds(self, name: str) -> float:
        """Return duration *name*: ``1.5`` or ``100ms``. Raises Refusal 400 when it is none."""
        text = self.text(name, "0")
        match = _DURATION.fullmatch(text)
        if match is None:
            raise Refusal(400, f"{name} is not a duration: {text!r}")
        return float(match[1]) * _UNITS[match[2] or "s"]

    def describe(self, body_limit: int | None = None) -> Json:
        """Return what arrived, for those who test a proxy in between."""
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
    else:  # an upgrade: what follows the body belongs to the next protocol
        body = stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


@dataclass(slots=True)
class Response:
    """A status, headers, and the body in the chunks it is sent in."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Iterable[bytes] = ()
    streamed: bool = False


def dump(value: object) -> bytes:
    """Return *value* as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def json_response(value: object, status: int = 200) -> Response:
    """Return *value* as a JSON answer."""
    return data_response(dump(value), "application/json", status)


def text_response(text: str, status: int = 200) -> Response:
    """Return *text* as a plain answer."""
    return data_response(text.encode("utf-8", "replace"), "text/plain; charset=utf-8", status)


def data_response(data: bytes, content_type: str, status: int = 200) -> Response:
    """Return *data* as an answer of a known length."""
    headers = [("Content-Type", content_type), ("Content-Length", str(len(data)))]
    return Response(status, headers, [data])


def event_stream(frames: Iterable[bytes]) -> Response:
    """Return *frames* as a stream of server-sent events."""
    headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    return Response(200, headers, frames, streamed=True)


def sse(value: object, event: str = "") -> bytes:
    """Return one server-sent event that carries *value* as JSON."""
    head = f"event: {event}\n".encode() if event else b""
    return b"%sdata: %s\n\n" % (head, dump(value))


def is_true(text: str) -> bool:
    """Tell whether *text* is neither false, nor 0, nor none, nor empty."""
    return text.lower() not in _FALSE


def mapping(value: object) -> Json:
    """Return *value* if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Json]:
    """Return the JSON objects of list *value*, none if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
