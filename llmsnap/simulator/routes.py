"""Routing of the simulated server, and the checks before an inference request is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import gevent

from llmsnap.simulator.exchange import Refusal, SimRequest, SimResponse
from llmsnap.simulator.state import SimState

Handler = Callable[[SimState, SimRequest], SimResponse]

GET = ("GET", "HEAD")
POST = ("POST",)
ANY: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its handler and methods, and whether it needs a model loaded and awake.

    A path with a single segment and a trailing slash also matches everything below it.
    """

    path: str
    handler: Handler
    methods: tuple[str, ...] = POST
    inference: bool = False


class Routes:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_key = {(route.path, method): route for route in routes for method in _keys(route)}
        self._paths = {path for path, _ in self._by_key}

    def find(self, method: str, path: str) -> Route:
        """Return the route of *method* and *path*. Raises Refusal 404 or 405."""
        first = path.partition("/")[2].partition("/")[0]
        known = path if path in self._paths else f"/{first}/"
        if known not in self._paths:
            raise Refusal(404, f"no such path: {path}", "not_found_error")
        route = self._by_key.get((known, method)) or self._by_key.get((known, "*"))
        if route is None:
            raise Refusal(405, f"{path} does not take {method}")
        return route


def _keys(route: Route) -> tuple[str, ...]:
    return route.methods or ("*",)


def require_loaded(state: SimState) -> None:
    """Raise Refusal 503, in llama-server's words, until the model is loaded."""
    if not state.loaded.is_set():
        raise Refusal(503, "Loading model", "unavailable_error")


def admit(state: SimState, request: SimRequest) -> None:
    """Admit *request*, reject it or hang, depending on the state, the options and the request.

    Blocks for the delay that the request specifies. Raises Refusal, ClientLeft.
    """
    require_loaded(state)
    if state.asleep:
        raise Refusal(503, "the model is asleep", "unavailable_error")
    if state.options.hang:
        request.client.wait_forever()
    request.client.wait(request.seconds("sim_delay") + request.seconds("wait"))
    if state.options.fail:
        raise Refusal(500, "every request fails, as --fail demands", "internal_error")
    status = int(request.number("sim_status"))
    if status and not 400 <= status <= 599:
        raise Refusal(400, f"sim_status is not the status of an error: {status}")
    if status:
        raise Refusal(status, f"status {status}, as asked for", "simulated_error")


def require_model(state: SimState, model: str) -> None:
    """Raise Refusal 404 for an unknown *model* with ``--strict-model``."""
    if state.options.strict_model and model != state.options.model:
        raise Refusal(404, f"the model {model!r} does not exist", "not_found_error")


def think(state: SimState, request: SimRequest) -> None:
    """Wait for the duration of prompt processing. Blocks; raises ClientLeft."""
    request.client.wait(request.number("sim_prompt_time", state.options.prompt_time))


def work(seconds: float) -> None:
    """Wait *seconds*, even if the client disconnects. Blocks."""
    gevent.sleep(seconds)
