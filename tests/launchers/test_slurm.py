"""What is particular to Slurm: its interfaces, how jobs end there, and how their output arrives."""

import base64
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest

from llmsnap.config import Resources
from llmsnap.errors import EngineDown, Rejected
from llmsnap.launchers.cluster import entrypoint, runner
from llmsnap.launchers.cluster import launcher as launcher_module
from llmsnap.launchers.cluster.engine import JobPhase
from llmsnap.launchers.cluster.job_output import MOST_UNPROVEN, OutputReceiver
from llmsnap.launchers.cluster.slurm import (
    VERSIONS,
    code_of,
    expiry_of,
    metadata_in,
    node_of,
    phase_of,
    reason_of,
)
from tests.fakes.ports import free_port
from tests.launchers import LIMIT_S, until
from tests.launchers.fake_slurm import FakeSlurm
from tests.launchers.farm import Farm

TALKS = "sh -c 'while :; do echo word; sleep 0.05; done'"


@pytest.fixture
def site(make: Callable[..., Farm]) -> Farm:
    return make(FakeSlurm(), keeps=True)


def submitted(site: Farm) -> dict[str, Any]:
    (job,) = site.cluster.jobs.values()
    return job.body["job"]


MEMORY = {"set": True, "number": 3}
WANTS = Resources(
    gpus=1, cpus=3.5, ram_bytes=3 << 20, labels={"zone": "z1", "kind": "h100"}, custom={"shard": 4}
)


def test_every_interface_is_found(make) -> None:
    for version in VERSIONS:
        site = make(FakeSlurm(version))
        assert site.launcher.describe() == f"Slurm 22.05.8 (v0.0.{version})"


@pytest.mark.parametrize(
    ("version", "found"),
    [
        (38, {"gres": "gpu:1,shard:4", "memory_per_node": 3}),
        (39, {"tres_per_node": "gres:gpu:1,gres:shard:4", "memory_per_node": MEMORY}),
        (40, {"tres_per_node": "gres/gpu:1,gres/shard:4", "memory_per_node": MEMORY}),
        (45, {"tres_per_node": "gres/gpu:1,gres/shard:4", "memory_per_node": MEMORY}),
    ],
)
def test_a_server_gets_what_its_model_asks_for_runs_and_stops_by_each_interface(
    make, version: int, found: dict[str, Any]
) -> None:
    where = {"partition": "gpu", "account": "llm"}
    site = make(FakeSlurm(version), **where, env=("PATH=/opt/bin:/usr/bin:/bin",))
    spec = site.spec("sh -c 'echo word; sleep 60'", resources=WANTS)
    job = site.start(spec)
    assert site.output.wait_for() == "word\n"
    assert (job.node, job.url) == ("node-1", spec.url.replace("localhost", "127.0.0.1"))
    nodes = site.launcher.nodes()
    assert [(node.free_gpus, node.labels) for node in nodes] == [
        (n, ("z1", "h100")) for n in (1, 2)
    ]
    body = submitted(site)
    found |= {"cpus_per_task": 4, "constraints": "z1&h100", **where}
    found |= {"requeue": False, "dependency": "singleton", "standard_output": "/dev/null"}
    assert {name: body.get(name) for name in found} == found
    assert json.loads(body["comment"])["model"] == "m"
    assert "PATH=/opt/bin:/usr/bin:/bin" in str(body["environment"]).replace("': '", "=")
    job.stop(0.5)
    assert str(job.status) == "signal SIGTERM"


def test_a_server_that_its_engine_ended_says_why(site: Farm) -> None:
    job = site.start()
    site.cluster.ends[job.job_id] = "PREEMPTED"
    (played,) = site.cluster.jobs.values()
    played.popen.terminate()
    until(job.gone.is_set)
    assert str(job.status) == "another job took its resources (preempted)"


def test_a_job_whose_number_another_one_got_has_ended_and_the_other_runs_on(site: Farm) -> None:
    job = site.start()
    (played,) = site.cluster.jobs.values()
    played.id = "of-another"  # the controller was killed before it had saved the job
    assert job.exited.wait(LIMIT_S)
    assert str(job.status) == "farm no longer knows its job"
    job.stop(0.5)
    assert played.status == "RUNNING"


