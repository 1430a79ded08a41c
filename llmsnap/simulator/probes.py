"""Endpoints to look through: health, what arrived, redirects and any status."""

from __future__ import annotations

from llmsnap.simulator.exchange import Refusal, Request, Response, json_response
from llmsnap.simulator.route import GET, Route
from llmsnap.simulator.state import State


def health(state: State, request: Request) -> Response:
    """Answer ``/health`` as llama-server does: 503 until the model is loaded."""
    del request
    require_loaded(state)
    return json_response({"status": "ok"})


def require_loaded(state: State) -> None:
    """Raise Refusal 503 until the model is loaded."""
    if not state.loaded.is_set():
        raise Refusal(503, "Loading model", "unavailable_error")


def sim_state(state: State, request: Request) -> Response:
    """Answer ``/sim/state``."""
    del request
    return json_response(state.describe())


ROUTES = (
    Route("/health", health, GET),
    Route("/sim/state", sim_state, GET),
)
