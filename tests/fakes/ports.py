"""Ports for servers that tests start, unique among tests and parallel test processes.

They are below the range of ephemeral ports, which outgoing connections could occupy before the
server binds, and outside the range of bench/processes.py.
"""

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
    """Return the first of *count* consecutive free ports that were not allocated before."""
    for _ in range(LANE_SIZE):
        first = next(_starts)
        if first + count > _begin + LANE_SIZE or not _are_free(first, count):
            continue
        for _ in range(count - 1):
            next(_starts)
        return first
    raise RuntimeError("no free ports")


def free_port() -> int:
    """Return a free port that was not allocated before."""
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
