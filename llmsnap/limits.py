"""What the system allows this process and its children: files, core dumps, life without us."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)
RLIMIT_LOCKS = 10  # not in the resource module; see upstream.guardian

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


def protect_memory(*, debug: bool = False) -> None:
    """Keep what this process holds (keys, prompts) out of core files and of its user's reach.

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
    """Have the kernel send this process SIGTERM when its parent ends. Linux only."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def child_setup(mark: int = 0) -> Callable[[], None]:
    """Return what a forked child must run before exec.

    It restores the limits of open files (programs that loop over all descriptors, or use
    select(2), suffer from a huge one) and of core files. On Linux it also sets *mark* (see
    upstream.guardian), asks for SIGTERM when the parent dies, and then checks that the parent is
    still there: it may have died in between (prctl(2), NOTES).
    """
    parent = os.getpid()
    prctl = _libc().prctl if sys.platform == "linux" else None
    limits = {resource.RLIMIT_NOFILE: _original_nofile, resource.RLIMIT_CORE: _original_core}

    def run() -> None:
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
    """Prepare a forked guardian before exec: no signal but SIGKILL ends it, and no mark is on it.

    What stops it has to be the end of llmsnap, not a Ctrl-C or the SIGTERM that systemd sends to
    all of a service.
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
