"""Starts and stops inference servers: one interface, and one package for each implementation.

Read ``base`` first: a Launcher starts a server from a LaunchSpec and returns a Handle, which has
the server's URL and an event for its exit. ``local`` runs servers as child processes, ``external``
is for servers that other programs run. A further
launcher is a module beside it, its entry in LAUNCHERS, its name in
``config.model_settings.LAUNCHER_NAMES``, and its commands in ``tests/launchers/test_contract.py``.
"""

from collections.abc import Callable

from llmsnap.config import EXTERNAL
from llmsnap.launchers.base import ExitStatus, Handle, Launcher, LaunchSpec, Output
from llmsnap.launchers.external import ExternalLauncher
from llmsnap.launchers.local import LocalLauncher, PidFile, reap_adopted
from llmsnap.statedir import StateDir

LAUNCHERS: dict[str, Callable[[StateDir], Launcher]] = {
    "local": LocalLauncher.from_state,
    EXTERNAL: ExternalLauncher.from_state,
}
"""How to make each launcher that a model may name, and that of models without a command."""

__all__ = [
    "LAUNCHERS",
    "ExitStatus",
    "ExternalLauncher",
    "Handle",
    "LaunchSpec",
    "Launcher",
    "LocalLauncher",
    "Output",
    "PidFile",
    "reap_adopted",
]
