"""Starts and stops inference servers: one interface, and one package for each implementation.

Read ``base`` first: a Launcher starts a server from a LaunchSpec and returns a Handle, which has
the server's URL and an event for its exit. ``local`` runs servers as child processes, ``external``
is for servers that other programs run, ``cluster`` runs them as jobs of an engine on other
machines; ``registry`` has them by name. All of them pass ``tests/launchers/test_contract.py``.
"""

from llmsnap.launchers.base import ExitStatus, Handle, Launcher, LaunchSpec, NodeView, Output
from llmsnap.launchers.cluster import ClusterLauncher, Owner, cluster_launcher, warm_up
from llmsnap.launchers.external import ExternalLauncher
from llmsnap.launchers.local import LocalLauncher, PidFile, reap_adopted
from llmsnap.launchers.registry import Launchers

__all__ = [
    "ClusterLauncher",
    "ExitStatus",
    "ExternalLauncher",
    "Handle",
    "LaunchSpec",
    "Launcher",
    "Launchers",
    "LocalLauncher",
    "NodeView",
    "Output",
    "Owner",
    "PidFile",
    "cluster_launcher",
    "reap_adopted",
    "warm_up",
]
