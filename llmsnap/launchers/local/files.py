"""The state of the files that a command names.

A model that keeps failing is not started again for a while. A change of its program, script or
weights ends that delay.
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
"""Timeout of the file system in seconds: a network file system can be unreachable."""
MAX_NAMES = 256
MAX_ENTRIES = 1024
MODEL_SUFFIXES = frozenset(
    {".bin", ".gguf", ".json", ".jinja", ".model", ".onnx", ".pt", ".pth", ".safetensors"}
)
"""Only these files of a directory count: it may be one for logs or caches."""
PROGRAM = re.compile(r"[A-Za-z][\w.+-]*")
WORDS = re.compile(r"""[^\s'"`;&|<>()]+""")

FileState = tuple[str, int, int, int]
Fingerprint = frozenset[FileState]


class Fingerprints:
    """Reads fingerprints in threads; concurrent callers with the same arguments share one read."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, tuple[str, ...]], Any] = {}

    def __repr__(self) -> str:
        return f"<Fingerprints, {len(self._looks)} being read>"

    def read(self, cmd: str, env: tuple[str, ...]) -> Fingerprint | None:
        """Return ``fingerprint(cmd, env)``; None when that takes longer than LIMIT_S. Blocks."""
        key = cmd, env
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = gevent.get_hub().threadpool.spawn(fingerprint, cmd, env)
            look.rawlink(lambda _: self._looks.pop(key, None))
        found: Fingerprint | None = look.wait(LIMIT_S)
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
    """Yield possible paths: words, the text after a "=" in them, and words of a shell script."""
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
    """Return the state of a file, or of those in a directory that may be parts of a model."""
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
