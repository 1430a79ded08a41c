"""The configuration file on disk, read only once it no longer changes.

A file that parses may still be incomplete: empty, or ending after three of five models. So a reload
uses content that was the same at two reads some time apart, while no program has the file open for
writing.
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
"""Time between two reads that must find the same content."""
WRITER_S = 10.0
"""A file unchanged for this long is used even while a program has it open for writing."""
LIMIT_S = 30.0
"""How long a requested reload waits for a file that keeps changing."""

Fingerprint = tuple[int, int, int, int]


class Look(NamedTuple):
    """The file at one moment: its version (None: there is no file) and its bytes.

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

    *is_written* reports a writer that cannot be found out otherwise. A file that is missing or
    unreadable at both reads is returned as such. Raises: ConfigError when the file does not come to
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
    """Return the file at *path* now. A pipe or device is not read, since its content is gone."""
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
    """Return whether a program has the file open for writing, as far as that can be found out.

    Linux grants a read lease (fcntl(2)) only on a file that is not open for writing. The lease
    needs a file of our user, or root; network file systems may always refuse it.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A program that opens the file at this moment makes the kernel send a signal: by default
        # SIGIO, which would end this process; SIGURG is ignored.
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
