"""Runs the sleep or wake endpoints of a server, in order."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from llmsnap.config.settings import Endpoint
from llmsnap.errors import ProcessError, UpstreamError
from llmsnap.upstream.control import Address, Call, send
from llmsnap.upstream.interrupt import Interrupt
from llmsnap.wire.secrets import masked

log = logging.getLogger(__name__)

IS_SLEEPING = Call("GET", "/is_sleeping", limit_s=2.0)  # vLLM, docs "Sleep Mode"


def run_endpoints(
    what: str,
    endpoints: Sequence[Endpoint],
    address: Address,
    interrupt: Interrupt,
    error_class: type[ProcessError],
) -> None:
    """Call each endpoint under its own timeout; any 2xx is success. Blocks.

    Raises: *error_class* naming the step and the cause; what *interrupt* raises.
    """
    for step, endpoint in enumerate(endpoints, 1):
        call = Call(endpoint.method, endpoint.endpoint, endpoint.body, endpoint.timeout_s)
        place = f"{what} step {step} of {len(endpoints)}"
        try:
            status, _ = interrupt.call(what, lambda c=call: send(address, c))  # type: ignore[misc]
        except UpstreamError as error:
            raise error_class(f"{place} failed", detail=f": {masked(str(error))}") from error
        if not 200 <= status < 300:
            detail = f": {masked(f'{call.method} {call.path}')} answered {status}"
            raise error_class(f"{place} failed", detail=detail)


def is_sleeping(address: Address, interrupt: Interrupt) -> bool | None:
    """Ask the server whether it sleeps; None when it cannot tell. Blocks."""
    try:
        status, body = interrupt.call("is_sleeping", lambda: send(address, IS_SLEEPING))
        answer = json.loads(body) if 200 <= status < 300 else None
    except (UpstreamError, ValueError) as error:
        log.debug("is_sleeping: %s", error)
        return None
    value = answer.get("is_sleeping") if isinstance(answer, dict) else None
    return value if isinstance(value, bool) else None
