"""Says when something keeps the event loop from running: for development and for tests."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import gevent

LIMIT_S = 0.05
STACK_LINES = 8


def watch_loop(limit_s: float = LIMIT_S, within: str = "") -> None:
    """Print a stack to stderr whenever no greenlet could run for *limit_s*.

    Stacks without a file below the folder *within* are not shown.

    gevent's monitor looks from a thread of its own. Its own report lists every greenlet with its
    locals, which takes long enough to block the loop, so ours stands in its place.
    """
    gevent.sleep(0)  # the monitor takes a hub that never ran for one that is gone, and ends
    gevent.config.max_blocking_time = limit_s
    gevent.config.monitor_thread = True
    monitor: Any = gevent.get_hub().start_periodic_monitoring_thread()

    def look(hub: Any) -> None:
        found = monitor._greenlet_tracer.did_block_hub(hub)  # noqa: SLF001 - it has no other name
        if found:
            _report(hub.thread_ident, limit_s, within)

    monitor.add_monitoring_function(look, limit_s)
    # None takes it out. Only now: the thread runs already, and ends if it finds nothing to do.
    monitor.add_monitoring_function(monitor.monitor_blocking, None)


def _report(thread_ident: int, limit_s: float, within: str) -> None:
    frame = sys._current_frames().get(thread_ident)  # noqa: SLF001 - documented, for debuggers
    stack = traceback.extract_stack(frame)
    if frame is not None and any(entry.filename.startswith(within) for entry in stack):
        shown = "".join(traceback.format_list(stack[-STACK_LINES:]))
        sys.stderr.write(f"the event loop was blocked for {limit_s * 1000:.0f} ms in\n{shown}")
