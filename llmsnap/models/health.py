"""Waits until a server that was just started answers its check endpoint."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial

from llmsnap.errors import HealthTimeout, UpstreamError
from llmsnap.http import masked
from llmsnap.launchers import warm_up
from llmsnap.models.control import Address, ControlCall, find_listener, send
from llmsnap.models.progress import LoadProgress
from llmsnap.models.transition import Interrupt

log = logging.getLogger(__name__)

FIRST_LOOK_S = 0.005
"""Seconds between two checks for an open port, each a refused connect of some 50 us."""
FIRST_PAUSE_S = 0.02
"""Seconds between two requests to an open port."""
LAST_PAUSE_S = 0.25
PAUSE_SHARE = 0.03
"""Pauses grow with the time waited, so that polling adds about 1.5 % to a load."""
PROBE_LIMIT_S = 5.0
SHORTEST_PROBE_S = 0.05
UNCHECKED_S = 0.25
"""Without a check endpoint, a server that runs for this many seconds counts as started."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The condition to wait for: *path* answers 2xx; None skips it.

    *limit_s* runs from the last sign of *progress*, *load_limit_s* from the begin (0: no limit).
    """

    model_id: str
    path: str | None
    limit_s: float
    load_limit_s: float = 0.0
    progress: LoadProgress | None = None

    def deadline(self, began: float) -> float:
        """Return when to give up, by the signs of progress so far, on the monotonic clock."""
        sign = began if self.progress is None else max(began, self.progress.check())
        end = began + self.load_limit_s if self.load_limit_s else sign + self.limit_s
        return min(sign + self.limit_s, end)

    def timeout(self, waited_s: float, last: str) -> HealthTimeout:
        """Return the error after *waited_s* seconds; *last* is the last check's result."""
        key = "healthCheckTimeout"
        what = f"not healthy within {self.limit_s:g} s"
        if self.load_limit_s and waited_s >= self.load_limit_s:
            key, what = "loadTimeout", f"not healthy within {self.load_limit_s:g} s"
        elif waited_s >= self.limit_s + 1:
            what = f"not healthy after {waited_s:.0f} s, and no progress for {self.limit_s:g} s"
        return HealthTimeout(
            f"{self.model_id}: {what}", detail=f": {masked(last)}; see its log, or raise {key}"
        )


def wait_healthy(check: HealthCheck, address: Address, interrupt: Interrupt) -> Address:
    """Return *address* with the IP that answered, once the server is healthy. Blocks.

    A check costs one connect until the port is open, and one GET from then on.
    Raises: HealthTimeout; whatever *interrupt* raises when the child exits or the load is aborted.
    """
    path = check.path
    if path is None:
        interrupt.pause(UNCHECKED_S)
        return find_listener(address) or address
    began = time.monotonic()
    warm_up()
    last = f"nothing listened on port {address.port}"
    while True:
        interrupt.check()
        found = find_listener(address)
        if found is not None:
            left_s = max(check.deadline(began) - time.monotonic(), SHORTEST_PROBE_S)
            call = ControlCall("GET", path, limit_s=min(PROBE_LIMIT_S, left_s))
            last = interrupt.call("probe", partial(probe, found, call))
            if not last:
                log.info("<%s> healthy at %s", check.model_id, found.url(path))
                return found
        now = time.monotonic()
        left_s = check.deadline(began) - now
        if left_s <= 0:
            raise check.timeout(now - began, last)
        first_s = FIRST_LOOK_S if found is None else FIRST_PAUSE_S
        interrupt.pause(_pause_s(now - began, left_s, first_s))


def probe(address: Address, call: ControlCall) -> str:
    """Check once; return "" when healthy, else the reason. Blocks."""
    try:
        status, _ = send(address, call)
    except UpstreamError as error:
        return str(error)
    if 300 <= status < 400:
        return (
            f"GET {call.path} answered {status}, a redirect, which is not followed; "
            "set checkEndpoint to where it leads"
        )
    return "" if 200 <= status < 300 else f"GET {call.path} answered {status}"


def _pause_s(waited_s: float, left_s: float, first_s: float) -> float:
    share = PAUSE_SHARE * first_s / FIRST_PAUSE_S
    pause = min(max(first_s, waited_s * share), LAST_PAUSE_S)
    return max(min(pause, left_s), 0.001)
