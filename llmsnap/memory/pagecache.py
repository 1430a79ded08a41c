"""Files in the page cache: whether they are there, and reading them into it.

Sources: posix_fadvise(2), preadv2(2) (RWF_NOWAIT), ioprio_set(2), proc_pid_statm(5). What reads
blocks on disks, and belongs into a native thread.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from llmsnap.memory.processes import PAGE, PROC, tree

MIB = 1024**2
PIECE_BYTES = 2 * MIB
"""What is read at once; the kernel reads that much ahead in one request."""
NOWAIT = getattr(os, "RWF_NOWAIT", 0)
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""Numbers of the system call, which the C library has no function for."""
IDLE = 3 << 13
"""IOPRIO_CLASS_IDLE: only when no other process uses the disk. Not all I/O schedulers obey."""
THIS_THREAD = (1, 0)
"""IOPRIO_WHO_PROCESS, and 0 for the calling thread."""


def lower_priority() -> None:
    """Let other reads go first from now on, in this thread, where the system can."""
    number = IOPRIO_SET.get(platform.machine())
    if sys.platform == "linux" and number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, *THIS_THREAD, IDLE)


def read_into_cache(path: str, offset: int, length: int) -> int:
    """Read a part of a file into the page cache; return the bytes that were not there. Blocks.

    Returns 0 for a part beyond the end, and for what is no file. Raises: OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        end = min(offset + length, found.st_size)
        if not stat.S_ISREG(found.st_mode):
            return 0
        return sum(
            _read_piece(fd, start, min(start + PIECE_BYTES, end))
            for start in range(offset, end, PIECE_BYTES)
        )
    finally:
        os.close(fd)


def _read_piece(fd: int, start: int, end: int) -> int:
    if _is_cached(fd, start) and _is_cached(fd, end - 1):
        return 0
    os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_WILLNEED)
    os.pread(fd, 1, end - 1)  # waits for it: the advice only begins to read
    return end - start


def _is_cached(fd: int, offset: int) -> bool:
    """Whether the page at *offset* is there; not where the file system cannot tell."""
    if not NOWAIT:
        return False
    try:
        return os.preadv(fd, [bytearray(1)], offset, NOWAIT) == 1
    except OSError:  # EAGAIN: it is not; EOPNOTSUPP: it cannot tell
        return False


def mapped_bytes(pids: Iterable[int], *, proc: Path = PROC) -> int:
    """Return the mapped files and shared memory of process trees that are in memory. Never waits.

    Of a process that ended nothing is counted.
    """
    total = 0
    for pid in pids:
        for each in tree(pid, proc=proc):
            with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                total += int((proc / str(each) / "statm").read_bytes().split()[2]) * PAGE
    return total
