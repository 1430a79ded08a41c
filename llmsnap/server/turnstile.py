"""Who begins a request at once, and who after the event loop has looked at everybody else."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from gevent import get_hub
from gevent.hub import Waiter

LATE_S = 0.0005
"""How long requests are begun in one pass of the event loop. In a burst of hundreds the others wait
for the next, which looks after the streams, and the answers to those before, in between.
"""
AFTER_SOCKETS = -1
"""The priority of a timer that runs when what the sockets had to say has been done."""


class Turnstile:
    """Lets requests begin, in the order they come, as many in one pass as there is time for.

    ``gevent.sleep(0)`` would not do: gevent runs fifty who are back from that, however long they
    take, before it looks at the sockets again.
    """

    def __init__(self) -> None:
        self._loop: Any = get_hub().loop
        self._held: deque[Any] = deque()
        self._timer: Any = self._loop.timer(0, priority=AFTER_SOCKETS)

    def __repr__(self) -> str:
        return f"<Turnstile, {len(self._held)} wait>"

    def pass_through(self) -> None:
        """Wait for the next pass, if this one has taken long. Switches only then."""
        if self._held or time.time() - self._loop.now() > LATE_S:
            self._wait()

    def close(self) -> None:
        """Let nobody in any more. Never switches."""
        self._timer.close()

    def _wait(self) -> None:
        waiter: Any = Waiter()
        self._held.append(waiter)
        if len(self._held) == 1:
            self._start_timer()
        try:
            waiter.get()
        except BaseException:  # whoever ends it while it waits: nobody is left to be let in
            if waiter in self._held:
                self._held.remove(waiter)
            raise

    def _let_in(self) -> None:
        """Let at least one in. Runs in the hub."""
        until = time.perf_counter() + LATE_S
        while self._held:
            self._held.popleft().switch(None)
            if time.perf_counter() >= until:
                break
        if self._held:
            self._start_timer()

    def _start_timer(self) -> None:
        # Without an update, which would make this pass look as if it had only just begun.
        self._timer.start(self._let_in, update=False)
