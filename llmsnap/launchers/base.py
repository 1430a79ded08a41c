"""The seam between a model and what runs its server.

The rest of llmsnap knows a Launcher and the Handle it returns: where the server is, whether it
has exited, how to stop it. Local child processes (``child.py``) are one implementation.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from gevent.event import Event

Output = Callable[[bytes], object]
"""Takes what the server printed, in the pieces it arrived in; must never switch greenlets.

A true result means that too much is coming.
"""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to run: *cmd* is the command text, *env* is ``NAME=value`` entries.

    *url* is where the server will answer; *generation* tells one run of a model from the next.
    """

    model_id: str
    cmd: str
    url: str
    env: tuple[str, ...] = ()
    generation: int = 0
    grace_s: float = 10.0
    """Time between SIGTERM and SIGKILL, should llmsnap be killed."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a server ended: *code* as a shell shows it, *signal* its name when one ended it."""

    code: int
    signal: str = ""

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit code {self.code}"


def exit_status(code: int) -> ExitStatus:
    """Return how a process ended, from the return code that ``subprocess`` gives it."""
    if code >= 0:
        return ExitStatus(code)
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = str(-code)
    return ExitStatus(128 - code, name)


class Handle(Protocol):
    """One running server."""

    url: str
    pid: int | None
    exited: Event
    """Set as soon as the server has ended, whoever still holds its output."""
    gone: Event
    """Set once nothing of it is left: no descendant, no port, no open output."""
    status: ExitStatus | None

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        """Ask it to end, and make it end after *grace_s*. Blocks until it is gone. Idempotent.

        *cmd_stop* is a command text that asks it, with ``${PID}`` for its process id.
        """

    def kill(self) -> None:
        """End it and all it started at once. Never switches greenlets."""

    def allow(self, grace_s: float) -> None:
        """Change the time between SIGTERM and SIGKILL, should llmsnap be killed. Never switches."""


class Launcher(Protocol):
    """Starts servers."""

    def check(self, spec: LaunchSpec, leaving: frozenset[int] = frozenset()) -> None:
        """Raise StartFailed for what can be known before anything is started.

        A port held by one of the pids *leaving* counts as free.
        """

    def start(self, spec: LaunchSpec, output: Output) -> Handle:
        """Start the server. Blocks briefly. Raises: StartFailed."""

    def stop_leftovers(self) -> list[str]:
        """Stop what an llmsnap that has ended left running; return a line about each. Blocks."""

    def withhold(self, names: Iterable[str]) -> None:
        """Keep these variables of our environment, too, from all servers that start from now on."""

    def close(self) -> None:
        """End what the launcher runs for itself. Blocks, bounded."""
