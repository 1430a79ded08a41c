"""The command: options, faults of the process, then serving until a signal."""

from __future__ import annotations

import os
import signal
import sys

from gevent.event import Event

from llmsnap.simulator.options import parse
from llmsnap.simulator.server import Server


def main(argv: list[str] | None = None) -> int:
    """Run the simulator until a signal ends it; return the exit code. Blocks."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = Server(options, write_line, os._exit)
    try:
        server.open()
    except OSError as exc:
        write_line(f"cannot listen on {options.host}:{options.port}: {exc.strerror}")
        return 1
    Event().wait()
    return 0


def write_line(line: str) -> None:
    """Write *line* to stdout at once; a server outlives the reader of its log."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return
