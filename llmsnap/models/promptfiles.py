"""Files with the prompts that llama-server has read: their names, their room on disk, their end.

All that must match before a file is restored is in its name, so that no index can disagree with the
folder. Everything here blocks on the file system, and runs in threads.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FREE_SHARE = 0.1
"""Share of the disk that stays free."""
SUFFIX, PART_SUFFIX = ".kv", ".part"
_NAME = re.compile(
    r"llmsnap-(?P<owner>[0-9a-f]{16})-(?P<model>[0-9a-f]{16})-(?P<fingerprint>[0-9a-f]{32})"
    r"-(?P<slot>\d{1,4})-(?P<tokens>\d{1,10})-(?P<size>\d{1,16})(?:-(?P<boot>[0-9a-f]{32}))?\.kv"
)
_PART = re.compile(r"llmsnap-(?P<owner>[0-9a-f]{16})-[0-9a-f]+\.part")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_BOOT_ID = secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class PromptFile:
    """One saved prompt; *saved_at* is Unix time.

    *boot* is empty once the file is safely on the disk. Until then a crash of the machine may leave
    anything in it, so that it is restored only before the next boot.
    """

    path: Path
    model: str
    fingerprint: str
    slot: int
    tokens: int
    size: int
    boot: str
    saved_at: float
    is_whole: bool

    @property
    def is_sound(self) -> bool:
        """Whether it has its full length and was not cut short by a crash of the machine."""
        return self.is_whole and self.boot in ("", boot_id())


class PromptFiles:
    """The files of one llmsnap in a folder, which others may use as well. *owner* identifies it."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        self._owner = owner

    def __repr__(self) -> str:
        return f"<PromptFiles {self.folder}>"

    def prepare(self) -> None:
        """Create the folder for our user only. Raises: OSError.

        A server makes its files readable for all; the folder keeps others out until they are not.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check()

    def check(self) -> None:
        """Raise OSError if the folder does not exist, or other users may enter it."""
        if self.folder.stat().st_mode & 0o077:
            raise OSError(f"other users may enter it; chmod 700 {self.folder}")

    def all(self) -> list[PromptFile]:
        """Return all files, newest first; none where the folder cannot be read."""
        found = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    found += [file] if (file := self._parse(entry)) is not None else []
        return sorted(found, key=lambda file: file.saved_at, reverse=True)

    def _parse(self, entry: os.DirEntry[str]) -> PromptFile | None:
        match = _NAME.fullmatch(entry.name)
        if match is None or match["owner"] != self._owner or entry.is_symlink():
            return None
        status = entry.stat(follow_symlinks=False)
        return PromptFile(
            Path(entry.path),
            match["model"],
            match["fingerprint"],
            int(match["slot"]),
            int(match["tokens"]),
            int(match["size"]),
            match["boot"] or "",
            status.st_mtime,
            status.st_size == int(match["size"]),
        )

    def new_part(self) -> Path:
        """Return a path that was never used, for a server to save to.

        A server of an earlier run that still writes must not write into it.
        """
        return self.folder / f"llmsnap-{self._owner}-{secrets.token_hex(8)}{PART_SUFFIX}"

    def accept(
        self, part: Path, model: str, fingerprint: str, slot: int, tokens: int, size: int
    ) -> PromptFile:
        """Give the whole file at *part* its name, in place of the slot's earlier one.

        Raises: OSError, also where it has another size.
        """
        found = part.lstat()
        if found.st_size != size:
            raise OSError(f"{found.st_size} of {size} bytes were written")
        part.chmod(0o600)
        boot = boot_id()
        owner = f"llmsnap-{self._owner}-{model}-{fingerprint}"
        path = self.folder / f"{owner}-{slot}-{tokens}-{size}-{boot}{SUFFIX}"
        earlier = [
            file.path
            for file in self.all()
            if (file.model, file.fingerprint, file.slot) == (model, fingerprint, slot)
        ]
        part.rename(path)
        for old in earlier:
            if old != path:
                old.unlink(missing_ok=True)
        return PromptFile(
            path, model, fingerprint, slot, tokens, size, boot, found.st_mtime, is_whole=True
        )

    def sync(self, file: PromptFile) -> bool:
        """Write *file* to the disk; ``settle`` may then keep it over a boot. Raises: OSError."""
        fd = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        return True

    def settle(self, file: PromptFile) -> None:
        """Rename *file*, which ``sync`` has written to the disk. Raises: OSError."""
        file.path.rename(file.path.with_name(file.path.name.replace(f"-{file.boot}", "")))

    def make_room(self, wanted: int, most: int) -> bool:
        """Delete the oldest until *wanted* more bytes fit into *most*, and the disk has room.

        Returns False, having deleted none, where even that would not do.
        """
        files = self.all()
        kept = sum(file.size for file in files)
        status = os.statvfs(self.folder)
        total = status.f_blocks * status.f_frsize
        free = status.f_bavail * status.f_frsize - int(total * FREE_SHARE)
        leaving: list[PromptFile] = []
        while files and (wanted > free or kept + wanted > most):
            leaving.append(files.pop())
            free, kept = free + leaving[-1].size, kept - leaving[-1].size
        if wanted > free or wanted > most:
            return False
        delete(leaving)
        return True

    def clean(self, models: Iterable[str], max_age_s: float, most: int) -> None:
        """Delete what is too old, unsound, too much, of no model in *models*, or half written."""
        known, oldest = set(models), time.time() - max_age_s
        files = self.all()
        gone = [
            file
            for file in files
            if file.model not in known or file.saved_at < oldest or not file.is_sound
        ]
        delete(gone)
        self.make_room(0, most)

    def clear_parts(self) -> None:
        """Delete what servers of earlier runs left half written."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                match = _PART.fullmatch(entry.name)
                if match is not None and match["owner"] == self._owner:
                    with suppress(OSError):
                        Path(entry.path).unlink()

    def clear(self, model: str = "") -> list[PromptFile]:
        """Delete the files of *model*, or all; return them."""
        files = [file for file in self.all() if model in ("", file.model)]
        delete(files)
        return files


def delete(files: Iterable[PromptFile]) -> None:
    """Delete *files*, as far as that is possible."""
    for file in files:
        with suppress(OSError):
            file.path.unlink(missing_ok=True)


def boot_id() -> str:
    """Return what identifies this boot of the machine; where it has no name, this process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
    except OSError:
        return _NO_BOOT_ID
