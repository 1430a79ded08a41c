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
from llmsnap.launchers.cluster.launcher import ClusterLauncher
from llmsnap.launchers.cluster.ray import RayEngine
from llmsnap.launchers.cluster.rest import warm_up
from llmsnap.launchers.cluster.slurm import SlurmEngine
from llmsnap.statedir import StateDir

ENGINES: dict[str, Callable[[LauncherConfig, Owner], Engine]] = {
    "ray": lambda settings, _owner: RayEngine(settings),
    "slurm": SlurmEngine,
}
"""How to make each engine, by the ``type`` of its launcher."""


def cluster_launcher(settings: LauncherConfig, state: StateDir) -> ClusterLauncher:
    """Return the launcher with these settings. Blocks briefly, on the state directory."""
    owner = Owner.from_state(state)
    return ClusterLauncher(settings, ENGINES[settings.type](settings, owner), owner)


__all__ = ["ENGINES", "ClusterLauncher", "cluster_launcher", "warm_up"]
