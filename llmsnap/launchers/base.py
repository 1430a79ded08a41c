"""The interface between a model and what runs its server.

A Launcher starts a server from a LaunchSpec and returns its Handle: where the server answers, when
it has ended, how to stop it. The server may run as a child of llmsnap (``local``) or as a job on
another machine. So an id is text that means something to its launcher alone, and the address counts
that the handle has, not the one of the configuration. ``tests/launchers/test_contract.py`` holds
what every launcher has to do.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Hashable, Iterable
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

    *url* is the configured address of the server, which a launcher may replace. *generation*
    distinguishes the runs of a model.
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
    """How a server ended: *code* as a shell shows it, *signal* its name when one ended it.

    *reason* is what a launcher says instead where there is no code: the server's machine was lost,
    its job was preempted.
    """

    code: int | None = None
    signal: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.signal:
            return f"signal {self.signal}"
        if self.code is not None:
            return f"exit code {self.code}"
        return self.reason or "an unknown status"


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

    id: str
    """Names this run among all that a launcher runs. Only its launcher takes it apart."""
    url: str
    """Where the server answers, once it does."""
    local_pid: int | None
    """Its process on this machine, whose memory can be measured; None when it runs elsewhere."""
    exited: Event
    """Set as soon as the server has ended, even while something still holds its output open."""
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

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        """Raise StartFailed for what can be known before anything is started.

        *leaving* are ids of handles, of any launcher, that will be gone by the time of the start:
        what they hold, such as a port, counts as free.
        """

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Handle:
        """Start the server; return as soon as its address is known. It need not answer yet.

        Blocks: a launcher may have to wait for a place to run it. As soon as *cancelled* is set, it
        stops waiting and raises. After an error nothing is left of the attempt.
        Raises: StartFailed.
        """

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        """Return the state of what the server is made of, such as its program and weights.

        A model that keeps failing is started again once its fingerprint is another one. None: not
        known now, or never. Blocks briefly, bounded.
        """

    def stop_leftovers(self) -> list[str]:
        """Stop what an llmsnap that has ended left running; return a line about each. Blocks."""

    def withhold(self, names: Iterable[str]) -> None:
        """Keep these variables of our environment, too, from all servers that start from now on."""

    def close(self) -> None:
        """End what the launcher runs for itself. Blocks, bounded."""
