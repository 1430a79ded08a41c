"""The command: options, faults of the process, then serving until a signal."""

from __future__ import annotations

import os
import signal
import sys

import gevent
from gevent.event import Event

from llmsnap.simulator.faults import start_grandchild
from llmsnap.simulator.options import Options, build_parser, parse
from llmsnap.simulator.server import Server

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> int:
    """Run the simulator until a signal ends it; return the exit code. Blocks."""
    options = parse(argv)
    _obey_signals(options)
    if options.exit_at_start is not None:
        write_line(f"error: {options.model} cannot be loaded, as told by --exit-at-start")
        return options.exit_at_start
    if options.fork_grandchild or options.grandchild_new_session:
        pid = start_grandchild(new_session=options.grandchild_new_session)
        write_line(f"grandchild {pid} started")
    return _serve(options)


def _serve(options: Options) -> int:
    try:
        Server(options, write_line, os._exit).open()
    except OSError as exc:
        write_line(f"error: cannot listen on {options.host}:{options.port}: {exc.strerror}")
        return 1
    Event().wait()
    return 0


def _obey_signals(options: Options) -> None:
    """Leave with 0 at SIGTERM and SIGINT, even while loading or stuck in a full stdout."""
    # Python's own handlers, not gevent's: those wait for the loop, which a full pipe holds up.
    # The pipe wakes the loop, should the signal arrive just before it goes to sleep.
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    gevent.get_hub().loop.io(wakeup_read, 1).start(os.read, wakeup_read, 64)
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    on_term = signal.SIG_IGN if options.ignore_sigterm else lambda *_: os._exit(0)
    signal.signal(signal.SIGTERM, on_term)


def write_line(line: str) -> None:
    """Write *line* to stdout at once; a server outlives the reader of its log."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return
