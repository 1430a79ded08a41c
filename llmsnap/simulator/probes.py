"""Endpoints that echo requests, redirect or answer slowly, and that control the simulator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from string import ascii_lowercase, ascii_uppercase, digits
from urllib.parse import quote

from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    SimRequest,
    SimResponse,
    json_response,
    text_response,
)
from llmsnap.simulator.options import CHANGEABLE
from llmsnap.simulator.routes import ANY, GET, Route
from llmsnap.simulator.state import SimState

ALPHANUMERICS = digits + ascii_lowercase + ascii_uppercase
URL_SAFE = "%/:?#[]@!$&'()*+,;=~"
BODILESS = (204, 304)


def root(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/`` with the method and the path."""
    del state
    return text_response(f"{request.method} {request.path}")


def echo(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/echo`` and anything below it with the request as it arrived."""
    del state
    return json_response(request.describe())


def redirect(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/redirect?to=``, with 302 or the ``status`` given."""
    del state
    target = request.query.get("to")
    if not target:
        raise Refusal(400, "the parameter to is missing")
    response = json_response({"to": target}, int(request.number("status", 302)))
    response.headers.append(("Location", quote(target, safe=URL_SAFE)))
    return response


def status(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/status/<code>`` with that code."""
    del state
    text = request.path.removeprefix("/status/")
    if not text.isdecimal() or not 200 <= int(text) <= 999:
        raise Refusal(400, f"not a status to end with: {text}")
    code = int(text)
    return SimResponse(code) if code in BODILESS else json_response({"status": code}, code)


def slow_respond(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/slow-respond``: the text ``echo``, one character per ``delay``."""
    del state
    text = request.text("echo") or ALPHANUMERICS
    delay = request.seconds("delay") if "delay" in request.query else 0.1
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    return SimResponse(200, headers, _slowly(request, text, delay), streamed=True)


def _slowly(request: SimRequest, text: str, delay_s: float) -> Iterator[bytes]:
    for character in text:
        request.client.wait(delay_s)
        yield character.encode("utf-8", "replace")


def test(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/test`` with the text of --respond, or "hi"."""
    del request
    return text_response(state.options.respond or "hi")


def env(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/env`` with that text and the environment."""
    del request
    lines = [state.options.respond or "hi", *(f"{key}={os.environ[key]}" for key in os.environ)]
    return text_response("\n".join(lines) + "\n")


_PROBE_ROUTES = (
    Route("/", root, ANY),
    Route("/echo", echo, ANY),
    Route("/echo/", echo, ANY),
    Route("/redirect", redirect, ANY),
    Route("/status/", status, ANY),
    Route("/slow-respond", slow_respond, ("GET",)),
    Route("/test", test, GET),
    Route("/env", env, GET),
)


def sim_state(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sim/state``."""
    del request
    return json_response(state.describe())


def sim_requests(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sim/requests``: the last requests, oldest first."""
    del request
    return json_response(list(state.recent))


def sim_options(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sim/options``: apply all values of the body, or none if one is invalid."""
    state.options = replace(state.options, **_checked(state, request.json))
    return json_response({name: getattr(state.options, name) for name in CHANGEABLE})


def _checked(state: SimState, values: Json) -> Json:
    return {name: _convert(state, name, value) for name, value in values.items()}


def _convert(state: SimState, name: str, value: object) -> object:
    if name not in CHANGEABLE:
        raise Refusal(400, f"{name} is not one of {', '.join(CHANGEABLE)}")
    kind = type(getattr(state.options, name))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind in {int, float} and not value >= 0):  # type: ignore[operator]
        raise Refusal(400, f"{name} wants a {kind.__name__}, not {value!r}")
    return value


_CONTROL_ROUTES = (
    Route("/sim/state", sim_state, GET),
    Route("/sim/requests", sim_requests, GET),
    Route("/sim/options", sim_options),
)

ROUTES = (*_PROBE_ROUTES, *_CONTROL_ROUTES)
