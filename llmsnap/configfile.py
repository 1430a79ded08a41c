"""The configuration's files on disk, read only once they no longer change.

A file that parses may still be incomplete: empty, or ending after three of five models. So a reload
uses content that was the same at two reads some time apart, while no program has a file open for
writing. A *source* is the path of a file, or ``Sources``.
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

from llmsnap.config import Contents, Sources, read_contents
from llmsnap.errors import ConfigError, Problem

REST_S = 0.5
"""Time between two reads that must find the same content."""
WRITER_S = 10.0
"""A file unchanged for this long is used even while a program has it open for writing."""
LIMIT_S = 30.0
"""How long a requested reload waits for a file that keeps changing."""

Fingerprint = tuple[int, int, int, int]
Version = tuple[tuple[str, Fingerprint], ...]
"""Which files, in which version."""
Source = str | Sources


class Look(NamedTuple):
    """The files at one moment: their version (None: there is nothing to read) and their bytes.

    *trouble* says why there are no bytes.
    """

    version: Version | None
    contents: Contents = ()
    trouble: Problem | None = None

    @property
    def content(self) -> bytes:
        """The bytes of all files."""
        return b"".join(content for _, content in self.contents)


def version_of(source: Source) -> Version | None:
    """Return which files, in which version, *source* leads to.

    None while its file is missing, or its directory has none and nothing else is named.
    """
    paths = Sources.of(source).paths()
    found = [(path, _fingerprint(path)) for path in paths]
    known = tuple((path, version) for path, version in found if version is not None)
    return known if found and len(known) == len(found) else None


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def has_lost_folder(source: Source, version: Version, before: Version) -> bool:
    """Whether the directory of *source* had files *before*, and has none in *version*."""
    file = Sources.of(source).file
    had, has = (any(path != file for path, _ in one) for one in (before, version))
    return had and not has


def settled(
    source: Source,
    *,
    rest_s: float = REST_S,
    limit_s: float | None = LIMIT_S,
    is_written: Callable[[], bool] = lambda: False,
) -> Look:
    """Return what the files hold once they rest. Blocks: *rest_s* at least, *limit_s* at most.

    *is_written* reports a writer that cannot be found out otherwise. A file that is missing or
    unreadable at both reads is returned as such. Raises: ConfigError when the files do not come to
    rest in time.
    """
    began = since = time.monotonic()
    seen = look(source)
    while True:
        gevent.sleep(rest_s)
        now, found = time.monotonic(), look(source)
        if found != seen:
            seen, since = found, now
        elif now - since >= WRITER_S or not (_is_open(found) or is_written()):
            return found
        if limit_s is not None and now - began >= limit_s:
            what = f"{source} did not come to rest within {limit_s:g} s"
            problem = Problem("", what, "reload when it is written completely")
            raise ConfigError([problem], str(source))


def _is_open(found: Look) -> bool:
    return any(is_open_for_writing(path) for path, _ in found.version or ())


def look(source: Source) -> Look:
    """Return the files now. A pipe or device is not read, since its content is gone."""
    version = version_of(source)
    try:
        for path, _ in version or ():
            if not stat.S_ISREG(Path(path).stat().st_mode):
                what = f"{path} is not a regular file, so it is read once"
                return Look(version, trouble=Problem("", what, "restart to change it"))
        return Look(version, read_contents(Sources.of(source)))
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
