"""Servers as jobs of a cluster's engine, which decides where they run and runs them.

Read ``engine`` first: the interface to engines, with jobs as plain data. ``launcher`` starts,
adopts and discards jobs, ``job`` is the handle of one, ``entrypoint`` makes its command, which runs
``runner`` on the machine of the cluster. ``identity`` has ids and keys, ``rest`` makes calls,
``job_output`` receives output where the engine does not have it. A further engine is a class for
``engine.Engine`` and its entry in ENGINES, its name in ``config.launchers.TYPES``, and its fake in
``tests/launchers``.
"""

from collections.abc import Callable

from llmsnap.config import LauncherConfig
from llmsnap.launchers.cluster.engine import Engine
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.job_output import Receivers
from llmsnap.launchers.cluster.launcher import ClusterLauncher
from llmsnap.launchers.cluster.ray import RayEngine
from llmsnap.launchers.cluster.rest import warm_up
from llmsnap.launchers.cluster.slurm import SlurmEngine

ENGINES: dict[str, Callable[[LauncherConfig, Owner, Receivers], Engine]] = {
    "ray": lambda settings, _owner, _receivers: RayEngine(settings),
    "slurm": SlurmEngine,
}
"""How to make each engine, by the ``type`` of its launcher."""


def cluster_launcher(
    settings: LauncherConfig, owner: Owner, receivers: Receivers | None = None
) -> ClusterLauncher:
    """Return the launcher with these settings.

    Launchers of one llmsnap share *receivers*: one that follows another listens at the same port.
    """
    shared = {} if receivers is None else receivers
    return ClusterLauncher(settings, ENGINES[settings.type](settings, owner, shared), owner)


__all__ = ["ENGINES", "ClusterLauncher", "Owner", "Receivers", "cluster_launcher", "warm_up"]