def test_a_job_that_had_ended_and_runs_again_is_stopped(site: Farm, monkeypatch) -> None:
    monkeypatch.setattr(launcher_module, "RECOVERED_S", 0.1)
    job = site.start()
    (played,) = site.cluster.jobs.values()
    played.id = "of-another"
    assert job.exited.wait(LIMIT_S)
    played.id = job.job_id  # the controller has recovered it
    until(lambda: played.status == "STOPPED")


def test_what_slurm_refuses_is_not_tried_again(site: Farm) -> None:
    for gpus, words in ((9, "configuration"), (0.5, "whole")):
        with pytest.raises(Rejected) as refusal:
            site.start(gpus=gpus)
        assert words in f"{refusal.value}{refusal.value.detail}"
    assert not site.cluster.jobs


def test_a_token_that_expired_or_is_wrong_is_told(make) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) - 9}).encode())
    for token, error, words in (
        (f"x.{claims.decode().rstrip('=')}.x", Rejected, "expired on"),
        ("wrong", EngineDown, "token is not one of this user"),
    ):
        with pytest.raises(error) as told:
            make(FakeSlurm(), token=token).launcher.describe()
        assert words in f"{told.value}{told.value.detail}"
    assert [expiry_of(text) for text in ("", "a.b", "a.e30.c", "a.bnVsbA.c")] == [None] * 4


def test_output_comes_by_files_of_a_shared_folder_as_well(make, tmp_path: Path) -> None:
    site = make(FakeSlurm(), logs=f"file:{tmp_path}/")
    gate = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done"
    job = site.start(f"sh -c 'echo first; {gate}; echo second; sleep 60'")
    file = Path(submitted(site)["standard_output"])
    assert file.parent == tmp_path
    site.output.wait_for()
    (tmp_path / "go").touch()
    assert site.output.wait_for(times=2) == "first\nsecond\n"
    job.stop(0.5)
    until(lambda: not file.exists())


def test_output_goes_on_in_the_next_run_of_llmsnap(site: Farm, monkeypatch) -> None:
    source = Path(runner.__file__).read_bytes()
    again = source.replace(b"CONNECT_AGAIN_S = 2.0", b"CONNECT_AGAIN_S = 0.1")
    assert again != source
    packed = base64.b64encode(zlib.compress(again)).decode()
    monkeypatch.setattr(entrypoint, "packed_runner", lambda: packed)
    spec = site.spec(TALKS)
    job = site.start(spec)
    site.output.wait_for(times=4)
    site.launcher.release()
    job.stop(0)
    assert (str(job.status), job.gone.is_set(), site.jobs()) == ("left running", True, ["RUNNING"])
    site.launcher.close()
    site.output.data = b""
    assert site.again().adopt([spec]) == ["m"]
    again = site.start(spec)
    assert again.is_adopted
    assert site.output.wait_for(times=6).startswith("\n[some of the output was lost]\n")
    again.stop(0.5)


def test_strangers_cannot_add_to_the_output(site: Farm) -> None:
    job = site.start()
    port = int(site.settings.log_address.rpartition(":")[2])
    for hello in (f"{job.job_id} {'0' * 32}\n", "x" * 1000, f"{job.job_id}\n", "\xff\n"):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(hello.encode("latin-1") + b"forged\n")
            sock.settimeout(LIMIT_S)
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    assert site.output.data == b""


def test_how_a_job_ended_is_told_in_words() -> None:
    reasons = {
        "PREEMPTED": "another job took its resources (preempted)",
        "TIMEOUT": "the time limit of its job is over",
        "OUT_OF_MEMORY": "it used more memory than its job may",
        "NODE_FAIL": "its machine failed",
        "FAILED": "FAILED: NonZeroExitCode",
    }
    why = {"state_reason": "NonZeroExitCode"}
    assert {state: reason_of(why, frozenset({state})) for state in reasons} == reasons
    assert {phase_of(frozenset({state})) for state in reasons} == {JobPhase.ENDED}


