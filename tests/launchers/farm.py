"""Launchers of clusters for tests, and what their servers print."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gevent.event import Event

from llmsnap.config import LauncherConfig, Resources
from llmsnap.launchers import ClusterLauncher, LaunchSpec, Owner, cluster_launcher
from llmsnap.launchers.cluster.job import ClusterJob
from llmsnap.statedir import StateDir
from tests.fakes.ports import free_port
from tests.launchers import LIMIT_S, Heard
from tests.launchers.fake_ray import FakeRay


def settings_of(cluster: Any, **more: Any) -> LauncherConfig:
    """The settings of a launcher that uses *cluster*, a real one or not."""
    settings = {"id": "farm", "type": "ray", "address": cluster.url, "token": cluster.token}
    if hasattr(cluster, "user"):
        settings |= {"type": "slurm", "user": cluster.user}
        settings["log_address_given"] = f"127.0.0.1:{free_port()}"
    return LauncherConfig(**{**settings, **more})


class Farm:
    """A launcher, and the cluster that it uses."""

    def __init__(self, folder: Path, cluster: FakeRay, **settings: Any) -> None:
        self.cluster = cluster
        self.folder = folder
        self.output = Heard()
        self.launchers: list[ClusterLauncher] = []
        limits = {"placement_timeout_s": LIMIT_S, "lost_after_s": 0.5}
        self.settings = settings_of(cluster, **{**limits, **settings})
        self.launcher = self.again()

    def again(self, **settings: Any) -> ClusterLauncher:
        """The launcher of the next run of the same llmsnap, with other *settings*."""
        self.settings = replace(self.settings, **settings)
        self.launcher = cluster_launcher(self.settings, Owner.from_state(StateDir(self.folder)))
        self.launchers.append(self.launcher)
        return self.launcher

    def spec(self, cmd: str = "sleep 60", gpus: float = 1, **changes: Any) -> LaunchSpec:
        port = free_port()
        cmd, url = cmd.replace("PORT", str(port)), f"http://localhost:{port}"
        needs = {"grace_s": 0.5, "resources": Resources(gpus=gpus), **changes}
        return LaunchSpec(**{"model_id": "m", "cmd": cmd, "url": url, **needs})

    def start(self, what: str | LaunchSpec = "sleep 60", gpus: float = 1) -> ClusterJob:
        spec = self.spec(what, gpus) if isinstance(what, str) else what
        return self.launcher.start(spec, self.output, Event())

    def jobs(self) -> list[str]:
        return [job.status for job in self.cluster.jobs.values()]

    def close(self) -> None:
        for launcher in self.launchers:
            launcher.close()
        self.cluster.close()
