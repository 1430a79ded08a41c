"""The simulator's own endpoints: look at its state, and change its options while it runs."""

from __future__ import annotations

from dataclasses import replace

from llmsnap.simulator.exchange import Json, Refusal, Request, Response, json_response
from llmsnap.simulator.options import CHANGEABLE
from llmsnap.simulator.route import GET, Route
from llmsnap.simulator.state import State


def sim_state(state: State, request: Request) -> Response:
    """Answer ``/sim/state``."""
    del request
    return json_response(state.describe())


def sim_requests(state: State, request: Request) -> Response:
    """Answer ``/sim/requests``: the last ones, oldest first."""
    del request
    return json_response(list(state.recent))


def sim_options(state: State, request: Request) -> Response:
    """Answer ``/sim/options``: take the values of the body, all or none."""
    state.options = replace(state.options, **_checked(state, request.json))
    return json_response({name: getattr(state.options, name) for name in CHANGEABLE})


def _checked(state: State, values: Json) -> Json:
    return {name: _convert(state, name, value) for name, value in values.items()}


def _convert(state: State, name: str, value: object) -> object:
    if name not in CHANGEABLE:
        raise Refusal(400, f"{name} is not one of {', '.join(CHANGEABLE)}")
    kind = type(getattr(state.options, name))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind in {int, float} and not value >= 0):  # type: ignore[operator]
        raise Refusal(400, f"{name} wants a {kind.__name__}, not {value!r}")
    return value


ROUTES = (
    Route("/sim/state", sim_state, GET),
    Route("/sim/requests", sim_requests, GET),
    Route("/sim/options", sim_options),
)
