"""Says when something keeps the event loop from running: for development and for tests."""

from __future__ import annotations

import gevent

LIMIT_S = 0.05


def watch_loop(limit_s: float = LIMIT_S) -> None:
    """Have gevent's monitor thread print a stack whenever the loop was blocked for *limit_s*.

    It looks from outside once in a while and costs a little at each greenlet switch.
    """
    gevent.config.max_blocking_time = limit_s
    gevent.config.monitor_thread = True
    gevent.get_hub().start_periodic_monitoring_thread()
