"""Paths of the simulated server, and who answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmsnap.simulator.exchange import Refusal, Request, Response
from llmsnap.simulator.state import State

Handler = Callable[[State, Request], Response]

GET = ("GET", "HEAD")
POST = ("POST",)
ANY: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its handler and methods, and whether it needs a model loaded and awake.

    A path of one name that ends in a slash stands for everything below it as well.
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
        """Return who answers *method* on *path*. Raises Refusal 404 or 405."""
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
