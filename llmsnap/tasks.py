"""Named greenlets with an owner that joins them."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pool import Group

log = logging.getLogger(__name__)

_groups: weakref.WeakSet[Group] = weakref.WeakSet()


class TaskGroup:
    """The greenlets of one owner: named after it, failures logged, ended when it closes."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._group = Group()
        _groups.add(self._group)

    def __repr__(self) -> str:
        return f"<TaskGroup {self.owner}, {len(self._group)} alive>"

    def __len__(self) -> int:
        return len(self._group)

    def spawn(self, name: str, run: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Start ``run(*args)`` as greenlet ``owner:name``; an exception it lets out is logged."""
        greenlet: gevent.Greenlet[..., Any] = gevent.Greenlet(run, *args)
        greenlet.name = f"{self.owner}:{name}"
        greenlet.link_exception(_log_failure)
        self._group.start(greenlet)
        return greenlet

    def close(self, timeout_s: float = 1.0) -> list[str]:
        """Wait up to *timeout_s* for all to end, kill the rest, and return their names. Blocks."""
        self._group.join(timeout=timeout_s)
        return self.kill()

    def kill(self) -> list[str]:
        """Kill all that are alive, wait for their end, and return their names. Blocks."""
        me = gevent.getcurrent()
        left = [greenlet for greenlet in self._group if greenlet is not me]
        gevent.killall(left)
        for greenlet in left:
            self._group.discard(greenlet)
        return [greenlet.name for greenlet in left]


def count_tasks() -> int:
    """Return how many tasks of all owners are alive."""
    return sum(len(group) for group in _groups)


def _log_failure(greenlet: gevent.Greenlet[..., Any]) -> None:
    log.error("task %s failed: %r", greenlet.name, greenlet.exception)
