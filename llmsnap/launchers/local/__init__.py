"""Servers as child processes of llmsnap, on its own machine.

``child`` spawns a server, reads its output, stops it and reaps it. ``orphans`` finds what a server
left behind, also after llmsnap was killed. ``guardian`` is a program of its own that stops the
servers of a killed llmsnap, ``guardian_client`` keeps it running. ``ports`` names the holder of a
port, ``files`` reads the state of the files that a command names.
"""

from llmsnap.launchers.local.child import LocalLauncher
from llmsnap.launchers.local.orphans import PidFile, reap_adopted

__all__ = ["LocalLauncher", "PidFile", "reap_adopted"]
