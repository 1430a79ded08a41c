"""The configuration file on disk, read only once it has come to rest.

A file that parses may still be in the hands of its writer, empty or ending after three of five
models. So a reload uses what two looks some time apart have found the same, while no program has
the file open for writing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gevent

from llmsnap.config import read_bytes
from llmsnap.errors import ConfigError, Problem

REST_S = 0.5
"""Between two looks that have to find the same."""
WRITER_S = 10.0
"""A file that stays as it is for so long is read though a program has it open for writing."""
LIMIT_S = 30.0
"""How long a reload that was asked for waits for a file that keeps changing."""

Fingerprint = tuple[int, int, int, int]


class Look(NamedTuple):
    """What was found at one moment: a version of the file (None: there is none), and its bytes.

    *trouble* says why there are no bytes.
    """

    version: Fingerprint | None
    content: bytes = b""
    trouble: Problem | None = None


def fingerprint(path: str) -> Fingerprint | None:
    """Return which file, in which version, *path* leads to; None while there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def settled(
    path: str,
    *,
    rest_s: float = REST_S,
    limit_s: float | None = LIMIT_S,
    is_written: Callable[[], bool] = lambda: False,
) -> Look:
    """Return what the file holds once it rests. Blocks: *rest_s* at least, *limit_s* at most.

    *is_written* tells of a writer that the system does not tell of. A file that is missing or
    unreadable at both looks is the answer, too. Raises: ConfigError when the file does not come to
    rest in time.
    """
    began = since = time.monotonic()
    seen = look(path)
    while True:
        gevent.sleep(rest_s)
        now, found = time.monotonic(), look(path)
        if found != seen:
            seen, since = found, now
        elif now - since >= WRITER_S or not (is_open_for_writing(path) or is_written()):
            return found
        if limit_s is not None and now - began >= limit_s:
            what = f"{path} did not come to rest within {limit_s:g} s"
            raise ConfigError([Problem("", what, "reload when it is written completely")], path)


def look(path: str) -> Look:
    """Return what is found at *path* now. A pipe or device is not read: its content is gone."""
    version = fingerprint(path)
    try:
        if version is not None and not stat.S_ISREG(Path(path).stat().st_mode):
            what, fix = f"{path} is not a regular file, so it is read once", "restart to change it"
            return Look(version, trouble=Problem("", what, fix))
        return Look(version, read_bytes(path))
    except OSError:
        return Look(None)
    except ConfigError as error:
        return Look(version, trouble=error.problems[0])


def is_open_for_writing(path: str) -> bool:
    """Tell whether a program has the file open for writing, as far as the system says so.

    Linux gives a read lease (fcntl(2)) only on a file that is not. It takes our own file, or root;
    file systems over a network may refuse it always.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Who opens the file in this very moment makes the kernel send a signal: by default SIGIO,
        # which would end the process, while SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
