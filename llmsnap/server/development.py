"""``llmsnap --debug`` starts itself anew when its own code changes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import gevent

from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

POLL_S = 0.5
PACKAGE = Path(__file__).parent.parent


class CodeWatch:
    """Looks at the files of the modules that are loaded, and says once when one has changed."""

    def __init__(
        self,
        on_change: Callable[[], object],
        folder: Path = PACKAGE,
        modules: Mapping[str, ModuleType] = sys.modules,
    ) -> None:
        self.has_changed = False
        self._on_change = on_change
        self._folder = folder
        self._modules = modules
        self._known = self._look()

    def __repr__(self) -> str:
        return f"<CodeWatch {self._folder}, {'changed' if self.has_changed else 'as loaded'}>"

    def run(self) -> None:
        """Look until a file has changed for good. Blocks."""
        while not self.has_changed:
            gevent.sleep(POLL_S)
            self.check()

    def check(self) -> None:
        """Look once. A file that does not compile is one that somebody is still writing."""
        found = self._look()
        changed = [path for path, stamp in found.items() if self._known.get(path, stamp) != stamp]
        self._known = found
        if changed and all(map(_compiles, changed)):
            log.info("%s changed: starting anew", ", ".join(path.name for path in changed))
            self.has_changed = True
            self._on_change()

    def _look(self) -> dict[Path, int]:
        found, ours = {}, f"{self._folder}{os.sep}"
        for module in tuple(self._modules.values()):
            file = getattr(module, "__file__", None)
            if file and file.startswith(ours) and (path := Path(file)).exists():
                found[path] = path.stat().st_mtime_ns
        return found


@contextmanager
def watching_code(on_change: Callable[[], object]) -> Iterator[CodeWatch]:
    """Call *on_change* when the code of llmsnap has changed, until the block ends."""
    watch = CodeWatch(on_change)
    tasks = TaskGroup("code")
    tasks.spawn("watch", watch.run)
    try:
        yield watch
    finally:
        tasks.close(0)


def start_anew() -> None:
    """Become a new process of the same command; returns only when that fails."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command


def _compiles(path: Path) -> bool:
    try:
        compile(path.read_bytes(), path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        log.warning("%s changed, and is not loaded: %s", path.name, error)
        return False
    return True
