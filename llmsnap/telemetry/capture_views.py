"""Captures as the API shows them: the published object, a curl command, a HAR document."""

from __future__ import annotations

import base64
import shlex
from datetime import UTC, datetime
from typing import Any

from llmsnap import __version__
from llmsnap.telemetry.capture import Body, Capture

SCHEMA_VERSION = 1
_NOT_FOR_CURL = frozenset({"host", "content-length", "connection", "accept-encoding"})


def capture_object(capture: Capture) -> dict[str, Any]:
    """Return the published shape, bodies in base64, and the fields that came later."""
    return {
        "id": capture.id,
        "req_path": capture.req_path,
        "req_headers": capture.req_headers,
        "req_body": _base64(capture.req_body),
        "resp_headers": capture.resp_headers,
        "resp_body": _base64(capture.resp_body),
        "method": capture.method,
        "status": capture.status,
        "req_body_omitted": capture.req_body.omitted or None,
        "resp_body_omitted": capture.resp_body.omitted or None,
        "schema_version": SCHEMA_VERSION,
    }


def capture_curl(capture: Capture, base_url: str) -> str:
    """Return a command line that sends the request again to *base_url*.

    Secrets stay ``[REDACTED]``; what was not kept is said in a comment.
    """
    words = [f"curl -X {shlex.quote(capture.method)} {shlex.quote(base_url + capture.req_path)}"]
    for name, value in capture.req_headers.items():
        if name.lower() not in _NOT_FOR_CURL:
            words.append(f"-H {shlex.quote(f'{name}: {value}')}")
    body = capture.req_body.content()
    source = ""
    if body and _fits_a_word(body):
        words.append(f"--data-binary {shlex.quote(body.decode())}")
    elif body:
        source = f"echo {_base64(capture.req_body)} | base64 -d | "
        words.append("--data-binary @-")
    command = source + " \\\n  ".join(words) + "\n"
    if capture.req_body.omitted:
        command = f"# The body is missing: {capture.req_body.omitted}\n{command}"
    return command


def capture_har(capture: Capture, base_url: str) -> dict[str, Any]:
    """Return a HAR 1.2 document with this one entry."""
    started = datetime.fromtimestamp(capture.started_ms / 1000, UTC).isoformat()
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "llmsnap", "version": __version__},
            "entries": [
                {
                    "startedDateTime": started,
                    "time": capture.duration_ms,
                    "request": _har_request(capture, base_url),
                    "response": _har_response(capture),
                    "cache": {},
                    "timings": {"send": 0, "wait": capture.duration_ms, "receive": 0},
                }
            ],
        }
    }


def _har_request(capture: Capture, base_url: str) -> dict[str, Any]:
    _, _, query = capture.req_path.partition("?")
    parameters = [part.partition("=") for part in query.split("&") if part]
    request: dict[str, Any] = {
        "method": capture.method,
        "url": base_url + capture.req_path,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _har_headers(capture.req_headers),
        "queryString": [{"name": name, "value": value} for name, _, value in parameters],
        "headersSize": -1,
        "bodySize": capture.req_body.size,
    }
    if capture.req_body.data:
        text, encoding = _text(capture.req_body)
        post = {"mimeType": _content_type(capture.req_headers), "text": text}
        request["postData"] = {**post, "comment": encoding} if encoding else post
    return request


def _har_response(capture: Capture) -> dict[str, Any]:
    text, encoding = _text(capture.resp_body)
    content: dict[str, Any] = {
        "size": capture.resp_body.size,
        "mimeType": _content_type(capture.resp_headers),
        "text": text,
    }
    if encoding:
        content["encoding"] = encoding
    if capture.resp_body.omitted:
        content["comment"] = capture.resp_body.omitted
    return {
        "status": capture.status,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _har_headers(capture.resp_headers),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": capture.resp_body.size,
    }


def _har_headers(headers: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def _content_type(headers: dict[str, str]) -> str:
    types = (value for name, value in headers.items() if name.lower() == "content-type")
    return next(types, "application/octet-stream")


def _base64(body: Body) -> str:
    return base64.b64encode(body.content()).decode("ascii")


def _text(body: Body) -> tuple[str, str]:
    """Return a body as (text, encoding), which is "" for plain text."""
    try:
        return body.content().decode("utf-8"), ""
    except UnicodeDecodeError:
        return _base64(body), "base64"


def _fits_a_word(body: bytes) -> bool:
    """Tell whether a shell word can carry the body, and curl takes it for data (not ``@file``)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not text.startswith("@") and "\0" not in text
