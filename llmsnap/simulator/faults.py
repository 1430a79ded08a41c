"""The faults that are not an answer: leaving early, noise, relatives, broken streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

import gevent

from llmsnap.simulator.client import Client
from llmsnap.simulator.state import State

FLOODS_PER_SECOND = 20
GRANDCHILD_CODE = "import time; time.sleep(600)"
_LINE = b"noise " * 13 + b"\n"


def leave_later(state: State) -> None:
    """Leave when the time of --exit-after is over. Blocks until then."""
    gevent.sleep(state.options.exit_after)
    state.write_line(f"exiting after {state.options.exit_after:g} s, as told")
    state.leave(state.options.exit_code)


def flood(state: State) -> None:
    """Write --flood bytes per second to the log. Blocks for ever."""
    size = max(state.options.flood // FLOODS_PER_SECOND, 1)
    burst = (_LINE * (size // len(_LINE) + 1))[: size - 1].decode()
    while True:
        state.write_line(burst)
        gevent.sleep(1 / FLOODS_PER_SECOND)


def start_grandchild(*, new_session: bool) -> int:
    """Start a process that does nothing but hold our stdout, and return its pid."""
    argv = [sys.executable, "-I", "-S", "-c", GRANDCHILD_CODE]
    return os.posix_spawn(sys.executable, argv, os.environ, setsid=new_session)


def cut(state: State, client: Client, chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield *limit* chunks, then drop the connection under the rest."""
    for number, chunk in enumerate(chunks):
        if number == limit:
            state.write_line(f"dropping a connection after {limit} chunks, as told")
            client.hang_up()
            return
        yield chunk
