"""One request and its response, without a framework."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from llmsnap.simulator.client import Client

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error: its status, and what to say."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


class Request:
    """A request whose body has been read."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        self.target: str = environ["sim.target"]
        self.headers: list[tuple[str, str]] = environ["sim.headers"]
        self.query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        self.client = Client(environ["sim.socket"])
        self.stream = environ["wsgi.input"]
        upgrade = environ.get("HTTP_UPGRADE")
        self.body: bytes = b"" if upgrade else self.stream.read()

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
        """Where the ``sim_`` overrides of this request stand: the query wins over the body."""
        try:
            return {**self.json, **self.query}
        except Refusal:
            return dict(self.query)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return override *name* as a number. Raises Refusal 400 when it is none."""
        value = self._settings.get(name)
        if value is None:
            return default
        try:
            return float(value)
        except (TypeError, ValueError) as exc:
            raise Refusal(400, f"{name} is not a number: {value!r}") from exc

    def flag(self, name: str) -> bool:
        """Tell whether *name* is set and neither false, nor 0, nor empty."""
        return str(self._settings.get(name, "")).lower() not in {"", "0", "false", "no", "none"}

    def text(self, name: str, default: str = "") -> str:
        """Return *name* as text."""
        value = self._settings.get(name)
        return default if value is None else str(value)

    def describe(self) -> Json:
        """Return what arrived, for those who test a proxy in between."""
        return {
            "method": self.method,
            "target": self.target,
            "path": self.path,
            "query": self.query,
            "headers": [list(pair) for pair in self.headers],
            "body": self.body.decode("utf-8", "replace"),
            "body_bytes": len(self.body),
        }


@dataclass(slots=True)
class Response:
    """A status, headers, and the body in the chunks it is sent in."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Iterable[bytes] = ()
    streamed: bool = False


def dump(value: object) -> bytes:
    """Return *value* as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_response(value: object, status: int = 200) -> Response:
    """Return *value* as a JSON answer."""
    return data_response(dump(value), "application/json", status)


def text_response(text: str, status: int = 200) -> Response:
    """Return *text* as a plain answer."""
    return data_response(text.encode(), "text/plain; charset=utf-8", status)


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


DONE = b"data: [DONE]\n\n"
