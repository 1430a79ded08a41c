"""What is particular to Slurm: its interfaces, how jobs end there, and how their output arrives."""

import base64
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from llmsnap.config import LauncherConfig, Resources
from llmsnap.errors import EngineDown, NoCapacity, Rejected
from llmsnap.launchers import ClusterLauncher, LaunchSpec, cluster_launcher
from llmsnap.launchers.cluster.engine import JobPhase
from llmsnap.launchers.cluster.job import ClusterJob
from llmsnap.launchers.cluster.job_output import MOST_UNPROVEN, OutputReceiver
from llmsnap.launchers.cluster.slurm import code_of, expiry_of, node_of, phase_of, reason_of
from llmsnap.statedir import StateDir
from tests.fakes.ports import free_port
from tests.launchers import LIMIT_S
from tests.launchers.fake_ray import TOKEN
from tests.launchers.fake_slurm import USER, FakeSlurm

ONE_GPU = Resources(gpus=1)
TALKS = f"{sys.executable} -u -c 'import time\nwhile True: print(time.time()); time.sleep(0.05)'"


class Site:
    """A launcher, and the cluster that it uses."""

    def __init__(self, folder: Path, version: int = 38, **settings: Any) -> None:
        self.slurm = FakeSlurm(version)
        self.folder = folder
        self.output = b""
        self.settings = LauncherConfig(
            **{
                "id": "hpc",
                "type": "slurm",
                "address": self.slurm.url,
                "token": TOKEN,
                "user": USER,
                "log_address_given": f"127.0.0.1:{free_port()}",
                "placement_timeout_s": 2.0,
                "keeps": True,
                **settings,
            }
        )
        self.launchers: list[ClusterLauncher] = []
        self.launcher = self.again()

    def again(self) -> ClusterLauncher:
        """The launcher of the next run of the same llmsnap."""
        self.launcher = cluster_launcher(self.settings, StateDir(self.folder))
        self.launchers.append(self.launcher)
        return self.launcher

    def spec(self, cmd: str, resources: Resources = ONE_GPU) -> LaunchSpec:
        return LaunchSpec("m", cmd, "http://localhost:5999", grace_s=0.5, resources=resources)

    def start(self, cmd: str, resources: Resources = ONE_GPU) -> ClusterJob:
        return self.launcher.start(self.spec(cmd, resources), self.feed, Event())

    def feed(self, data: bytes) -> None:
        self.output += data

    def submitted(self) -> dict[str, Any]:
        (job,) = self.slurm.jobs.values()
        return job.body["job"]

    def close(self) -> None:
        for launcher in self.launchers:
            launcher.close()
        self.slurm.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def wait(fact: Callable[[], Any]) -> None:
    with gevent.Timeout(LIMIT_S):
        while not fact():
            gevent.sleep(0.02)


@pytest.mark.parametrize("version", [38, 41])
def test_a_server_runs_and_stops_by_either_interface(tmp_path: Path, version: int) -> None:
    site = Site(tmp_path, version)
    try:
        assert site.launcher.describe() == f"Slurm 22.05.8 (v0.0.{version})"
        job = site.start("sh -c 'echo word; sleep 60'")
        wait(lambda: site.output == b"word\n")
        assert (job.node, job.url) == ("node-1", "http://127.0.0.1:5999")
        assert [node.free_gpus for node in site.launcher.nodes()] == [1, 2]
        job.stop(0.5)
        assert str(job.status) == "signal SIGTERM"
    finally:
        site.close()


def test_a_server_that_its_engine_ended_says_why(site: Site) -> None:
    job = site.start("sleep 60")
    site.slurm.ends[job.job_id] = "PREEMPTED"
    (played,) = site.slurm.jobs.values()
    played.popen.terminate()
    wait(job.gone.is_set)
    assert str(job.status) == "another job took its resources (preempted)"


WANTS = Resources(
    gpus=2, cpus=3.5, ram_bytes=3 << 20, labels={"zone": "z1", "kind": "h100"}, custom={"shard": 4}
)


@pytest.mark.parametrize(
    ("version", "found"),
    [
        (38, {"gres": "gpu:2,shard:4", "memory_per_node": 3}),
        (
            41,
            {
                "tres_per_node": "gres/gpu:2,gres/shard:4",
                "memory_per_node": {"set": True, "number": 3},
            },
        ),
    ],
)
def test_a_submission_has_what_the_model_asks_for(tmp_path: Path, version: int, found) -> None:
    site = Site(tmp_path, version, partition="gpu", account="llm", env=("PATH=/opt/bin:/bin",))
    try:
        site.start("sleep 60", WANTS)
        job = site.submitted()
        found |= {
            "cpus_per_task": 4,
            "constraints": "z1&h100",
            "partition": "gpu",
            "account": "llm",
            "requeue": False,
            "standard_output": "/dev/null",
        }
        assert {name: job.get(name) for name in found} == found
        assert json.loads(job["comment"])["model"] == "m"
        assert "PATH=/opt/bin:/bin" in str(job["environment"]).replace("': '", "=")
    finally:
        site.close()


def test_a_job_that_waits_is_cancelled(site: Site) -> None:
    site.slurm.is_stuck = True
    with pytest.raises(NoCapacity):
        site.start("sleep 60")
    wait(lambda: [job.status for job in site.slurm.jobs.values()] == ["STOPPED"])


