"""A real Slurm cluster of two nodes on this machine, for ``make e2e-cluster``.

LLMSNAP_SLURM wants it; Debian's packages slurmctld, slurmd, slurmrestd, slurm-client,
slurm-wlm-jwt-plugin and munge have to be installed. Everything runs as the present user, in a
folder of its own. The nodes have addresses from 127.0.0.21 on, and pretended GPUs.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent
import psutil
import requests
from gevent import subprocess

CONTROLLER_PORT, REST_PORT = 26817, 26820
WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Runs what ends with this process, however that ends."""
UP_LIMIT_S = 60
NODES = ("n1", "n2")
CONFIG = """\
ClusterName=llmsnap
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
KillWait=5
SlurmdTimeout=10
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SchedulerParameters=batch_sched_delay=0
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE
PartitionName=high Nodes=ALL PriorityTier=10 MaxTime=INFINITE
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.2{number} Port={port} CPUs=4 Gres=gpu:2"
    " Feature=z{number}\n"
)
GRES = "NodeName={name} Name=gpu File={folder}/{name}-gpu[0-1]\n"


class RealSlurm:
    """A controller, its REST interface, and two nodes with two GPUs each."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # its paths must be short
        self.folder.chmod(0o755)
        self.user = getpass.getuser()
        self.url = f"http://127.0.0.1:{REST_PORT}"
        self._env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._write_files()
        self.munge = self._start_munge()
        self.wait_for((self.folder / "munge.socket").exists)
        self.controller = self.start_controller()
        self.daemons = {name: self.start_daemon(name) for name in NODES}
        self.rest = self._start(
            *("slurmrestd", "-a", "rest_auth/jwt", "-s", "openapi/v0.0.38"),
            f"127.0.0.1:{REST_PORT}",
            SLURM_JWT="daemon",
            SLURMRESTD_SECURITY="disable_user_check",
        )
        self.wait_for(
            lambda: self.run("sinfo", "-h", "-N", "-p", "gpu").count("idle") == len(NODES)
        )
        self.token = self.run("scontrol", "token", "lifespan=86400").strip().partition("=")[2]
        self.wait_for(lambda: self.call("ping"))

    def _write_files(self) -> None:
        facts = {"folder": self.folder, "host": socket.gethostname(), "user": self.user}
        text, gres = CONFIG.format(**facts, port=CONTROLLER_PORT), "AutoDetect=off\n"
        for number, name in enumerate(NODES, 1):
            port = CONTROLLER_PORT + number
            text += NODE.format(**facts, name=name, number=number, port=port)
            gres += GRES.format(**facts, name=name)
            (self.folder / f"spool-{name}").mkdir()
            for gpu in (0, 1):
                (self.folder / f"{name}-gpu{gpu}").touch()
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(gres)
        for name, size in (("munge.key", 1024), ("jwt.key", 32)):
            (self.folder / name).write_bytes(secrets.token_bytes(size))
            (self.folder / name).chmod(0o600)

    def _start_munge(self) -> Any:
        names = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
        names["seed-file"] = "seed"
        files = [f"--{option}={self.folder}/munge.{end}" for option, end in names.items()]
        return self._start("munged", "--foreground", "--force", "--num-threads=1", *files)

    def start_controller(self) -> Any:
        return self._start("slurmctld", "-D")

    def start_daemon(self, name: str) -> Any:
        return self._start("slurmd", "-D", "-N", name)

    def _start(self, *command: str, **env: str) -> Any:
        program = shutil.which(command[0], path="/usr/sbin:/usr/bin") or command[0]
        with (self.folder / f"{command[0]}.out").open("a") as log:
            return subprocess.Popen(
                [*WITH_US, program, *command[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._env, **env},
                start_new_session=True,
            )

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        return str(done.stdout)

    def call(self, path: str) -> Any:
        headers = {"X-SLURM-USER-NAME": self.user, "X-SLURM-USER-TOKEN": self.token}
        with contextlib.suppress(requests.RequestException):
            reply = requests.get(f"{self.url}/slurm/v0.0.38/{path}", headers=headers, timeout=5)
            return reply.json() if reply.ok else None
        return None

    def _wait_saved(self) -> None:
        """Wait until the controller has written its jobs to disk, which it does each 5 s."""
        began = time.time()
        self.run("scontrol", "update", "partition=high", "state=up")
        self.run("scontrol", "reconfigure")
        file = self.folder / "state" / "job_state"
        self.wait_for(lambda: file.exists() and file.stat().st_mtime > began)

    def states(self) -> list[str]:
        return sorted(job["job_state"] for job in (self.call("jobs") or {"jobs": []})["jobs"])

    def wait_for(self, fact: Any) -> None:
        deadline = time.monotonic() + UP_LIMIT_S
        while not fact():
            if time.monotonic() >= deadline:
                raise AssertionError(self.run("sinfo", "-N") + self.run("squeue"))
            gevent.sleep(0.1)

    def kill_node(self, name: str) -> None:
        """Kill all that Slurm runs on the machine *name*."""
        jobs = self.run("squeue", "-h", "-w", name, "-o", "%i").split()
        kill(self.daemons[name])
        for job in jobs:
            kill_tree(f"slurmstepd: [{job}.")

    def restore_node(self, name: str) -> None:
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=killed")
        self.daemons[name] = self.start_daemon(name)
        self.run("scontrol", "update", f"nodename={name}", "state=resume")
        show = ("sinfo", "-h", "-N", "-n", name, "-o", "%t")
        self.wait_for(lambda: set(self.run(*show).split()) <= {"idle", "mix"})

    def kill_head(self) -> None:
        self._wait_saved()
        kill(self.controller)

    def restore_head(self) -> None:
        self.controller = self.start_controller()
        self.wait_for(lambda: self.call("ping"))

    def freeze_head(self) -> None:
        """Have the controller do nothing until ``thaw_head``, with its connections open."""
        self.controller.send_signal(signal.SIGSTOP)

    def thaw_head(self) -> None:
        self.controller.send_signal(signal.SIGCONT)

    def active_jobs(self) -> list[str]:
        return self.run("squeue", "-h").splitlines()

    def hold(self) -> None:
        """Give no job a node, until ``close``."""
        self.run("scontrol", "update", "partition=gpu", "state=down")

    def close(self) -> None:
        """Leave the cluster to the next test."""
        self.run("scontrol", "update", "partition=gpu", "state=up")

    def shut_down(self) -> None:
        self.run("scancel", "--me")
        for process in (self.rest, *self.daemons.values(), self.controller, self.munge):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(process: Any) -> None:
    process.kill()
    process.wait()


def kill_tree(title: str) -> None:
    """Kill the processes whose titles begin with *title*, and all below them."""
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(title):
            for each in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
