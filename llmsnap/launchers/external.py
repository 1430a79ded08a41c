"""Servers of other programs, which llmsnap uses but neither starts nor stops.

A model without a command is such a server. Its handle ends when the model is unloaded, which leaves
the server alone, and when nothing listens at its address any more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from urllib.parse import urlsplit

from gevent import socket
from gevent.event import Event

from llmsnap.launchers.base import ExitStatus, Launcher, LaunchSpec, Output
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

WATCH_S = 5.0
FIRST_S = 0.25
"""Seconds between two looks at a server that was not seen yet."""
CONNECT_S = 3.0
MISSES = 2
"""A server counts as gone after so many failed connects in a row."""


class ExternalLauncher(Launcher):
    """Makes handles for servers that run already, or do not."""

    def __init__(self) -> None:
        self._tasks = TaskGroup("external servers")

    @classmethod
    def from_state(cls, _state: StateDir) -> ExternalLauncher:
        """Return the launcher; it keeps no state."""
        return cls()

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        """See Launcher.check: there is nothing to check before the server is asked."""

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> ExternalServer:
        """Return the handle of the server at the address of *spec*. Never blocks."""
        server = ExternalServer(spec)
        self._tasks.spawn(f"watch {spec.model_id}", server.watch)
        return server

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        """Return None: nothing is known of the server's files."""
        return None

    def stop_leftovers(self) -> list[str]:
        """Return an empty list: nothing was started."""
        return []

    def withhold(self, names: Iterable[str]) -> None:
        """See Launcher.withhold: no environment is passed on."""

    def close(self) -> None:
        """Stop watching. Blocks briefly."""
        self._tasks.kill()


class ExternalServer:
    """The use of one server; a ``launchers.Handle``."""

    def __init__(self, spec: LaunchSpec) -> None:
        self.id = f"external-{spec.model_id}-{spec.generation}"
        self.url = spec.url
        self.local_pid: int | None = None
        self.node = self.key = ""
        self.is_adopted = False
        self.exited = Event()
        self.gone = Event()
        self.status: ExitStatus | None = None

    def __repr__(self) -> str:
        return f"<ExternalServer {self.url}, {self.status or 'in use'}>"

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        """End the use of the server, which goes on running."""
        self.kill()

    def kill(self) -> None:
        """End the use of the server, which goes on running. Never switches greenlets."""
        self._end("no longer used")

    def wait_exit(self, limit_s: float) -> None:
        """See Handle.wait_exit."""
        self.exited.wait(limit_s)

    def allow(self, grace_s: float) -> None:
        """See Handle.allow: nothing is stopped."""

    def watch(self, listens: Callable[[str], bool] | None = None) -> None:
        """End the use once nothing *listens* any more, where something did. Blocks until the end.

        A server that was never seen is left to the health check.
        """
        listens = listens or is_listening
        seen, misses = False, 0
        while not self.exited.wait(WATCH_S if seen else FIRST_S):
            if listens(self.url):
                seen, misses = True, 0
            elif seen:
                misses += 1
            if misses >= MISSES:
                self._end("nothing listening at its address")

    def _end(self, reason: str) -> None:
        if not self.exited.is_set():
            self.status = ExitStatus(reason=reason)
            self.exited.set()
            self.gone.set()


def is_listening(url: str, limit_s: float = CONNECT_S) -> bool:
    """Return whether a connection to the server at *url* can be opened. Blocks up to *limit_s*."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=limit_s).close()
    except OSError:
        return False
    return True