def test_what_slurm_refuses_is_not_tried_again(site: Site) -> None:
    for resources, words in ((Resources(gpus=9), "configuration"), (Resources(gpus=0.5), "whole")):
        with pytest.raises(Rejected) as refusal:
            site.start("sleep 60", resources)
        assert words in f"{refusal.value}{refusal.value.detail}"
    assert not site.slurm.jobs


def test_a_submission_whose_reply_is_lost_starts_one_job(site: Site) -> None:
    site.slurm.losing_replies = 1
    site.start("sleep 60")
    assert site.submitted()["dependency"] == "singleton"


def test_a_token_that_expired_or_is_wrong_is_told(tmp_path: Path) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) - 9}).encode())
    for token, error, words in (
        (f"x.{claims.decode().rstrip('=')}.x", Rejected, "expired on"),
        ("wrong", EngineDown, "token is not one of this user"),
    ):
        site = Site(tmp_path, token=token)
        try:
            with pytest.raises(error) as told:
                site.launcher.describe()
            assert words in f"{told.value}{told.value.detail}"
        finally:
            site.close()
    assert [expiry_of(text) for text in ("", "a.b", "a.e30.c", "a.bnVsbA.c")] == [None] * 4


# --- output ---------------------------------------------------------------------------------------


def test_output_comes_by_files_of_a_shared_folder_as_well(tmp_path: Path) -> None:
    site = Site(tmp_path, logs=f"file:{tmp_path}/")
    try:
        job = site.start("sh -c 'echo first; sleep 0.3; echo second; sleep 60'")
        file = Path(site.submitted()["standard_output"])
        assert file.parent == tmp_path
        wait(lambda: site.output == b"first\nsecond\n")
        job.stop(0.5)
        wait(lambda: not file.exists())
    finally:
        site.close()


def test_output_goes_on_in_the_next_run_of_llmsnap(site: Site) -> None:
    job = site.start(TALKS)
    wait(lambda: site.output.count(b"\n") > 3)
    site.launcher.release()
    job.stop(0)
    site.launcher.close()
    site.output = b""
    assert site.again().adopt([site.spec(TALKS)]) == ["m"]
    again = site.start(TALKS)
    assert again.is_adopted
    wait(lambda: site.output.count(b"\n") > 5)
    assert site.output.startswith(b"\n[some of the output was lost]\n")
    again.stop(0.5)


def test_strangers_cannot_add_to_the_output(site: Site) -> None:
    job = site.start("sleep 60")
    port = int(site.settings.log_address.rpartition(":")[2])
    for hello in (f"{job.job_id} {'0' * 32}\n", "x" * 1000, f"{job.job_id}\n", "\xff\n"):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(hello.encode("latin-1") + b"forged\n")
            sock.settimeout(LIMIT_S)
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    assert site.output == b""


# --- replies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        ("PREEMPTED", 0, "another job took its resources (preempted)"),
        ("TIMEOUT", 0, "the time limit of its job is over"),
        ("OUT_OF_MEMORY", 9, "it used more memory than its job may"),
        ("NODE_FAIL", 0, "its machine failed"),
        ("FAILED", 2, "FAILED: NonZeroExitCode"),
    ],
)
def test_how_a_job_ended_is_told_in_words(state: str, code: int, reason: str) -> None:
    entry = {"job_state": state, "exit_code": code, "state_reason": "NonZeroExitCode"}
    assert phase_of(frozenset({state})) is JobPhase.ENDED
    assert reason_of(entry, frozenset({state})) == reason


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (0, 0),
        (3 << 8, 3),
        (9, 137),
        ({"return_code": {"number": 4}, "signal": {"id": {"number": 0}}}, 4),
        ({"return_code": {"number": 0}, "signal": {"id": {"number": 15}}}, 143),
        (None, None),
    ],
)
def test_an_exit_code_is_that_of_a_shell(given: Any, code: int | None) -> None:
    assert code_of({"job_state": "FAILED", "exit_code": given}) == code


@pytest.mark.parametrize(
    ("entry", "gpus", "free"),
    [
        ({"state": "mixed", "gres": "gpu:h100:4(S:0-1),shard:8", "gres_used": "gpu:h100:1"}, 4, 3),
        ({"state": ["IDLE", "DRAIN"], "gres": "gpu:4", "gres_used": "gpu:0"}, 4, 0),
        ({"state": "idle", "state_flags": ["DRAIN"], "gres": "gpu:2"}, 2, 0),
        ({"state": "down", "gres": "gpu:2"}, 2, 0),
        ({"state": "idle", "gres": ""}, 0, 0),
    ],
)
def test_free_gpus_are_those_that_slurm_gives(entry: dict[str, Any], gpus: int, free: int) -> None:
    node = node_of({"name": "n", **entry})
    assert (node.gpus, node.free_gpus) == (gpus, free)


def test_connections_that_prove_no_job_have_a_small_share() -> None:
    port = free_port()
    receiver = OutputReceiver(f"127.0.0.1:{port}", lambda job: f"token of {job}")
    receiver.open()
    address = ("127.0.0.1", port)
    silent = [socket.create_connection(address, 3) for _ in range(MOST_UNPROVEN)]
    with socket.create_connection(address, 3) as refused:
        assert refused.recv(1) == b""
    silent.pop().close()
    found = gevent.spawn(next, receiver.read("j"))
    while not found.ready():  # the server may not have seen the end of the other one yet
        with socket.create_connection(address, 3) as runner:
            runner.sendall(b"j token of j\nhello")
            found.join(0.1)
    assert found.value == b"hello"
    assert all(each.send(b"x") for each in silent), "the others may still prove theirs"
    for each in silent:
        each.close()
    receiver.close()
