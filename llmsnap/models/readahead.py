"""Reading ahead: the files of a model that will be loaded are read while another one still leaves.

Reading goes into the page cache only, in a native thread of its own (the priority of I/O belongs to
a thread), in parts, between which a greenlet looks whether it still helps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

import gevent
from gevent import get_hub
from gevent.threadpool import ThreadPool

from llmsnap.config import ModelConfig, ReadAheadConfig
from llmsnap.limits import memory_available
from llmsnap.memory import (
    ServerOptions,
    lower_priority,
    mapped_bytes,
    model_files,
    read_into_cache,
)
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

MIB = 1024**2
PART_BYTES = 32 * MIB
"""What is read between two looks: a slow disk needs a third of a second for it."""
RESERVE_BYTES = 1024 * MIB
RESERVE_SHARE = 0.1
"""Of what is available, and at least RESERVE_BYTES, is left to others."""
LOOK_EVERY_S = 0.25
LOSS_BYTES, LOSS_SHARE = 32 * MIB, 0.01
"""Mapped memory that running models may lose for other reasons while this reads."""
DIRECT_OPTIONS = frozenset({"-dio", "--direct-io"})
"""Of llama-server: it reads past the page cache."""
CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class ReadAheadTarget:
    """A model to read ahead. *is_wanted* says whether it is still to be loaded, or loads."""

    model: ModelConfig
    is_wanted: Callable[[], bool]


class ReadAhead:
    """Reads for one model at a time; nothing without *settings*.

    *running* returns the processes of the models that are ready.
    """

    def __init__(
        self,
        settings: ReadAheadConfig | None,
        running: Callable[[], Iterable[int]],
        on_read: Callable[[str, int], None],
    ) -> None:
        self._settings, self._on_read = settings, on_read
        self._running = running
        self._tasks = TaskGroup("read ahead")
        self._thread: ThreadPool | None = None
        self._current: tuple[str, gevent.Greenlet[..., object]] | None = None

    def __repr__(self) -> str:
        return f"<ReadAhead of {self._current[0] if self._current else 'nothing'}>"

    def configure(self, settings: ReadAheadConfig | None) -> None:
        """Read as *settings* say from now on; None: nothing. Never switches."""
        self._settings = settings

    def begin(self, target: ReadAheadTarget, *, first: bool = False) -> None:
        """Read the files of *target*, unless another is being read. Never switches.

        *first*: its load is decided, so that it takes the place of another.
        """
        model = target.model
        if self._settings is None or model.is_elsewhere or _reads_directly(model.cmd):
            return
        if self._current is not None and not self._current[1].dead:
            if self._current[0] == model.id or not first:
                return
            self._current[1].kill(block=False)
        self._current = model.id, self._tasks.spawn(model.id, self._read, target)

    def close(self) -> None:
        """End the reading. Blocks briefly."""
        self._settings = None
        self._tasks.close(0)
        if self._thread is not None:
            # A disk may hang: then the thread ends with the program.
            gevent.with_timeout(CLOSE_S, self._thread.kill, timeout_value=None)

    def _read(self, target: ReadAheadTarget) -> None:
        files = get_hub().threadpool.apply(_files_of, (target.model.cmd,))
        parts = ((path, at) for path, size in files for at in range(0, size, PART_BYTES))
        progress, end = _Progress(self._running()), "that is all"
        for path, offset in parts:
            trouble = (
                progress.trouble(self._running()) if target.is_wanted() else "its load is over"
            )
            if trouble:
                end = trouble
                break
            if read := self._read_part(path, offset):
                progress.note(read)
                self._on_read(target.model.id, read)
            self._pace(progress)
        if progress.read_bytes:
            log.debug("<%s> %s: %s", target.model.id, progress, end)

    def _read_part(self, path: str, offset: int) -> int:
        if self._thread is None:
            self._thread = ThreadPool(1)
            self._thread.apply(lower_priority)
        try:
            read: int = self._thread.apply(read_into_cache, (path, offset, PART_BYTES))
        except OSError as error:
            log.debug("cannot read %s ahead: %s", PurePath(path).name, error.strerror)
            return 0
        return read

    def _pace(self, progress: _Progress) -> None:
        """Wait as long as ``maxRate`` demands; let other greenlets run in any case."""
        rate = self._settings.max_rate if self._settings is not None else 0
        due = progress.read_bytes / rate if rate else 0.0
        gevent.sleep(max(0.0, progress.began + due - time.monotonic()))


class _Progress:
    """How far a reading is, and whether there is still room for it."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.began = self._looked = time.monotonic()
        self.read_bytes = 0
        self._pids = frozenset(pids)
        self._mapped = mapped_bytes(self._pids)
        self._left = self._room()

    def __str__(self) -> str:
        took = time.monotonic() - self.began
        return f"read {self.read_bytes / MIB:.0f} MiB of its files ahead in {took:.2f} s"

    def note(self, read: int) -> None:
        """Note that *read* bytes came from the disk."""
        self.read_bytes += read
        self._left -= read

    def trouble(self, pids: Iterable[int]) -> str:
        """Return why the reading must stop, "" if it may go on."""
        lost = 0
        if time.monotonic() >= self._looked + LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._left = min(self._left, self._room())
            lost = self._lost(frozenset(pids))
        if self._left < PART_BYTES:
            return "there is no more free memory"
        return "running models lose memory" if lost > LOSS_SHARE * self._mapped else ""

    def _lost(self, pids: frozenset[int]) -> int:
        """Return how much of their mapped files processes have lost, as far as it matters."""
        now = mapped_bytes(pids)
        if pids != self._pids:  # one has left: what it had mapped does not count
            self._pids, self._mapped = pids, now
        return max(0, self._mapped - now - LOSS_BYTES)

    def _room(self) -> int:
        available = memory_available()
        return int(available - max(RESERVE_BYTES, RESERVE_SHARE * available))


def _reads_directly(cmd: str) -> bool:
    return not DIRECT_OPTIONS.isdisjoint(ServerOptions(cmd).words)


def _files_of(cmd: str) -> list[tuple[str, int]]:
    """Return (path, size) of the model files that a command names. Blocks on the file system."""
    options = ServerOptions(cmd)
    words = list(options.words)
    served = words[words.index("serve") + 1 :][:1] if options.is_vllm and "serve" in words else []
    return list(model_files(options.files or served))
