"""The state directory: one lock for one running instance, and the name its children carry."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmsnap.errors import StateInUse

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
HASH_LENGTH = 16


class StateDir:
    """A directory that belongs to one running instance at a time.

    *instance* names it in the marks of child processes; it is the same at the next start, so that
    what a crash left behind is recognised, and differs between configurations.
    """

    def __init__(self, path: Path, *, is_writable: bool = True) -> None:
        self.path = path
        self.is_writable = is_writable
        self.instance = _digest(str(path))
        self._lock_fd: int | None = None

    def __repr__(self) -> str:
        held = "locked" if self._lock_fd is not None else "not locked"
        return f"<StateDir {self.path}, {held}>"

    def lock(self) -> None:
        """Take the lock (flock(2), never waits). Raises: StateInUse, saying who holds it."""
        if not self.is_writable or self._lock_fd is not None:
            return
        # Python's descriptors are not inherited, so no child can keep the lock alive.
        fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (os.read(fd, 64).decode(errors="replace").split() or ["unknown"])[0]
            os.close(fd)
            raise StateInUse(
                f"another llmsnap (pid {holder}) runs with this configuration: its state "
                f"directory {self.path} is locked; stop it, or give this one a --state-dir",
                holder,
            ) from None
        # Never empty in between: somebody may be reading who holds the lock.
        os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))
        self._lock_fd = fd

    def unlock(self) -> None:
        """Give the lock up; the file stays, since removing it would race with the next one."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def find(config_path: str, wanted: str = "", environ: Mapping[str, str] = os.environ) -> StateDir:
    """Return the state directory for the configuration at *config_path*, made if need be.

    *wanted* is the user's choice, else the first place that can be written. When none can, the
    result is not writable, and a warning has been logged.
    """
    name = _digest(str(Path(config_path).resolve()))
    places = [Path(wanted)] if wanted else [base / "llmsnap" / name for base in _bases(environ)]
    for place in places:
        if _make(place):
            return StateDir(place.resolve())
    log.warning(
        "no state directory can be written (tried %s): models that survive a crash of llmsnap "
        "will not be found; name one with --state-dir",
        ", ".join(map(str, places)),
    )
    return StateDir(places[0].absolute(), is_writable=False)


def _bases(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("XDG_STATE_HOME"):
        yield Path(environ["XDG_STATE_HOME"])
    if environ.get("HOME"):
        yield Path(environ["HOME"]) / ".local" / "state"
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"])
    yield Path(tempfile.gettempdir()) / f"llmsnap-{os.getuid()}"


def _make(path: Path) -> bool:
    """Make *path* for our eyes only; tell whether it is ours to write."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError:
        return False
    return path.stat().st_uid == os.getuid()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_LENGTH]
