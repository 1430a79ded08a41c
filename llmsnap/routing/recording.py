"""The file that ``--record-decisions`` names."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from typing import IO

log = logging.getLogger(__name__)


class Recording:
    """Takes lines from its construction on; writes them from ``open`` to ``close``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._early: list[str] = []

    def __repr__(self) -> str:
        return f"<Recording {self.path}>"

    def __call__(self, line: str) -> None:
        """Write *line*. A file that cannot be written any more is said so once, and given up."""
        if self._file is None:
            self._early.append(line)
            return
        try:
            self._file.write(line + "\n")
        except OSError as error:
            log.warning("decisions are not recorded any more: %s: %s", self.path, error.strerror)
            self.close()

    def open(self) -> None:
        """Begin a new file, which only our user may read. Raises: OSError."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with suppress(OSError):  # not ours, or no file: a pipe, the terminal
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
        self._file = os.fdopen(fd, "w", encoding="utf-8", buffering=1)
        early, self._early = self._early, []
        for line in early:
            self(line)

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._early = []
