"""Ports for servers that tests start: never those of another test, nor of a test process beside us.

Below the range from which the system takes the ports of outgoing connections, or one of these could
have a port by the time its server wants it; and not where bench/processes.py takes its ports.
"""

from __future__ import annotations

import contextlib
import os
from itertools import cycle

from gevent import socket

FIRST, LANES, LANE_SIZE = 20000, 9, 1000
_lane = int(os.environ.get("LLMSNAP_TEST_LANE", "0")) % LANES
_begin = FIRST + _lane * LANE_SIZE
# Not from the start each time: tests of one run may follow those of another that still ends.
_offset = os.getpid() * 7 % LANE_SIZE
_starts = cycle([_begin + (_offset + number) % LANE_SIZE for number in range(LANE_SIZE)])


def free_ports(count: int) -> int:
    """The first of *count* ports in a row that are free, and that were not given out."""
    for _ in range(LANE_SIZE):
        first = next(_starts)
        if first + count > _begin + LANE_SIZE or not _are_free(first, count):
            continue
        for _ in range(count - 1):
            next(_starts)
        return first
    raise RuntimeError("no free ports")


def free_port() -> int:
    """A port that is free, and that was not given out."""
    return free_ports(1)


def _are_free(first: int, count: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in range(first, first + count):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
