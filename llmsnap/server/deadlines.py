"""Limits of clients: timeouts, which connection is evicted first, how fast requests start.

All clients that wait for the same thing have the same limit, so the oldest is always the next to
exceed it: one ordered dict and one timer serve any number of them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from gevent import get_hub
from gevent.hub import Waiter

from llmsnap.limits import MOST_PLACES

TIMER_SLACK = 0.01
"""A limit may be exceeded by this share of it, so that one timer ends several connections."""
LAST_HEAD_S = 0.5
"""Seconds for the first head of a connection once the server has stopped accepting."""
START_BUDGET_S = 0.0005
"""Seconds of new requests per iteration of the event loop. In a burst of hundreds the rest waits
for the next iteration, so that streams and earlier responses are served in between.
"""
AFTER_SOCKETS = -1
"""The priority of a timer that runs after the events of all sockets have been handled."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a server has, and how long each may take; times in seconds."""

    connections: int = MOST_PLACES
    """Fewer where the file descriptors do not suffice."""
    files_share: float = 1.0
    """The share of the file descriptors; another server has the rest."""
    head_s: float = 15.0
    """For a TLS handshake, for the first byte of a connection, for a head once it has begun."""
    idle_s: float = 75.0
    """Between a response and the next request."""
    body_s: float = 60.0
    """For the next byte of a body."""
    linger_s: float = 30.0
    """For reading and discarding what a client sends after its last answer, so that the answer is
    not lost in a reset (as in nginx).
    """


class WaitingConnection(Protocol):
    """A connection that waits for its client, or the waiting part of it."""

    def hang_up(self) -> None:
        """End the wait. Never switches."""


class Deadline:
    """The connections that wait for the same event; closes those that exceed *limit_s*."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since: dict[WaitingConnection, float] = {}
        self._timer: Any = None

    def __repr__(self) -> str:
        return f"<Deadline of {self._limit_s:g} s for {len(self._since)}>"

    def __len__(self) -> int:
        return len(self._since)

    def start(self, connection: WaitingConnection) -> None:
        """Start or restart the time of *connection*. Never switches."""
        self._since.pop(connection, None)
        self._since[connection] = self._clock()
        if self._timer is None:
            self._set_timer(self._limit_s)

    def stop(self, connection: WaitingConnection) -> None:
        """Forget *connection*; harmless when its time does not run. Never switches."""
        self._since.pop(connection, None)

    def oldest(self) -> float:
        """Return when the oldest began to wait; infinity without any."""
        return next(iter(self._since.values()), math.inf)

    def hang_up_oldest(self) -> bool:
        """Close the oldest; return whether there was one. Never switches."""
        for connection in self._since:
            self._hang_up(connection)
            return True
        return False

    def hang_up_all(self) -> None:
        """Close all, and stop the timer. Never switches."""
        while self.hang_up_oldest():
            pass
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def shorten(self, limit_s: float) -> None:
        """Change the limit, also for connections that wait already. Never switches."""
        self._limit_s = limit_s
        self.hang_up_late()

    def hang_up_late(self) -> None:
        """Close those that exceed the limit; set the timer for the next. Runs in the hub."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        now = self._clock()
        while self._since:
            connection, since = next(iter(self._since.items()))
            left_s = since + self._limit_s - now
            if left_s > 0:
                self._set_timer(max(left_s, self._limit_s * TIMER_SLACK))
                return
            self._hang_up(connection)

    def _hang_up(self, connection: WaitingConnection) -> None:
        del self._since[connection]
        connection.hang_up()

    def _set_timer(self, after_s: float) -> None:
        # ref=False: waiting for clients alone does not keep the program alive
        self._timer = gevent.get_hub().loop.timer(after_s, ref=False)
        self._timer.start(self.hang_up_late)


class Deadlines:
    """The deadlines of one server, by what its clients have to send next."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.heads = Deadline(limits.head_s)
        """A TLS handshake, or a head."""
        self.idle = Deadline(limits.idle_s)
        """Idle: they have their response, and may send another request."""
        self.bodies = Deadline(limits.body_s)
        """The next byte of a body."""
        self.lingering = Deadline(limits.linger_s)
        """End of file after their last response."""

    def __repr__(self) -> str:
        return (
            f"<Deadlines {len(self.idle)} idle, {len(self.heads)} without a head, "
            f"{len(self.bodies)} in a body, {len(self.lingering)} lingering>"
        )

    def make_room(self) -> bool:
        """Close the least important connection; return whether there was one. Never switches.

        An idle one first; then the one that has waited longest.
        """
        if self.idle.hang_up_oldest() or self.lingering.hang_up_oldest():
            return True
        return min(self.heads, self.bodies, key=Deadline.oldest).hang_up_oldest()

    def end_idle(self) -> None:
        """Close all idle connections, once the server has stopped accepting. Never switches.

        The request of a client that has just connected may be on its way, and gets LAST_HEAD_S.
        """
        self.idle.hang_up_all()
        self.lingering.hang_up_all()
        self.heads.shorten(LAST_HEAD_S)


class StartThrottle:
    """Starts requests for at most START_BUDGET_S per iteration of the event loop, in their order.

    ``gevent.sleep(0)`` does not do that: gevent resumes fifty greenlets that wait so, however long
    they take, before it polls the sockets again.
    """

    def __init__(self) -> None:
        self._loop: Any = get_hub().loop
        self._waiting: deque[Any] = deque()
        self._timer: Any = self._loop.timer(0, priority=AFTER_SOCKETS)

    def __repr__(self) -> str:
        return f"<StartThrottle, {len(self._waiting)} waiting>"

    def wait_turn(self) -> None:
        """Wait for the next iteration if this one has taken long. Switches only then."""
        if self._waiting or time.time() - self._loop.now() > START_BUDGET_S:
            self._wait()

    def close(self) -> None:
        """Close the timer; waiting greenlets are not resumed any more. Never switches."""
        self._timer.close()

    def _wait(self) -> None:
        waiter: Any = Waiter()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            self._start_timer()
        try:
            waiter.get()
        except BaseException:  # the greenlet is killed, and must not be resumed
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def _release(self) -> None:
        """Resume the first greenlet, and more while the budget lasts. Runs in the hub."""
        until = time.perf_counter() + START_BUDGET_S
        while self._waiting:
            self._waiting.popleft().switch(None)
            if time.perf_counter() >= until:
                break
        if self._waiting:
            self._start_timer()

    def _start_timer(self) -> None:
        # update=False: an updated clock would make this iteration look as if it had just begun
        self._timer.start(self._release, update=False)
