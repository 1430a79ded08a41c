"""The interface between a model and the launcher of its server.

A Launcher starts a server from a LaunchSpec and returns its Handle: the server's URL, an event for
its exit, and the methods to stop it. The server may run as a child of llmsnap (``local``) or as a
job on another machine, so an id is opaque to all but its launcher, and the URL of the handle
applies, not the configured one. ``tests/launchers/test_contract.py`` tests every launcher.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gevent.event import Event

from llmsnap.config import NO_RESOURCES, LauncherConfig, Resources

Output = Callable[[bytes], object]
"""Receives the server's output, in chunks as they arrive; must never switch greenlets.

A true result means that the rate is too high, and the reader should yield.
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
    listens: bool = True
    """Whether the command itself listens at *url*; if not, another server may do so already."""
    resources: Resources = NO_RESOURCES
    """What it needs on the machine that the launcher finds."""
    keeps_engine_env: bool = False
    """Whether the server gets the variables that the engine sets for its jobs."""
    makes_key: bool = True
    """Whether a launcher on other machines makes a key for the server; else it has its own."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a server ended: *code* as a shell shows it, *signal* the name of the one that ended it.

    *reason* is a launcher's text where there is no code: the server's machine was lost, its job was
    preempted.
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
    """Return the exit status of a process from its return code in ``subprocess``."""
    if code >= 0:
        return ExitStatus(code)
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = str(-code)
    return ExitStatus(128 - code, name)


@dataclass(frozen=True, slots=True)
class NodeView:
    """A machine of a launcher: its GPUs, and those that its engine has not given away.

    *labels* are what it offers, None where that is unknown. One that is not *usable* takes no jobs.
    """

    name: str
    gpus: float
    free_gpus: float
    labels: tuple[str, ...] | None = None
    is_usable: bool = True


class Handle(Protocol):
    """One running server."""

    id: str
    """Identifies this run among all of a launcher. Only its launcher parses it."""
    url: str
    """The server's URL."""
    local_pid: int | None
    """Its process id on this machine, for measuring its memory; None when it runs elsewhere."""
    node: str
    """The name of the machine that it runs on; empty: this one."""
    key: str
    """The key that requests to it need, made for this start; empty: none."""
    is_adopted: bool
    """Whether an earlier run started it: it may be asleep."""
    exited: Event
    """Set as soon as the server has ended, even while a descendant still holds its output open."""
    gone: Event
    """Set once nothing of it remains: no descendant, no port, no open output."""
    status: ExitStatus | None

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        """Stop it gracefully, kill it after *grace_s*. Blocks until it is gone. Idempotent.

        *cmd_stop* is the text of a command that stops it, with ``${PID}`` for its process id.
        """

    def kill(self) -> None:
        """Kill it and all its descendants at once. Never switches greenlets.

        On another machine: ask its engine for that, which takes the time of a ``stop``.
        """

    def wait_exit(self, limit_s: float) -> None:
        """Wait for its exit, after a connection to it has failed: it may have ended. Blocks.

        *limit_s* is for a server that still listens; a launcher that learns of an exit late takes
        longer where nothing listens any more.
        """

    def allow(self, grace_s: float) -> None:
        """Change the time between SIGTERM and SIGKILL, should llmsnap be killed. Never switches."""


class Launcher(Protocol):
    """Starts servers. Launchers inherit what they leave out."""

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        """Raise StartFailed for problems that can be detected before a start.

        *leaving* are ids of handles, of any launcher, that will be gone by the time of the start:
        their resources, such as a port, count as free.
        """

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Handle:
        """Start the server; return as soon as its address is known. It need not respond yet.

        Blocks: a launcher may have to wait for a machine to run it. As soon as *cancelled* is set,
        it stops waiting and raises. After an error nothing of the attempt remains.
        Raises: StartFailed.
        """

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        """Return the state of the server's files, such as its program and weights.

        A model that keeps failing is started again once its fingerprint changes. None: not known
        now, or never. Blocks briefly, bounded.
        """

    def stop_leftovers(self) -> list[str]:
        """Stop processes left by an llmsnap that has ended; return a line about each. Blocks."""

    def withhold(self, names: Iterable[str]) -> None:
        """Remove these variables, too, from the environment of servers started from now on."""

    def renew(self, settings: LauncherConfig) -> bool:
        """Take what *settings* change and servers that run do not depend on: the token.

        Returns whether these are its settings now. Never switches greenlets.
        """
        del settings
        return False

    def adopt(self, specs: Sequence[LaunchSpec]) -> list[str]:
        """Keep servers of an earlier run that *specs* would start; return their models. Blocks.

        Called before ``stop_leftovers``, which stops the others. ``start`` returns a kept server.
        """
        del specs
        return []

    def nodes(self) -> list[NodeView]:
        """Return the machines that it may use; empty where it cannot tell. Blocks, bounded."""
        return []

    def trouble(self) -> str:
        """Return why no server can be started now, as far as is known. Never switches."""
        return ""

    def release(self) -> None:
        """Note that llmsnap ends. From now on ``stop`` leaves servers that the next run adopts."""

    def close(self) -> None:
        """End the launcher's own processes. Blocks, bounded."""
