"""Captures on disk (``store.captureDir``): one file each, the oldest deleted beyond a size.

The index is kept in the event loop; files are written and deleted in a thread. Ids go on from run
to run with the store, so a folder belongs to one store.
"""

from __future__ import annotations

import logging
import os
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from gevent.event import Event

from llmsnap.tasks import TaskGroup
from llmsnap.telemetry.captures import Capture
from llmsnap.telemetry.workers import WorkerStuck, WorkerThread

log = logging.getLogger(__name__)

NAME = re.compile(r"capture-([0-9]{1,18})")
UNFINISHED = ".part"
MOST_WAITING = 256
"""Captures that wait to be written; further ones are in memory only."""
DISK_S = 5.0
"""Longest wait for a slow disk."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Capture).decode


class CaptureFiles:
    """Captures in files below *folder*, at most *budget* bytes of them.

    *on_evict* is called with the id of each deleted one. A disk that fails, or is too slow, costs
    captures; that is logged once.
    """

    def __init__(self, folder: Path, budget: int, on_evict: Callable[[int], None]) -> None:
        self.folder = folder
        self.budget = budget
        self.used = 0
        self._on_evict = on_evict
        self._sizes: OrderedDict[int, int] = OrderedDict()  # oldest first
        self._waiting: deque[Capture] = deque()
        self._doomed: list[int] = []  # not in the index any more, and not yet deleted
        self._arrived = Event()
        self._is_closing = self._has_warned = False
        self._thread = WorkerThread("captures")
        self._tasks = TaskGroup("captures")

    def __repr__(self) -> str:
        return f"<CaptureFiles {len(self._sizes)} in {self.folder}, {self.used} bytes>"

    def __contains__(self, capture_id: int) -> bool:
        return capture_id in self._sizes

    def open(self, next_id: int) -> None:
        """Index the captures of earlier runs, delete those from *next_id* on. Blocks.

        Raises: OSError.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sizes = {}
        for entry in os.scandir(self.folder):
            name = NAME.fullmatch(entry.name.removesuffix(UNFINISHED))
            if name is None:
                continue
            if entry.name == name[0] and int(name[1]) < next_id:
                sizes[int(name[1])] = entry.stat(follow_symlinks=False).st_size
            else:
                Path(entry.path).unlink()
        self._sizes = OrderedDict(sorted(sizes.items()))
        self.used = sum(sizes.values())
        self._evict()
        self._tasks.spawn("writer", self._run)

    def keep(self, capture: Capture) -> None:
        """Queue *capture* to be written, between ``open`` and ``close``. Never switches."""
        if len(self._tasks) and len(self._waiting) < MOST_WAITING:
            self._waiting.append(capture)
            self._arrived.set()

    def read(self, capture_id: int) -> Capture | None:
        """Return a capture; None if there is none, or it cannot be read. Blocks."""
        if capture_id not in self._sizes:
            return None
        try:
            return self._thread.run(self._read, capture_id, timeout_s=DISK_S)
        except (OSError, WorkerStuck, msgspec.MsgspecError) as error:
            log.warning("capture %d cannot be read: %s", capture_id, error)
            return None

    def close(self) -> None:
        """Write what is queued, and end the thread. Blocks up to about *DISK_S*."""
        self._is_closing = True
        self._arrived.set()
        self._tasks.close(DISK_S)
        self._thread.close()

    # --- in the event loop -----------------------------------------------------------------

    def _run(self) -> None:
        """Write the queue until it is closed and empty. Blocks."""
        while True:
            while self._waiting or self._doomed:
                self._write_next()
            if self._is_closing:
                return
            self._arrived.clear()
            self._arrived.wait()

    def _write_next(self) -> None:
        capture = self._waiting.popleft() if self._waiting else None
        doomed, self._doomed = self._doomed, []
        try:
            size = self._thread.run(self._work, capture, doomed, timeout_s=DISK_S)
        except (OSError, WorkerStuck) as error:
            if not self._has_warned:
                reason = getattr(error, "strerror", None) or error
                log.warning("captures are not written to %s: %s", self.folder, reason)
            self._has_warned = True
            return
        self._has_warned = False
        if capture is not None:
            self._sizes[capture.id] = size
            self.used += size
            self._evict()

    def _evict(self) -> None:
        while self.used > self.budget:
            oldest, size = self._sizes.popitem(last=False)
            self.used -= size
            self._doomed.append(oldest)
            self._on_evict(oldest)

    # --- in the thread ---------------------------------------------------------------------

    def _work(self, capture: Capture | None, doomed: list[int]) -> int:
        """Delete the captures *doomed* and write *capture*; return the size of its file."""
        for capture_id in doomed:
            with suppress(FileNotFoundError):
                self._path(capture_id).unlink()
        if capture is None:
            return 0
        data = _encode(capture)
        path = self._path(capture.id)
        unfinished = path.with_name(path.name + UNFINISHED)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
                file.write(data)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        return len(data)

    def _read(self, capture_id: int) -> Capture:
        return _decode(self._path(capture_id).read_bytes())

    def _path(self, capture_id: int) -> Path:
        return self.folder / f"capture-{capture_id}"
