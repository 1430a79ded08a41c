"""Watches the configuration file and reloads it once it has not changed for a second.

inotify on its folders only wakes the watcher, which then compares the fingerprint of the file that
the path leads to. Renames by editors, symlinks and the ``..data`` swap of Kubernetes are thus the
same case, and polling covers bind mounts and systems without inotify.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from gevent import socket
from gevent.event import Event

from llmsnap.configfile import Fingerprint, Look, fingerprint, settled
from llmsnap.errors import ConfigError
from llmsnap.service import Service
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

QUIET_S = 1.0
POLL_S = 2.0


class ConfigWatcher:
    """Calls *on_change*, which may block, after the file at *path* has changed and come to rest."""

    def __init__(
        self,
        path: str,
        on_change: Callable[[Look], None],
        *,
        quiet_s: float = QUIET_S,
        poll_s: float = POLL_S,
    ) -> None:
        self.path = path
        self._on_change = on_change
        self._quiet_s = quiet_s
        self._poll_s = poll_s
        self._tasks = TaskGroup("watch config")
        self._notifier: _Notifier | None = None

    def __repr__(self) -> str:
        return f"<ConfigWatcher {self.path}>"

    def open(self, known_hash: str = "") -> None:
        """Begin to watch. The file as it is now counts as known if its hash is *known_hash*.

        So a change between reading the file and this call is not missed. Without a hash, any
        content counts as known.
        """
        self._notifier = _Notifier(_places(self.path))
        found = fingerprint(self.path)
        if known_hash and _hash(self.path) != known_hash:
            found = None
        self._tasks.spawn("file", self._watch, found)

    def close(self) -> None:
        """Stop watching. Blocks briefly."""
        self._tasks.kill()
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def _watch(self, known: Fingerprint | None) -> None:
        while True:
            found = fingerprint(self.path)
            if found is None or found == known:
                self._wait(self._poll_s)
                continue
            rested = settled(
                self.path, rest_s=self._quiet_s, limit_s=None, is_written=self._is_written
            )
            known = rested.version
            if known is not None:  # else it is missing, which is no reason to reload
                self._on_change(rested)

    def _wait(self, limit_s: float) -> None:
        if self._notifier is not None:
            self._notifier.wait(limit_s)

    def _is_written(self) -> bool:
        return self._notifier is not None and self._notifier.is_written()


class _Notifier:
    """Waits for changes in the folders of some files; without inotify it only waits.

    It also tracks whether a writer has one of them open, which cannot be found out otherwise for a
    file of another user.
    """

    def __init__(self, places: list[Path]) -> None:
        self._inotify = None
        self._names = {place.name for place in places}
        self._written = False
        try:
            from inotify_simple import INotify, flags  # noqa: PLC0415 - Linux only

            inotify = INotify(nonblocking=True)
            self._modified = flags.MODIFY
            self._ended = flags.CLOSE_WRITE | flags.CREATE | flags.MOVED_TO | flags.DELETE
            for folder in sorted({str(place.parent) for place in places}):
                inotify.add_watch(folder, self._modified | self._ended)
            self._inotify = inotify
        except (ImportError, AttributeError) as error:  # see installation.platform_warnings
            log.debug("no inotify on this system: %s", error)
        except OSError as error:
            log.info("no inotify (%s): the configuration file is polled every 2 s", error)

    def wait(self, limit_s: float) -> None:
        """Return after an event, or after *limit_s*. Blocks."""
        if self._inotify is None:
            Event().wait(limit_s)
            return
        try:
            socket.wait_read(self._inotify.fileno(), timeout=limit_s)
        except TimeoutError:
            return
        self._read()

    def is_written(self) -> bool:
        """Return whether a file was changed by a writer that has not closed it since."""
        self._read()
        return self._written

    def _read(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read(timeout=0):
            if event.name in self._names:
                self._written = bool(event.mask & self._modified)

    def close(self) -> None:
        """Close the descriptor."""
        if self._inotify is not None:
            self._inotify.close()


def _hash(path: str) -> str:
    """SHA-256 of the file's bytes, in hexadecimal; "" when it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _places(path: str) -> list[Path]:
    """The path as given, and that of the file it leads to."""
    given = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symlinks, which resolve() does not
    return [given, given.resolve()]


def watch(service: Service) -> ConfigWatcher:
    """Return a watcher, already open, that reloads *service* when its file changes."""

    def reload(found: Look) -> None:
        try:
            service.reload(found)
        except ConfigError as error:
            log.debug("reload refused: %s", error)  # the service has logged every problem

    watcher = ConfigWatcher(service.runtime.config.source, reload)
    watcher.open(service.runtime.config.content_hash)
    log.info("watching %s for changes", watcher.path)
    return watcher
