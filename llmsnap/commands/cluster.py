"""``llmsnap check --launcher NAME``: whether servers can be started on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from llmsnap.config import Config, LauncherConfig
from llmsnap.errors import StartFailed, in_full
from llmsnap.launchers import ClusterLauncher, Owner, cluster_launcher
from llmsnap.statedir import StateDir
from llmsnap.suggestions import nearest

MOST_SKEW_S = 2.0
"""A clock that is further off refuses starts as late, or takes late ones."""
NO_STATE = StateDir(Path("/nonexistent/llmsnap"), is_writable=False)


def check_launcher(config: Config, name: str, out: TextIO) -> bool:
    """Write what the cluster of launcher *name* says; return whether starts work. Blocks."""
    settings = config.launchers.get(name)
    if settings is None:
        known = ", ".join(config.launchers) or "none"
        hint = nearest(name, config.launchers)
        also = f"did you mean {hint[0]}?" if hint else f"there are: {known}"
        out.write(f"{name}: there is no such launcher; {also}\n")
        return False
    if not settings.is_remote:
        out.write(f"{name}: processes on this machine\n")
        return True
    launcher = cluster_launcher(settings, Owner.from_state(NO_STATE))
    try:
        return _try(launcher, settings, out)
    except StartFailed as error:
        out.write(f"{name}: {in_full(error)}\n")
        return False
    finally:
        launcher.close()


def _try(launcher: ClusterLauncher, settings: LauncherConfig, out: TextIO) -> bool:
    name, takes = settings.id, ", which takes the token" if settings.token else ""
    out.write(f"{name}: {launcher.describe()} at {settings.address}{takes}\n")
    nodes = launcher.nodes()
    out.writelines(
        f"{name}: machine {node.name}: {node.free_gpus:g} of {node.gpus:g} GPUs free\n"
        for node in nodes
    )
    if not nodes:
        out.write(f"{name}: its machines are not known\n")
    trial = launcher.try_start()
    out.write(f"{name}: a job on {trial.node} ended with {trial.status}\n")
    if trial.skew_s is None:
        out.write(f"{name}: its output was not received\n")
        return False
    if trial.skew_s > MOST_SKEW_S:
        out.write(f"{name}: its clock is {trial.skew_s:.0f} s off: set it, by NTP for example\n")
        return False
    out.write(f"{name}: its clock is right, within {max(trial.skew_s, 0.1):.1f} s\n")
    return True
