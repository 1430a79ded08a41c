"""Limits of this process and its children: open files, memory, core files, death of the parent."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)
RLIMIT_LOCKS = 10  # not in the resource module; see launchers.local.guardian
MOST_PLACES = 10_000
RESERVED_FILES = 64
"""For models, logs, the store and libraries, beyond what requests need."""
FILES_PER_REQUEST = 2
"""The client's connection, and one to the model."""

_original_nofile: tuple[int, int] | None = None
_original_core: tuple[int, int] | None = None


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one; return the limit now in force."""
    global _original_nofile  # noqa: PLW0603 - the process has exactly one such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _original_nofile is None:
        _original_nofile = (soft, hard)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS refuses "unlimited"
        log.warning("open files stay limited to %d: %s", soft, error)
        return soft
    return hard


def places(files: int, wanted: int = MOST_PLACES, share: float = 1.0) -> int:
    """Return how many connections, *wanted* at most, *share* of *files* descriptors can serve."""
    return max(1, min(wanted, int((files - RESERVED_FILES) * share) // FILES_PER_REQUEST))


def open_files() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def memory_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use: the machine's, or what its cgroups allow."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _cgroup_limits(root))])


def memory_used(root: Path = Path("/")) -> int:
    """Return how much of ``memory_bytes`` is in use, caches of files not counted; 0: not known.

    Of the machine, ``MemTotal - MemAvailable`` (proc(5)); of a cgroup, its usage without its files.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, folder = min(_cgroup_limits(root), default=(machine, None))
    if folder is None or limit >= machine:
        values = _numbers(root / "proc/meminfo", ":")
        return max(0, values.get("MemTotal", 0) - values.get("MemAvailable", 0)) * 1024
    return _used_of(folder)


def memory_available(root: Path = Path("/")) -> int:
    """Return how much of the memory is free, or holds files that can be dropped.

    That is the smallest of the machine's and of those of our cgroups.
    """
    machine = _numbers(root / "proc/meminfo", ":").get("MemAvailable", 0) * 1024
    return max(0, min([machine, *(limit - _used_of(at) for limit, at in _cgroup_limits(root))]))


def _used_of(folder: Path) -> int:
    """Return what a cgroup has in use, its files not counted; 0: not known."""
    of = _numbers(folder / "memory.stat")
    with suppress(OSError, ValueError, KeyError):
        return int((folder / "memory.current").read_text()) - of["file"] + of["shmem"]
    with suppress(OSError, ValueError):  # version 1
        usage = int((folder / "memory.usage_in_bytes").read_text())
        return usage - of.get("total_cache", 0) + of.get("total_shmem", 0)
    return 0


def _numbers(path: Path, colon: str = "") -> dict[str, int]:
    """Return the whole numbers of a file with lines such as ``name 12``; none of a missing one."""
    found = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            name, *values = line.split()
            if values and values[0].isdecimal():
                found[name.removesuffix(colon)] = int(values[0])
    return found


def _cgroup_limits(root: Path) -> Iterator[tuple[int, Path]]:
    """Yield limit and folder of our memory cgroup and of those it is in, v2 and v1 (cgroups(7)).

    In a container the path may be the host's, of which nothing is mounted but the last piece, as
    the root.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not path:
            continue
        if not controllers:
            yield from _limits_up(mounts, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_up(mounts / "memory", path, "memory.limit_in_bytes")


def _limits_up(mount: Path, path: str, name: str) -> Iterator[tuple[int, Path]]:
    inside = PurePosixPath(*(piece for piece in path.split("/") if piece != ".."))
    for folder in (inside, *inside.parents):
        with suppress(OSError, ValueError):  # not mounted, or "max"
            yield int((mount / folder / name).read_text()), mount / folder


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of this machine were killed because memory ran out; 0: unknown.

    Counts those of cgroups as well (``oom_kill`` of /proc/vmstat, since Linux 4.13).
    """
    with suppress(OSError, ValueError):
        for line in (root / "proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def protect_memory(*, debug: bool = False) -> None:
    """Keep keys and prompts out of core files and out of reach of other processes of the same user.

    Linux then lets only root read its memory and environment or attach to it, so that the models,
    which run as the same user, cannot. Under *debug* nothing changes: debuggers and profilers may.
    """
    global _original_core  # noqa: PLW0603 - the process has exactly one such limit
    if debug:
        return
    if _original_core is None:
        _original_core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, _original_core[1]))
    if sys.platform == "linux":
        _libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent exits. Linux only.

    With SIGKILL: a handler of SIGTERM, such as that of Flask's reloader, may end nothing.
    """
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def child_setup(mark: int = 0) -> Callable[[], None]:
    """Return the function that a forked child runs before exec.

    It restores the limits of open files (programs that loop over all descriptors, or use
    select(2), suffer from a huge one) and of core files, and the default action of signals that
    this process ignores: a shell starts background jobs with SIGINT ignored, and exec keeps that.
    On Linux it also sets *mark* (see launchers.local.guardian), asks for SIGTERM when the parent
    dies, and then checks that the parent is still there: it may have died in between (prctl(2),
    NOTES).
    """
    parent = os.getpid()
    ignored = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
    prctl = _libc().prctl if sys.platform == "linux" else None
    limits = {resource.RLIMIT_NOFILE: _original_nofile, resource.RLIMIT_CORE: _original_core}

    def run() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_DFL)
        for kind, values in limits.items():
            if values is not None:
                resource.setrlimit(kind, values)
        if prctl is not None:
            if mark:
                _set_soft(RLIMIT_LOCKS, mark)
            prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return run


@cache
def inherits_mark() -> bool:
    """Whether children and all their descendants carry the mark that ``child_setup`` is given."""
    if sys.platform != "linux" or resource.getrlimit(RLIMIT_LOCKS)[1] != resource.RLIM_INFINITY:
        return False
    try:
        return "Max file locks" in Path("/proc/self/limits").read_text(encoding="utf-8")
    except OSError:
        return False


def guardian_setup() -> None:
    """Prepare a forked guardian before exec: only SIGKILL ends it, and it carries no mark.

    It ends when llmsnap ends, not at Ctrl-C or at the SIGTERM that systemd sends to all processes
    of a service.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # llmsnap may be a model of another llmsnap
        _set_soft(RLIMIT_LOCKS, resource.RLIM_INFINITY)


def _set_soft(kind: int, value: int) -> None:
    with suppress(OSError, ValueError):  # the hard limit is lower: then without
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # a new class each time, and a circle
