"""The files that a command names, and whether they have changed since the model failed.

A model that keeps failing is not started again for a while. Once its program, script or weights
are other ones, the reason to wait is gone.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import gevent

from llmsnap.config import split_command
from llmsnap.errors import CommandProblem

LIMIT_S = 0.5
"""How long the file system may take to answer: a network file system can be out of reach."""
MAX_NAMES = 256
MAX_ENTRIES = 1024
MODEL_SUFFIXES = frozenset(
    {".bin", ".gguf", ".json", ".jinja", ".model", ".onnx", ".pt", ".pth", ".safetensors"}
)
"""Of the files in a directory only these count: it may be one for logs or caches."""
PROGRAM = re.compile(r"[A-Za-z][\w.+-]*")
WORDS = re.compile(r"""[^\s'"`;&|<>()]+""")

FileState = tuple[str, int, int, int]
Fingerprint = frozenset[FileState]


class CommandFiles:
    """Compares the files of one model's command with what they were when it failed last."""

    def __init__(self) -> None:
        self._noted: Fingerprint | None = None
        self._look: Any = None

    def __repr__(self) -> str:
        return f"<CommandFiles {len(self._noted or ())} noted>"

    def note(self, cmd: str, env: Sequence[str]) -> None:
        """Remember the files as they are. Blocks up to LIMIT_S."""
        self._noted = self._read(cmd, env)

    def have_changed(self, cmd: str, env: Sequence[str]) -> bool:
        """Whether a file has changed, appeared or gone since ``note``. Blocks up to LIMIT_S."""
        if self._noted is None:
            return False
        found = self._read(cmd, env)
        return found is not None and found != self._noted

    def _read(self, cmd: str, env: Sequence[str]) -> Fingerprint | None:
        """Look in a thread; all who ask at the same time share one look. None: it took too long."""
        if self._look is None or self._look.ready():
            self._look = gevent.get_hub().threadpool.spawn(fingerprint, cmd, tuple(env))
        found: Fingerprint | None = self._look.wait(LIMIT_S)
        return found


def fingerprint(cmd: str, env: Sequence[str] = ()) -> Fingerprint:
    """Return path, inode, time of change and size of each file that *cmd* or *env* names.

    Blocks on the file system.
    """
    found: set[FileState] = set()
    for name in islice(dict.fromkeys(_names(cmd, env)), MAX_NAMES):
        path = shutil.which(name) if PROGRAM.fullmatch(name) else None
        found.update(_states(path or name))
    return frozenset(found)


def _names(cmd: str, env: Sequence[str]) -> Iterator[str]:
    """What may be a path: words, what follows a "=" in them, and the words of a shell's text."""
    try:
        words = split_command(cmd)
    except CommandProblem:
        words = cmd.split()
    for word in (*words, *env):
        for part in (word, *WORDS.findall(word)):
            for name in (part, part.partition("=")[2]):
                if name and not name.startswith("-"):
                    yield name


def _states(name: str) -> list[FileState]:
    """The state of a file, or of those in a directory that may be parts of a model."""
    found = _stat(name)
    if found is None:
        return []
    if not stat.S_ISDIR(found.st_mode):
        return [_state(name, found)] if stat.S_ISREG(found.st_mode) else []
    try:
        with os.scandir(name) as entries:
            paths = [entry.path for entry in islice(entries, MAX_ENTRIES)]
    except OSError:
        return []
    parts = [path for path in paths if Path(path).suffix in MODEL_SUFFIXES]
    return [_state(path, found) for path in parts if (found := _stat(path)) is not None]


def _stat(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)  # noqa: PTH116 - a Path cannot hold every word
    except (OSError, ValueError):
        return None  # no such file, or no name of one


def _state(path: str, found: os.stat_result) -> FileState:
    return path, found.st_ino, found.st_mtime_ns, found.st_size
