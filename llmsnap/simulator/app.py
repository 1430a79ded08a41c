"""The WSGI application: routes requests, applies options common to all of them, and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from time import monotonic

from llmsnap.simulator import anthropic, llamacpp, media, openai, probes, slots, vllm, websocket
from llmsnap.simulator.exchange import (
    ClientLeft,
    Json,
    Refusal,
    SimRequest,
    SimResponse,
    encode,
    json_response,
)
from llmsnap.simulator.routes import Route, Routes, admit
from llmsnap.simulator.state import SimState, cut

CLIENT_GONE = 499
SWITCHING_PROTOCOLS = 101
KEPT_BODY_BYTES = 16 << 10
ROUTES: tuple[Route, ...] = (
    *openai.ROUTES,
    *anthropic.ROUTES,
    *llamacpp.ROUTES,
    *slots.ROUTES,
    *vllm.ROUTES,
    *media.ROUTES,
    *websocket.ROUTES,
    *probes.ROUTES,
)


class App:
    """Answers requests according to *state*."""

    def __init__(self, state: SimState) -> None:
        self.state = state
        self._routes = Routes(ROUTES)

    def __call__(
        self, environ: Json, start_response: Callable[..., Callable[[bytes], object]]
    ) -> Iterable[bytes]:
        """Answer one request."""
        request = SimRequest(environ)
        visit = _Visit(self.state, request)
        visit.response = response = self._answer(request, visit)
        if request.method == "HEAD":
            response.body = ()
        write = start_response(_status_line(response.status), response.headers)
        if response.status == SWITCHING_PROTOCOLS:
            write(b"")  # the client waits for the head before it sends its first frame
        return visit

    def _answer(self, request: SimRequest, visit: _Visit) -> SimResponse:
        try:
            return self._shape(request, self._respond(request, visit))
        except ClientLeft:
            return SimResponse(CLIENT_GONE, [("Content-Length", "0"), ("Connection", "close")])
        except Refusal as refusal:
            return _error(request, refusal)

    def _respond(self, request: SimRequest, visit: _Visit) -> SimResponse:
        route = self._routes.find(request.method, request.path)
        if not request.path.startswith(("/sim/", "/health")):
            self.state.recent.append(request.describe(KEPT_BODY_BYTES))
        if route.inference:
            visit.begin_inference()
            admit(self.state, request)
        return route.handler(self.state, request)

    def _shape(self, request: SimRequest, response: SimResponse) -> SimResponse:
        """Compress or break off *response* as the request and the options specify."""
        coding = request.text("sim_encoding")
        if coding:
            response = encode(response, coding)
        if response.streamed:
            limit = int(request.number("sim_break", self.state.options.break_stream_after))
            if limit:
                response.body = cut(self.state, request.client, response.body, limit)
        return response


class _Visit:
    """The body of one response: counts the request while in flight, and logs its end."""

    def __init__(self, state: SimState, request: SimRequest) -> None:
        self.response = SimResponse()
        self._state = state
        self._request = request
        self._began = monotonic()
        self._inference = False
        self._complete = False

    def begin_inference(self) -> None:
        """Count the request among those in flight until ``close``."""
        self._inference = True
        self._state.begin_inference()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.response.body
        except ClientLeft:
            return
        self._complete = self.response.status != CLIENT_GONE

    def close(self) -> None:
        """Record and log the end of the request, complete or not."""
        state = self._state
        state.gone += not self._complete
        if not state.options.silent:
            state.write_line(self._line())
        if self._inference:
            state.end_inference()

    def _line(self) -> str:
        took_ms = (monotonic() - self._began) * 1000
        ending = "" if self._complete else ", client gone"
        # The raw path, so that no decoded line break gets in, without the query and its secrets.
        path = self._request.target.partition("?")[0]
        return f"{self._request.method} {path} {self.response.status} {took_ms:.1f} ms{ending}"


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Status {status}"


def _error(request: SimRequest, refusal: Refusal) -> SimResponse:
    error: Json = {"type": refusal.kind, "message": refusal.message}
    if request.path.startswith("/v1/messages"):
        return json_response({"type": "error", "error": error}, refusal.status)
    return json_response({"error": {**error, "code": refusal.status}}, refusal.status)
