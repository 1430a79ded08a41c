"""CPU and memory of the host and of each model's processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

PROC = Path("/proc")

ChildrenOf = Callable[[int], list[int]]


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one moment; None where the system does not say."""

    cpu_percent: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    load_1m: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A model's process and all its descendants; *cpu_percent* is 100 per busy core."""

    model_id: str
    rss_bytes: int
    cpu_percent: float | None = None


class HostProvider(Protocol):
    """Samples the host; each call may block."""

    def host(self) -> HostSample:
        """Return the host now."""
        ...

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return what each model's process uses, given their pids; those gone are left out."""
        ...


class NoHost:
    """A system nothing is known of."""

    def host(self) -> HostSample:
        """Return nothing known."""
        return HostSample()

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return nothing."""
        return []


class PsutilHost:
    """Samples through psutil, which is loaded with the first object of this class."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._psutil: Any = import_module("psutil")
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}  # model -> (when, CPU seconds by then)
        self._psutil.cpu_percent()  # the first call has nothing to compare with

    def host(self) -> HostSample:
        """Return the host now; CPU since the call before."""
        memory = self._psutil.virtual_memory()
        return HostSample(
            cpu_percent=self._psutil.cpu_percent(),
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            load_1m=self._psutil.getloadavg()[0],
        )

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return what each model's processes use; one look at the process table for all."""
        self._used = {model: used for model, used in self._used.items() if model in pids}
        if not pids:
            return []
        children_of = self._family()
        samples = [self._tree(model, pid, children_of) for model, pid in pids.items()]
        return [sample for sample in samples if sample is not None]

    def _family(self) -> ChildrenOf:
        """Return what tells the children of a process, now."""
        if (PROC / f"self/task/{os.getpid()}/children").exists():
            return _children_in_proc
        table: dict[int, list[int]] = {}
        for pid, parent in _parents_in_proc() if (PROC / "self/stat").exists() else self._parents():
            table.setdefault(parent, []).append(pid)
        return lambda pid: table.get(pid, [])

    def _parents(self) -> Iterator[tuple[int, int]]:
        for process in self._psutil.process_iter(["ppid"]):
            yield process.pid, process.info["ppid"]

    def _tree(self, model: str, pid: int, children_of: ChildrenOf) -> ProcessSample | None:
        rss, seconds, seen = 0, 0.0, 0
        waiting = [pid]
        while waiting:
            current = waiting.pop()
            waiting += children_of(current)
            try:
                process = self._psutil.Process(current)
                times = process.cpu_times()
                rss += process.memory_info().rss
            except self._psutil.Error:
                continue  # ended meanwhile
            seconds += times.user + times.system
            seen += 1
        return ProcessSample(model, rss, self._percent(model, seconds)) if seen else None

    def _percent(self, model: str, seconds: float) -> float | None:
        now = self._clock()
        before = self._used.get(model)
        self._used[model] = (now, seconds)
        # Fewer seconds than before: a child ended, or this is a new process.
        if before is None or now <= before[0] or seconds < before[1]:
            return None
        return (seconds - before[1]) / (now - before[0]) * 100


def _children_in_proc(pid: int) -> list[int]:
    """Return the children of one process: not even a look at the others (proc(5), since 4.2)."""
    found: list[int] = []
    with suppress(OSError):  # it, or one of its threads, ended meanwhile
        for thread in (PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_bytes().split())
    return found


def _parents_in_proc() -> Iterator[tuple[int, int]]:
    """Yield (pid, its parent) of every process; a fifth of what psutil's way costs (proc(5))."""
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_bytes()
            except OSError:
                continue  # ended meanwhile
            # The name of the program, in parentheses, may have any byte in it.
            yield int(folder.name), int(stat[stat.rfind(b")") + 2 :].split(None, 2)[1])


def find_host() -> HostProvider:
    """Return what samples this system."""
    try:
        return PsutilHost()
    except ImportError:
        return NoHost()
