"""Keeps the event loop responsive: collects garbage seldom, reports code that blocks."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Any

import gevent

THRESHOLDS = (20_000, 20, 50)
"""New objects before a pass over the youngest, and passes before one over the next generation."""
LIMIT_S = 0.05
STACK_LINES = 8
MOST_FRAMES = 200
WALK_LIMIT_S = 0.5


def freeze_heap() -> None:
    """Exclude what exists now from garbage collection, and collect less often. Call after start.

    Requests leave no reference cycles behind (their parts let go of each other when they end), so
    the collector finds next to nothing. Each of its full passes would visit every object that the
    imported modules and the configuration hold: 30 to 60 ms in which no token passes.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


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
    stack = _stack_of(thread_ident)
    if any(entry.filename.startswith(within) for entry in stack):
        shown = "".join(traceback.format_list(stack[-STACK_LINES:]))
        sys.stderr.write(f"the event loop was blocked for {limit_s * 1000:.0f} ms in\n{shown}")


def _stack_of(thread_ident: int) -> list[traceback.FrameSummary]:
    """Return where another thread is, outermost call first.

    Its frames are walked in one go: if it went on meanwhile, and switched greenlets, the walk could
    meet frames that are gone, which ends the process. So no source line is read before the end, and
    the interpreter is asked not to change threads.
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(WALK_LIMIT_S)
    places: list[tuple[str, int, str]] = []
    try:
        frame = sys._current_frames().get(thread_ident)  # noqa: SLF001 - documented, for debuggers
        while frame is not None and len(places) < MOST_FRAMES:
            places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
    finally:
        sys.setswitchinterval(interval_s)
    return [traceback.FrameSummary(*place) for place in reversed(places)]
