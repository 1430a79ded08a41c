"""The state of the simulated server, and the faults that are not responses."""

from __future__ import annotations

import os
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from time import monotonic

import gevent
from gevent.event import Event

from llmsnap.simulator.devices import DeviceFull, find_pretend_memory
from llmsnap.simulator.exchange import ClientSocket, Json
from llmsnap.simulator.options import SimOptions

RECENT_REQUESTS = 100
PARTS = frozenset({"weights", "kv_cache"})


@dataclass(slots=True)
class SlotContent:
    """The prompt that a slot keeps; *used* counts up with each request, 0 before the first."""

    tokens: list[str] = field(default_factory=list)
    used: int = 0


class SimState:
    """Whether it is loaded and awake, and its requests so far. Methods never switch greenlets.

    *write_line* writes a log line, *leave* exits the process with a status.
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
        self.corrupted = self.recased = False
        self.requests = 0
        self.in_flight = 0
        self.gone = 0
        self.slots = [SlotContent() for _ in range(max(options.slots, 1))]
        self.recent: deque[Json] = deque(maxlen=RECENT_REQUESTS)
        self._memory = b""
        self._pretend = find_pretend_memory()
        self._since = monotonic()

    def __repr__(self) -> str:
        word = "asleep" if self.asleep else "awake" if self.loaded.is_set() else "loading"
        return f"<State {self.options.model} {word}, {self.in_flight} in flight>"

    def hold_memory(self) -> None:
        """Allocate the memory set by the options, and touch every page of it. Raises: DeviceFull.

        Blocks briefly, on the file of pretend devices.
        """
        if self._pretend is not None and self.options.device_memory:
            self._pretend.hold(self.options.device_memory)
        self._memory = b"\x01" * (self.options.memory << 20)

    def fall_asleep(self, level: int) -> None:
        """Refuse inference from now on."""
        self.asleep = PARTS
        self.sleep_level = level

    def release_memory(self) -> None:
        """Free the memory, except what a sleeping server keeps of pretend devices."""
        self._memory = b""
        if self._pretend is not None and self.options.device_memory:
            self._pretend.hold(self.options.asleep_memory)

    def awake(self, parts: Set[str] = PARTS) -> None:
        """Wake *parts*; once all are awake, accept inference again. Raises: DeviceFull."""
        asleep = self.asleep - parts
        if self.asleep and not asleep:
            self.hold_memory()
            self.sleep_level = 0
        self.asleep = asleep

    def leave_memory(self) -> None:
        """Let another process hold the pretend memory, as --keep-memory demands. Blocks briefly."""
        if self._pretend is not None and self.options.keep_memory:
            self._pretend.leave_to(start_holder(self.options.keep_memory))

    def begin_inference(self) -> None:
        """Count the start of an inference request."""
        self.requests += 1
        self.in_flight += 1

    def end_inference(self) -> None:
        """Count the end of an inference request, and exit after the last one allowed."""
        self.in_flight -= 1
        limit = self.options.exit_after_requests
        if limit and self.requests - self.in_flight >= limit:
            self.write_line(f"exiting after {limit} requests (--exit-after-requests)")
            self.leave(self.options.exit_code)

    def describe(self) -> Json:
        """Return the state as a JSON object."""
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


def out_of_memory(full: DeviceFull) -> list[str]:
    """Return the lines that llama-server prints when a device is full."""
    mib = full.wanted / 1024**2
    number = full.device.removeprefix("gpu")
    return [
        f"ggml_backend_cuda_buffer_type_alloc_buffer: allocating {mib:.2f} MiB on device {number}: "
        "cudaMalloc failed: out of memory",
        f"alloc_tensor_range: failed to allocate CUDA{number} buffer of size {full.wanted}",
        "llama_model_load: error loading model: unable to allocate the buffer",
        "main: exiting due to model loading error",
    ]


READ_BYTES = 4 << 20


def read_through(path: str) -> None:
    """Read a file from its begin to its end. Blocks. Raises: OSError."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the path of an option
        while file.read(READ_BYTES):
            pass


FLOODS_PER_SECOND = 20
RLIMIT_LOCKS = 10
"""Not in the resource module; llmsnap marks its children with the soft limit."""
GRANDCHILD_CODE = "import time; time.sleep(600)"
_NOISE = b"noise " * 13 + b"\n"


def leave_later(state: SimState) -> None:
    """Exit after the time of --exit-after. Blocks until then."""
    gevent.sleep(state.options.exit_after)
    state.write_line(f"exiting after {state.options.exit_after:g} s (--exit-after)")
    state.leave(state.options.exit_code)


def flood(state: SimState) -> None:
    """Write --flood bytes per second to the log. Never returns."""
    size = max(state.options.flood // FLOODS_PER_SECOND, 1)
    burst = (_NOISE * (size // len(_NOISE) + 1))[: size - 1].decode()
    while True:
        state.write_line(burst)
        gevent.sleep(1 / FLOODS_PER_SECOND)


def start_grandchild(*, new_session: bool) -> int:
    """Start a process that only holds our stdout open, and return its pid."""
    argv = [sys.executable, "-I", "-S", "-c", GRANDCHILD_CODE]
    return os.posix_spawn(sys.executable, argv, os.environ, setsid=new_session)


def start_holder(seconds: float) -> int:
    """Start a process that lives for *seconds* whatever stops us, and return its pid."""
    resource.setrlimit(RLIMIT_LOCKS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    argv = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({seconds})"]
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    return os.posix_spawn(sys.executable, argv, {}, setsid=True, file_actions=quiet)


def cut(
    state: SimState, client: ClientSocket, chunks: Iterable[bytes], limit: int
) -> Iterator[bytes]:
    """Yield *limit* chunks, then drop the connection."""
    for number, chunk in enumerate(chunks):
        if number == limit:
            state.write_line(f"dropping a connection after {limit} chunks, as configured")
            client.hang_up()
            return
        yield chunk
