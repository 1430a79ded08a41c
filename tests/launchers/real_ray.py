"""A real Ray cluster of three nodes on this machine, for ``make e2e-cluster``.

LLMSNAP_RAY names the virtual environment that Ray is installed in. Each node has a PID namespace of
its own, so that it can be killed with all that belongs to it, and an address from 127.0.0.10 on.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import psutil
import requests
from gevent import subprocess

HEAD = "127.0.0.10"
GCS_PORT, DASHBOARD_PORT, REDIS_PORT = 26379, 28265, 26380
WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Runs what ends with this process, however that ends."""
UP_LIMIT_S = 120


@dataclass
class RayNode:
    host: str
    process: Any


class RealRay:
    """A head without GPUs, and two nodes with two each."""

    token = "t0ken"

    def __init__(self) -> None:
        self._ray = Path(os.environ["LLMSNAP_RAY"]) / "bin" / "ray"
        self.url = f"http://{HEAD}:{DASHBOARD_PORT}"
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its paths must be short
        self.redis = self._start_redis()
        self.head = self._start_head()
        self.nodes = [self._start_node(number) for number in (1, 2)]

    def _start_redis(self) -> Any:
        """Start Redis, where there is one: without it the nodes die with the head."""
        program = shutil.which("redis-server")
        if program is None:
            return None
        options = ["--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", ""]
        with (self.folder / "redis.log").open("w") as log:
            return subprocess.Popen([*WITH_US, program, *options], stdout=log, cwd=self.folder)

    def _start_head(self) -> RayNode:
        env = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{REDIS_PORT}"} if self.redis else {}
        options = [
            *("--head", f"--port={GCS_PORT}", f"--dashboard-host={HEAD}"),
            *(f"--dashboard-port={DASHBOARD_PORT}", "--include-dashboard=true", "--num-gpus=0"),
            f"--temp-dir={self.folder}",
        ]
        return self._started(HEAD, 0, options, env, lambda: self.call("/api/version"))

    def _start_node(self, number: int) -> RayNode:
        host = f"127.0.0.{10 + number}"
        options = [f"--address={HEAD}:{GCS_PORT}", "--num-gpus=2", f"--labels=zone=z{number}"]
        # One after another: two that start at once may run into their limits.
        return self._started(host, number, options, {}, lambda: host in str(self._nodes_known()))

    def _started(
        self, host: str, number: int, options: list[str], env: dict[str, str], is_up: Any
    ) -> RayNode:
        """Start a node; again where it gave up, as its parts do on a busy machine."""
        deadline = time.monotonic() + UP_LIMIT_S
        node = self._start(host, number, options, env)
        while not is_up():
            if node.process.poll() is not None:
                node = self._start(host, number, options, env)
            if time.monotonic() >= deadline:
                raise AssertionError((self.folder / f"{host}.log").read_text()[-2000:])
            gevent.sleep(0.1)
        return node

    def _start(self, host: str, number: int, options: list[str], env: dict[str, str]) -> RayNode:
        options = [
            *options,
            f"--dashboard-agent-listen-port=2{number}371",
            f"--metrics-export-port=2{number}372",
        ]
        fixed = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "AUTOSCALER_METRIC_PORT": "24217",
            "DASHBOARD_METRIC_PORT": "24227",
            "PATH": f"{self._ray.parent.absolute()}:{os.environ['PATH']}",  # as if activated
        }
        namespace = [*WITH_US, "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        command = [*namespace, str(self._ray), "start", f"--node-ip-address={host}", "--block"]
        with (self.folder / f"{host}.log").open("a") as log:
            process = subprocess.Popen(
                [*command, "--num-cpus=4", "--disable-usage-stats", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **fixed, **env},
                start_new_session=True,
            )
        return RayNode(host, process)

    def call(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        with contextlib.suppress(requests.RequestException):
            reply = requests.get(self.url + path, headers=headers, timeout=5)
            return reply.json() if reply.ok else None
        return None

    def _nodes_known(self) -> Any:
        found = self.call("/api/cluster_status") or {}
        with contextlib.suppress(KeyError, TypeError):
            return found["data"]["clusterStatus"]["loadMetricsReport"]["usageByNode"]
        return None

    def job_statuses(self) -> list[str]:
        return sorted(job["status"] for job in self.call("/api/jobs/") or [])

    def kill_node(self, name: str) -> None:
        """Kill all that runs on the machine *name*."""
        kill(next(node.process for node in self.nodes if node.host == name))

    def restore_node(self, name: str) -> None:
        deadline = time.monotonic() + UP_LIMIT_S
        while name in str(self._nodes_known()) and time.monotonic() < deadline:
            gevent.sleep(0.1)  # until the head has noticed: a node of that address would be known
        at = [node.host for node in self.nodes].index(name)
        self.nodes[at] = self._start_node(at + 1)

    def kill_head(self) -> None:
        kill(self.head.process)

    def restore_head(self) -> None:
        self.head = self._start_head()

    def freeze_head(self) -> None:
        """Have the head do nothing until ``thaw_head``, with its connections open."""
        for process in psutil.Process(self.head.process.pid).children(recursive=True):
            process.suspend()

    def thaw_head(self) -> None:
        for process in psutil.Process(self.head.process.pid).children(recursive=True):
            process.resume()

    def active_jobs(self) -> list[str]:
        return [job for job in self.job_statuses() if job in ("PENDING", "RUNNING")]

    def close(self) -> None:
        """Leave the cluster to the next test."""

    def shut_down(self) -> None:
        for node in (*self.nodes, self.head):
            kill(node.process)
        if self.redis is not None:
            self.redis.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(process: Any) -> None:
    """Kill the namespace of *process*: its first process takes all others along."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
