"""What the simulated server is at this moment, and the faults that are not an answer."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from time import monotonic

import gevent
from gevent.event import Event

from llmsnap.simulator.exchange import ClientSocket, Json
from llmsnap.simulator.options import SimOptions

RECENT_REQUESTS = 100
PARTS = frozenset({"weights", "kv_cache"})


class SimState:
    """Loaded or not, asleep or not, and the requests so far. Its methods never switch.

    *write_line* takes a log line, *leave* ends the process with an exit code.
    """

    def __init__(
        self,
        options: SimOptions,
        write_line: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        self.options = options
        self.write_line = write_line
        self.leave = leave
        self.loaded = Event()
        self.asleep: frozenset[str] = frozenset()
        self.sleep_level = 0
        self.corrupted = False
        self.requests = 0
        self.in_flight = 0
        self.gone = 0
        self.recent: deque[Json] = deque(maxlen=RECENT_REQUESTS)
        self._memory = b""
        self._since = monotonic()

    def __repr__(self) -> str:
        word = "asleep" if self.asleep else "awake" if self.loaded.is_set() else "loading"
        return f"<State {self.options.model} {word}, {self.in_flight} in flight>"

    def hold_memory(self) -> None:
        """Take the memory of the options, every page of it."""
        self._memory = b"\x01" * (self.options.memory << 20)

    def fall_asleep(self, level: int) -> None:
        """Serve no more, from now on."""
        self.asleep = PARTS
        self.sleep_level = level

    def release_memory(self) -> None:
        """Give the memory back."""
        self._memory = b""

    def awake(self, parts: Set[str] = PARTS) -> None:
        """Take *parts* back; once none is missing, serve again."""
        was_asleep = bool(self.asleep)
        self.asleep -= parts
        if was_asleep and not self.asleep:
            self.sleep_level = 0
            self.hold_memory()

    def begin_inference(self) -> None:
        """Count a request in."""
        self.requests += 1
        self.in_flight += 1

    def end_inference(self) -> None:
        """Count a request out, and leave if it was the last one allowed."""
        self.in_flight -= 1
        limit = self.options.exit_after_requests
        if limit and self.requests - self.in_flight >= limit:
            self.write_line(f"exiting after {limit} requests, as told")
            self.leave(self.options.exit_code)

    def describe(self) -> Json:
        """Return all of it as JSON."""
        return {
            "pid": os.getpid(),
            "model": self.options.model,
            "uptime_s": round(monotonic() - self._since, 3),
            "loaded": self.loaded.is_set(),
            "asleep": sorted(self.asleep),
            "sleep_level": self.sleep_level,
            "corrupted": self.corrupted,
            "memory_bytes": len(self._memory),
            "requests": self.requests,
            "in_flight": self.in_flight,
            "clients_gone": self.gone,
        }


FLOODS_PER_SECOND = 20
GRANDCHILD_CODE = "import time; time.sleep(600)"
_NOISE = b"noise " * 13 + b"\n"


def leave_later(state: SimState) -> None:
    """Leave when the time of --exit-after is over. Blocks until then."""
    gevent.sleep(state.options.exit_after)
    state.write_line(f"exiting after {state.options.exit_after:g} s, as told")
    state.leave(state.options.exit_code)


def flood(state: SimState) -> None:
    """Write --flood bytes per second to the log. Blocks for ever."""
    size = max(state.options.flood // FLOODS_PER_SECOND, 1)
    burst = (_NOISE * (size // len(_NOISE) + 1))[: size - 1].decode()
    while True:
        state.write_line(burst)
        gevent.sleep(1 / FLOODS_PER_SECOND)


def start_grandchild(*, new_session: bool) -> int:
    """Start a process that does nothing but hold our stdout, and return its pid."""
    argv = [sys.executable, "-I", "-S", "-c", GRANDCHILD_CODE]
    return os.posix_spawn(sys.executable, argv, os.environ, setsid=new_session)


def cut(
    state: SimState, client: ClientSocket, chunks: Iterable[bytes], limit: int
) -> Iterator[bytes]:
    """Yield *limit* chunks, then drop the connection under the rest."""
    for number, chunk in enumerate(chunks):
        if number == limit:
            state.write_line(f"dropping a connection after {limit} chunks, as told")
            client.hang_up()
            return
        yield chunk
