"""What an inference request must pass before the model sees it."""

from __future__ import annotations

import gevent

from llmsnap.simulator.exchange import Refusal, Request
from llmsnap.simulator.state import State


def require_loaded(state: State) -> None:
    """Raise Refusal 503, in llama-server's words, until the model is loaded."""
    if not state.loaded.is_set():
        raise Refusal(503, "Loading model", "unavailable_error")


def admit(state: State, request: Request) -> None:
    """Let *request* in, refuse it, or keep it for ever, as state, options and request say.

    Blocks: as long as the request asks to be delayed. Raises Refusal, ClientGone.
    """
    require_loaded(state)
    if state.asleep:
        raise Refusal(503, "the model is asleep", "unavailable_error")
    if state.options.hang:
        request.client.wait_forever()
    request.client.wait(request.seconds("sim_delay") + request.seconds("wait"))
    status = int(request.number("sim_status"))
    if status and not 400 <= status <= 599:
        raise Refusal(400, f"sim_status is not the status of an error: {status}")
    if status:
        raise Refusal(status, f"status {status}, as asked for", "simulated_error")


def require_model(state: State, model: str) -> None:
    """Raise Refusal 404 if only the own model is served and *model* is another."""
    if state.options.strict_model and model != state.options.model:
        raise Refusal(404, f"the model {model!r} does not exist", "not_found_error")


def think(state: State, request: Request) -> None:
    """Take the time a prompt takes. Blocks; raises ClientGone."""
    request.client.wait(request.number("sim_prompt_time", state.options.prompt_time))


def work(seconds: float) -> None:
    """Take *seconds* whether or not the client waits for the outcome. Blocks."""
    gevent.sleep(seconds)
