"""Limits the operating system sets: open files, and what happens to children when we die."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import cache

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # prctl(2)

_original_nofile: tuple[int, int] | None = None


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


def child_setup() -> Callable[[], None]:
    """Return what a forked child must run before exec.

    It restores the limit of open files (programs that loop over all descriptors, or use
    select(2), suffer from a huge one) and, on Linux, asks for SIGTERM when the parent dies, then
    checks that the parent is still there: it may have died in between (prctl(2), NOTES).
    """
    parent = os.getpid()
    prctl = _libc().prctl if sys.platform == "linux" else None
    limits = _original_nofile

    def run() -> None:
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return run


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # a new class each time, and a circle
