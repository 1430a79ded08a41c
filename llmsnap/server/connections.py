"""Clients that are waited for: how long each may take, and which one goes when there are many.

All that wait for the same thing have the same time, so the oldest is always the next to be late:
one ordered dict and one timer serve any number of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gevent

from llmsnap.limits import MOST_PLACES

GRAIN = 0.01
"""How much longer, as a share of their time, connections may take: thousands share one timer."""
LAST_HEAD_S = 0.5
"""For the first request of a connection, once no more are accepted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server grants its clients; times in seconds."""

    connections: int = MOST_PLACES
    """Fewer where the descriptors do not suffice."""
    files_share: float = 1.0
    """Of the descriptors, where another server has the rest."""
    head_s: float = 15.0
    """For a TLS handshake, for the first byte of a connection, for a head once it has begun."""
    idle_s: float = 75.0
    """Between an answer and the next request."""
    body_s: float = 60.0
    """For the next byte of a body."""
    linger_s: float = 30.0
    """For reading and dropping what a client sends beyond its last answer, so that it reads that
    (as in nginx).
    """


class Connection(Protocol):
    """One client's connection, or the part of it that waits."""

    def hang_up(self) -> None:
        """End it, as far as it waits for the client. Never switches."""


class Deadline:
    """Connections that wait for the same thing; hangs up on those that take over *limit_s*."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since: dict[Connection, float] = {}
        self._timer: Any = None

    def __repr__(self) -> str:
        return f"<Deadline of {self._limit_s:g} s for {len(self._since)}>"

    def __len__(self) -> int:
        return len(self._since)

    def start(self, connection: Connection) -> None:
        """Give *connection* its time, from now. Never switches."""
        self._since.pop(connection, None)
        self._since[connection] = self._clock()
        if self._timer is None:
            self._set_timer(self._limit_s)

    def stop(self, connection: Connection) -> None:
        """Forget *connection*: it is in time, or gone. Never switches."""
        self._since.pop(connection, None)

    def oldest(self) -> float:
        """Return since when the one that has waited longest does; infinity without any."""
        return next(iter(self._since.values()), math.inf)

    def hang_up_oldest(self) -> bool:
        """Hang up on who has waited longest; return whether there was one. Never switches."""
        for connection in self._since:
            self._hang_up(connection)
            return True
        return False

    def hang_up_all(self) -> None:
        """Hang up on all, and measure no more time. Never switches."""
        while self.hang_up_oldest():
            pass
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def shorten(self, limit_s: float) -> None:
        """Give each no more than *limit_s*, from when it began to wait. Never switches."""
        self._limit_s = limit_s
        self.hang_up_late()

    def hang_up_late(self) -> None:
        """Hang up on those whose time is over, and come back for the next. Runs in the hub."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        now = self._clock()
        while self._since:
            connection, since = next(iter(self._since.items()))
            left_s = since + self._limit_s - now
            if left_s > 0:
                self._set_timer(max(left_s, self._limit_s * GRAIN))  # several at a time
                return
            self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        del self._since[connection]
        connection.hang_up()

    def _set_timer(self, after_s: float) -> None:
        # ref=False: waiting for clients alone does not keep the program alive
        self._timer = gevent.get_hub().loop.timer(after_s, ref=False)
        self._timer.start(self.hang_up_late)


class Connections:
    """The connections of one server that its clients keep waiting."""

    def __init__(self, limits: Limits) -> None:
        self.heads = Deadline(limits.head_s)
        """Owe us a handshake, or a head."""
        self.idle = Deadline(limits.idle_s)
        """Were answered, and may ask again."""
        self.bodies = Deadline(limits.body_s)
        """Owe us the next byte of a body."""
        self.lingering = Deadline(limits.linger_s)
        """Got their last answer, and still send."""

    def __repr__(self) -> str:
        return (
            f"<Connections {len(self.idle)} idle, {len(self.heads)} without a head, "
            f"{len(self.bodies)} in a body, {len(self.lingering)} lingering>"
        )

    def make_room(self) -> bool:
        """Hang up on the one that will be missed least; return whether there was one. No switch.

        Those that were answered go first; then whichever has kept us waiting longest.
        """
        if self.idle.hang_up_oldest() or self.lingering.hang_up_oldest():
            return True
        return min(self.heads, self.bodies, key=Deadline.oldest).hang_up_oldest()

    def end_waiting(self) -> None:
        """Hang up on all that ask for nothing more; no more are accepted. Never switches.

        The request of a client that has just connected may be on its way, and is waited for.
        """
        self.idle.hang_up_all()
        self.lingering.hang_up_all()
        self.heads.shorten(LAST_HEAD_S)
