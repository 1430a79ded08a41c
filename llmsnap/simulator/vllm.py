"""vLLM's control endpoints: sleep, wake and related calls.

Inference is refused from the start of a sleep to the end of a wake.
"""

from __future__ import annotations

from llmsnap.simulator.devices import DeviceFull
from llmsnap.simulator.exchange import Refusal, SimRequest, SimResponse, json_response
from llmsnap.simulator.routes import GET, Route, work
from llmsnap.simulator.state import PARTS, SimState, out_of_memory


def sleep(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sleep?level=1``: free the memory and refuse inference."""
    options = state.options
    level = request.number("level", 1)
    if level not in {0, 1, 2}:
        raise Refusal(400, f"level is not 0, 1 or 2: {level:g}")
    if options.die_on_sleep:
        state.leave(options.exit_code)
    state.fall_asleep(int(level))
    if options.hang_sleep:
        request.client.wait_forever()
    work(options.sleep_time)
    if options.fail_sleep:
        state.awake()
        raise Refusal(500, "sleep failed, as --fail-sleep demands", "internal_error")
    state.release_memory()
    state.write_line(f"asleep, level {level:g}, after {options.sleep_time:g} s")
    return json_response({})


def wake_up(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/wake_up``, for all parts or those in ``tags``."""
    options = state.options
    tags = request.query.get("tags")
    if options.die_on_wake:
        state.leave(options.exit_code)
    work(options.wake_time)
    if options.fail_wake:
        raise Refusal(500, "wake failed, as --fail-wake demands", "internal_error")
    if state.asleep:
        state.corrupted, state.recased = options.corrupt_after_wake, options.recase_after_wake
    try:
        state.awake(frozenset(tags.split(",")) if tags else PARTS)
    except DeviceFull as full:
        for line in out_of_memory(full):
            state.write_line(line)
        raise Refusal(500, "CUDA error: out of memory", "internal_error") from None
    rest = f", {' and '.join(sorted(state.asleep))} still asleep" if state.asleep else ""
    state.write_line(f"awake after {options.wake_time:g} s{rest}")
    return json_response({})


def is_sleeping(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/is_sleeping``."""
    del request
    return json_response({"is_sleeping": bool(state.asleep)})


def collective_rpc(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/collective_rpc`` for ``reload_weights``, which repairs corrupted weights."""
    if request.json.get("method") != "reload_weights":
        raise Refusal(400, "the only method known is reload_weights")
    state.corrupted = False
    state.write_line("weights reloaded")
    return json_response({"results": [None]})


def reset_prefix_cache(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/reset_prefix_cache``, which has no effect."""
    del state, request
    return json_response({})


def wake_up_fail(state: SimState, request: SimRequest) -> SimResponse:
    """Answer 500: a wake endpoint that never works."""
    del state, request
    raise Refusal(500, "this wake always fails", "internal_error")


ROUTES = (
    Route("/sleep", sleep),
    Route("/wake_up", wake_up),
    Route("/wake_up_fail", wake_up_fail),
    Route("/is_sleeping", is_sleeping, GET),
    Route("/collective_rpc", collective_rpc),
    Route("/reset_prefix_cache", reset_prefix_cache),
)
