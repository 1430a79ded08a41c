"""Endpoints to look through: what arrived, redirects, any status, and a slow answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from string import ascii_lowercase, ascii_uppercase, digits
from urllib.parse import quote

from llmsnap.simulator.exchange import Refusal, Request, Response, json_response, text_response
from llmsnap.simulator.route import ANY, GET, Route
from llmsnap.simulator.state import State

ALPHANUMERICS = digits + ascii_lowercase + ascii_uppercase
URL_SAFE = "%/:?#[]@!$&'()*+,;=~"
BODILESS = (204, 304)


def root(state: State, request: Request) -> Response:
    """Answer ``/`` with the method and the path."""
    del state
    return text_response(f"{request.method} {request.path}")


def echo(state: State, request: Request) -> Response:
    """Answer ``/echo`` and anything below it with the request as it arrived."""
    del state
    return json_response(request.describe())


def redirect(state: State, request: Request) -> Response:
    """Answer ``/redirect?to=``, with 302 or the ``status`` given."""
    del state
    target = request.query.get("to")
    if not target:
        raise Refusal(400, "the parameter to is missing")
    response = json_response({"to": target}, int(request.number("status", 302)))
    response.headers.append(("Location", quote(target, safe=URL_SAFE)))
    return response


def status(state: State, request: Request) -> Response:
    """Answer ``/status/<code>`` with that code."""
    del state
    text = request.path.removeprefix("/status/")
    if not text.isdecimal() or not 200 <= int(text) <= 999:
        raise Refusal(400, f"not a status to end with: {text}")
    code = int(text)
    return Response(code) if code in BODILESS else json_response({"status": code}, code)


def slow_respond(state: State, request: Request) -> Response:
    """Answer ``/slow-respond``: the text ``echo``, one character per ``delay``."""
    del state
    text = request.text("echo") or ALPHANUMERICS
    delay = request.seconds("delay") if "delay" in request.query else 0.1
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    return Response(200, headers, _slowly(request, text, delay), streamed=True)


def _slowly(request: Request, text: str, delay_s: float) -> Iterator[bytes]:
    for character in text:
        request.client.wait(delay_s)
        yield character.encode("utf-8", "replace")


def test(state: State, request: Request) -> Response:
    """Answer ``/test`` with the text of --respond, or "hi"."""
    del request
    return text_response(state.options.respond or "hi")


def env(state: State, request: Request) -> Response:
    """Answer ``/env`` with that text and the environment."""
    del request
    lines = [state.options.respond or "hi", *(f"{key}={os.environ[key]}" for key in os.environ)]
    return text_response("\n".join(lines) + "\n")


ROUTES = (
    Route("/", root, ANY),
    Route("/echo", echo, ANY),
    Route("/echo/", echo, ANY),
    Route("/redirect", redirect, ANY),
    Route("/status/", status, ANY),
    Route("/slow-respond", slow_respond, ("GET",)),
    Route("/test", test, GET),
    Route("/env", env, GET),
)
