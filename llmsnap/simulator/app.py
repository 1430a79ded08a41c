"""The WSGI application: finds the route, applies what every request is subject to, logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from time import monotonic
from typing import Any

from llmsnap.simulator import openai, probes, vllm
from llmsnap.simulator.client import ClientGone
from llmsnap.simulator.exchange import Refusal, Request, Response, json_response
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State

CLIENT_GONE = 499
ROUTES: tuple[Route, ...] = (*openai.ROUTES, *vllm.ROUTES, *probes.ROUTES)


class App:
    """Answers requests out of *state*."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._routes = {route.path: route for route in ROUTES}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        visit = _Visit(self.state, request)
        try:
            response = self._answer(request, visit)
        except ClientGone:
            response = Response(CLIENT_GONE, [("Content-Length", "0"), ("Connection", "close")])
        except Refusal as refusal:
            response = _error(refusal)
        visit.response = response
        start_response(_status_line(response.status), response.headers)
        return visit

    def _answer(self, request: Request, visit: _Visit) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            raise Refusal(404, f"no such path: {request.path}", "not_found_error")
        if request.method not in route.methods:
            raise Refusal(405, f"{request.path} takes {', '.join(route.methods)}")
        if route.inference:
            visit.begin_inference()
            self._admit(request)
        return route.handler(self.state, request)

    def _admit(self, request: Request) -> None:
        probes.require_loaded(self.state)
        if self.state.asleep:
            raise Refusal(503, "the model is asleep", "unavailable_error")
        if self.state.options.hang:
            request.client.wait_forever()


class _Visit:
    """The body of one answer: counts the request while it lasts, logs it at its end."""

    def __init__(self, state: State, request: Request) -> None:
        self.response = Response()
        self._state = state
        self._request = request
        self._began = monotonic()
        self._inference = False
        self._complete = False

    def begin_inference(self) -> None:
        """Count the request among those in flight until ``close``."""
        self._inference = True
        self._state.requests += 1
        self._state.in_flight += 1

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.response.body
        except ClientGone:
            return
        self._complete = self.response.status != CLIENT_GONE

    def close(self) -> None:
        """Count and log the end of the request, complete or not."""
        state, request = self._state, self._request
        state.in_flight -= self._inference
        state.gone += not self._complete
        if not state.options.silent:
            took_ms = (monotonic() - self._began) * 1000
            outcome = "" if self._complete else ", client gone"
            line = f"{request.method} {request.path} {self.response.status} {took_ms:.1f} ms"
            state.write_line(line + outcome)


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Status {status}"


def _error(refusal: Refusal) -> Response:
    error = {"message": refusal.message, "type": refusal.kind, "code": refusal.status}
    return json_response({"error": error}, refusal.status)
