"""Watches the configuration's files and reloads them once they have not changed for a second.

inotify on their folders only wakes the watcher, which then compares which files there are, in which
version. Renames by editors, symlinks and the ``..data`` swap of Kubernetes are thus the
same case, and polling covers bind mounts and systems without inotify.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from gevent import socket
from gevent.event import Event

from llmsnap.config import SUFFIXES, Sources, hash_of, read_contents
from llmsnap.configfile import Look, Source, Version, has_lost_folder, settled, version_of
from llmsnap.errors import ConfigError
from llmsnap.service import Service
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

QUIET_S = 1.0
POLL_S = 2.0


class ConfigWatcher:
    """Calls *on_change*, which may block, after a file of *source* has changed and come to rest.

    A file or directory that is missing is no change, nor is a directory without its files.
    """

    def __init__(
        self,
        source: Source,
        on_change: Callable[[Look], None],
        *,
        quiet_s: float = QUIET_S,
        poll_s: float = POLL_S,
    ) -> None:
        self.source = source
        self._on_change = on_change
        self._quiet_s = quiet_s
        self._poll_s = poll_s
        self._tasks = TaskGroup("watch config")
        self._notifier: _Notifier | None = None

    def __repr__(self) -> str:
        return f"<ConfigWatcher {self.source}>"

    def open(self, known_hash: str = "") -> None:
        """Begin to watch. The files as they are now count as known if their hash is *known_hash*.

        So a change between reading them and this call is not missed. Without a hash, any content
        counts as known.
        """
        sources = Sources.of(self.source)
        self._notifier = _Notifier(_places(sources), sources.folder)
        found = version_of(sources)
        if known_hash and _hash(sources) != known_hash:
            found = None
        self._tasks.spawn("file", self._watch, found)

    def close(self) -> None:
        """Stop watching. Blocks briefly."""
        self._tasks.kill()
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def _watch(self, known: Version | None) -> None:
        while True:
            found = version_of(self.source)
            if found == known or self._is_missing(found, known):
                self._wait(self._poll_s)
                continue
            rested = settled(
                self.source, rest_s=self._quiet_s, limit_s=None, is_written=self._is_written
            )
            if not self._is_missing(rested.version, known):
                known = rested.version
                self._on_change(rested)

    def _is_missing(self, found: Version | None, known: Version | None) -> bool:
        return found is None or has_lost_folder(self.source, found, known or ())

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

    def __init__(self, places: list[Path], folder: str = "") -> None:
        self._inotify = None
        self._names = {place.name for place in places}
        self._suffixes = SUFFIXES if folder else ()
        self._written = False
        try:
            from inotify_simple import INotify, flags  # noqa: PLC0415 - Linux only

            inotify = INotify(nonblocking=True)
            self._modified = flags.MODIFY
            self._ended = flags.CLOSE_WRITE | flags.CREATE | flags.MOVED_TO | flags.DELETE
            folders = {str(place.parent) for place in places} | ({folder} if folder else set())
            for each in sorted(folders):
                inotify.add_watch(each, self._modified | self._ended)
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
            if event.name in self._names or event.name.endswith(self._suffixes):
                self._written = bool(event.mask & self._modified)

    def close(self) -> None:
        """Close the descriptor."""
        if self._inotify is not None:
            self._inotify.close()


def _hash(sources: Sources) -> str:
    """The hash of the files' bytes; "" when they cannot be read."""
    try:
        return hash_of(read_contents(sources))
    except ConfigError:
        return ""


def _places(sources: Sources) -> list[Path]:
    """The path of the file as given, and that of the file it leads to."""
    if not sources.file:
        return []
    given = Path(os.path.abspath(sources.file))  # noqa: PTH100 - keeps symlinks
    return [given, given.resolve()]


def watch(service: Service) -> ConfigWatcher:
    """Return a watcher, already open, that reloads *service* when its file changes."""

    def reload(found: Look) -> None:
        try:
            service.reload(found)
        except ConfigError as error:
            log.debug("reload refused: %s", error)  # the service has logged every problem

    watcher = ConfigWatcher(service.runtime.config.sources, reload)
    watcher.open(service.runtime.config.content_hash)
    log.info("watching %s for changes", watcher.source)
    return watcher
