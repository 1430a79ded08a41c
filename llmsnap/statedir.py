"""The state directory: the lock of one running instance, and the mark of its child processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from llmsnap.errors import StateInUse

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
HASH_LENGTH = 16
MOST_LINKS = 40
"""As many as Linux follows."""


class StateDir:
    """A directory that belongs to one running instance at a time.

    *instance* identifies it in the marks of child processes. It is the same at the next start,
    so that processes left behind by a crash are recognised, and differs between configurations.
    *is_readable*: no other user can have written its files.
    """

    def __init__(
        self, path: Path, *, is_writable: bool = True, is_readable: bool | None = None
    ) -> None:
        self.path = path
        self.is_writable = is_writable
        self.is_readable = is_writable if is_readable is None else is_readable
        self.instance = _digest(str(path))
        self._lock_fd: int | None = None

    def __repr__(self) -> str:
        held = "locked" if self._lock_fd is not None else "not locked"
        return f"<StateDir {self.path}, {held}>"

    def lock(self) -> None:
        """Take the lock (flock(2)), never waiting. Raises: StateInUse with the holder's pid."""
        if not self.is_writable or self._lock_fd is not None:
            return
        # Python's descriptors are not inherited, so no child can keep the lock alive.
        fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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
        # Never empty in between: another instance may be reading the pid.
        os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))
        self._lock_fd = fd

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return the content of the file *name*; empty if there is none, or it is larger. Blocks.

        Raises: OSError.
        """
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b""
        with os.fdopen(fd, "rb") as file:
            data = file.read(most_bytes + 1)
        return data if len(data) <= most_bytes else b""

    def write(self, name: str, data: bytes) -> None:
        """Replace the file *name*, which only our user can read. Blocks. Raises: OSError.

        Does nothing if the directory is not writable.
        """
        if not self.is_writable:
            return
        new = self.path / f"{name}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        new.replace(self.path / name)

    def unlock(self) -> None:
        """Release the lock; the file stays, since removing it would race with the next instance."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def look(config: str | Iterable[str], environ: Mapping[str, str] = os.environ) -> StateDir:
    """Return the state directory that ``find`` would return, to read from; nothing is made."""
    places = _places(config, environ)
    place = next((place for place in places if place.is_dir()), places[0])
    is_readable = place.is_dir() and not _refusal(place, may_be_open=False)
    return StateDir(place, is_writable=False, is_readable=is_readable)


def _places(config: str | Iterable[str], environ: Mapping[str, str]) -> list[Path]:
    paths = [config] if isinstance(config, str) else config
    name = _digest("\n".join(str(Path(path).resolve()) for path in paths if path))
    return [base / "llmsnap" / name for base in _bases(environ)]


def find(
    config: str | Iterable[str], wanted: str = "", environ: Mapping[str, str] = os.environ
) -> StateDir:
    """Return the state directory for the configuration at these paths, made if need be.

    *wanted* is the user's choice, else the first writable directory is used. If there is none,
    the result is not writable and a warning is logged.
    """
    places = [Path(wanted)] if wanted else _places(config, environ)
    refused: list[str] = []
    for place in places:
        refusal = _make(place, is_wanted=bool(wanted))
        if not refusal:
            return StateDir(place.resolve())
        refused.append(f"{place}: {refusal}")
    log.warning(
        "no state directory can be used (%s): a second llmsnap with this configuration will not be "
        "noticed; name another one with --state-dir",
        "; ".join(refused),
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


def _make(path: Path, *, is_wanted: bool) -> str:
    """Create *path* for our user only; return why it cannot be used, empty if it can."""
    path = path.absolute()
    missing = [path]
    while not os.path.lexists(missing[-1]):
        missing.append(missing[-1].parent)
    there = missing.pop()
    try:
        if refusal := _refusal(there, may_be_open=is_wanted):
            return refusal
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        owner = path.stat().st_uid
        refusal = _refusal(path, may_be_open=is_wanted)
        return refusal or ("" if owner == os.getuid() else f"it belongs to uid {owner}")
    except OSError as error:
        return error.strerror or str(error)


def _refusal(path: Path, *, may_be_open: bool) -> str:
    """Return which other user could replace *path* or a folder on the way to it; empty if none.

    That is the owner of a folder or link on the way, unless it is root or our user, and every user
    where a folder can be written by all and has no sticky bit. Volumes of containers are often
    like that: where the user has chosen the place, it *may be open*. In a user namespace root's own
    folders have the owner of "/".
    """
    trusted = {0, os.getuid(), Path("/").stat().st_uid}
    for place in _way_to(path):
        status = place.lstat()
        if status.st_uid not in trusted:
            return f"{place} belongs to uid {status.st_uid}"
        is_open = status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
        if stat.S_ISDIR(status.st_mode) and is_open and not may_be_open:
            return f"{place} can be written by every user"
    return ""


def _way_to(path: Path) -> Iterator[Path]:
    """Yield each folder and symbolic link that is passed on the way to *path*, and *path* itself.

    Raises: OSError.
    """
    ahead = list(reversed(path.absolute().parts[1:]))
    here = Path("/")
    yield here
    links = 0
    while ahead:
        here = here.parent if ahead[-1] == ".." else here / ahead[-1]
        ahead.pop()
        yield here
        if here.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = here.readlink()
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path("/") if target.is_absolute() else here.parent


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_LENGTH]
