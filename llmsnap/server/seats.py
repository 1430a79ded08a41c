"""The places of a server's connections, and the greenlets that serve them, one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.hub import Waiter
from gevent.pool import Pool

from llmsnap.server.connections import Connections

MOST_RESTED = 64
"""So many greenlets wait for another connection; each keeps some 20 KiB."""

Task = Callable[[], object]


class Seats(Pool):
    """One place for each connection. When all are taken, whoever only waits makes room.

    A greenlet that has served its connection rests until it is given another one: the memory that
    Python keeps for its calls would else be asked of the system for each, and given back.
    """

    def __init__(self, limit: int, connections: Connections) -> None:
        super().__init__(limit)
        self._limit = limit
        self._connections = connections
        self._rested: list[tuple[Any, Waiter[Task]]] = []
        self._is_closed = False

    @property
    def all_taken(self) -> bool:
        """Whether there are as many connections as there may be. Asked by each answer."""
        return len(self.greenlets) >= self._limit

    def full(self) -> bool:
        """Return whether the one that asks must wait until a place is free. Never switches."""
        if self.all_taken:
            self._connections.make_room()
            return True
        return False

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Have a greenlet, which is returned, call *func* in the next pass of the event loop.

        Never switches while a place is free.
        """
        task = partial(func, *args, **kwargs)
        if not self._rested:
            return super().spawn(self._serve, [task])
        greenlet, waiter = self._rested.pop()
        self.add(greenlet)
        get_hub().loop.run_callback(waiter.switch, task)
        return greenlet

    def close(self) -> None:
        """End the greenlets that rest, now and later. Blocks until they have."""
        self._is_closed = True
        gevent.killall([greenlet for greenlet, _ in self._rested])
        self._rested.clear()

    def _serve(self, tasks: list[Task]) -> None:
        greenlet: Any = getcurrent()
        waiter: Waiter[Task] = Waiter()
        task = tasks.pop()  # what a greenlet began with is kept until its end, and with it a socket
        while True:
            task()
            del task
            if self._is_closed or len(self._rested) >= MOST_RESTED:
                return
            self.discard(greenlet)
            self._rested.append((greenlet, waiter))
            task = waiter.get()
            waiter.clear()
