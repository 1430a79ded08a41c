"""What starts and stops inference servers: one interface, and one package for each way to do it.

Read ``base`` first: a Launcher starts a server from a LaunchSpec and returns a Handle, which says
where the server answers and when it has ended. ``local`` runs servers as child processes.
"""

from llmsnap.launchers.base import ExitStatus, Handle, Launcher, LaunchSpec, Output
from llmsnap.launchers.local import (
    CommandFiles,
    LocalLauncher,
    PidFile,
    has_proc,
    reap_adopted,
)

__all__ = [
    "CommandFiles",
    "ExitStatus",
    "Handle",
    "LaunchSpec",
    "Launcher",
    "LocalLauncher",
    "Output",
    "PidFile",
    "has_proc",
    "reap_adopted",
]