def test_a_state_or_one_with_flags_is_a_phase() -> None:
    phases = {
        "PENDING": JobPhase.PENDING,
        "RESV_DEL_HOLD": JobPhase.PENDING,
        "PENDING REQUEUE_HOLD EXPEDITING": JobPhase.PENDING,
        "RESIZING": JobPhase.RUNNING,
        "RUNNING CONFIGURING POWER_UP_NODE": JobPhase.RUNNING,
        "COMPLETED COMPLETING": JobPhase.RUNNING,
        "COMPLETED UPDATE_DB": JobPhase.ENDED,
        "FAILED LAUNCH_FAILED": JobPhase.ENDED,
        "CANCELLED": JobPhase.ENDED,
    }
    assert {states: phase_of(frozenset(states.split())) for states in phases} == phases


def test_a_comment_of_another_tenant_is_not_ours_whatever_it_is() -> None:
    for comment in ("[" * 100_000, "[]", "free text", 7, {"owner": "x"}):
        assert metadata_in({"comment": comment}) == {}


UNSET = {"set": False, "infinite": False, "number": 0}


def test_an_exit_code_is_that_of_a_shell() -> None:
    codes: list[tuple[Any, int | None]] = [
        (0, 0),
        (3 << 8, 3),
        (9, 137),
        ({"set": True, "infinite": False, "number": 3 << 8}, 3),
        ({"set": False, "infinite": False, "number": 0}, None),
        ({"return_code": {"set": True, "number": 4}, "signal": {"id": UNSET}}, 4),
        ({"return_code": UNSET, "signal": {"id": {"set": True, "number": 15}}}, 143),
        ({"return_code": UNSET, "signal": {"id": UNSET}}, None),
        (None, None),
    ]
    found = [(given, code_of({"job_state": "FAILED", "exit_code": given})) for given, _ in codes]
    assert found == codes


def test_free_gpus_are_those_that_slurm_gives() -> None:
    entries: list[tuple[dict[str, Any], int, int]] = [
        ({"state": "mixed", "gres": "gpu:h100:4(S:0-1),shard:8", "gres_used": "gpu:h100:1"}, 4, 3),
        ({"state": ["IDLE", "DRAIN"], "gres": "gpu:4", "gres_used": "gpu:0"}, 4, 0),
        ({"state": "idle", "state_flags": ["DRAIN"], "gres": "gpu:2"}, 2, 0),
        ({"state": "down", "gres": "gpu:2"}, 2, 0),
        ({"state": "idle", "gres": ""}, 0, 0),
    ]
    nodes = [(entry, node_of({"name": "n", **entry})) for entry, *_ in entries]
    assert [(entry, node.gpus, node.free_gpus) for entry, node in nodes] == entries


@pytest.fixture
def receiver() -> Iterator[OutputReceiver]:
    made = OutputReceiver(f"127.0.0.1:{free_port()}", lambda job: f"token of {job}")
    made.open()
    yield made
    made.close()


def address_of(receiver: OutputReceiver) -> tuple[str, int]:
    return "127.0.0.1", int(receiver.address.rpartition(":")[2])


def test_output_of_a_job_that_ended_before_its_first_look_is_kept_for_it(receiver) -> None:
    with socket.create_connection(address_of(receiver), LIMIT_S) as sender:
        sender.sendall(b"j token of j\ncannot run x")
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(1) == b"", "all has been taken"
    assert next(receiver.read("j")) == b"cannot run x"


def test_connections_that_prove_no_job_have_a_small_share(receiver) -> None:
    address = address_of(receiver)
    silent = [socket.create_connection(address, 3) for _ in range(MOST_UNPROVEN)]
    with socket.create_connection(address, 3) as refused:
        assert refused.recv(1) == b""
    silent.pop().close()
    found = gevent.spawn(next, receiver.read("j"))
    while not found.ready():  # the server may not have seen the end of the other one yet
        with socket.create_connection(address, 3) as sender:
            sender.sendall(b"j token of j\nhello")
            found.join(0.1)
    assert found.value == b"hello"
    assert all(each.send(b"x") for each in silent), "the others may still prove theirs"
    for each in silent:
        each.close()
