"""The contract of a launcher: whatever runs servers has to pass these, given the commands.

A further launcher adds itself to LAUNCHERS with commands that do the same on its engine.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import gevent
import pytest
from gevent.event import Event

from llmsnap.config import LauncherConfig, ModelConfig, Resources
from llmsnap.config.launchers import TYPES
from llmsnap.errors import ChildExited, HealthTimeout, LoadAborted, StartFailed
from llmsnap.launchers import (
    ClusterLauncher,
    Handle,
    Launcher,
    LaunchSpec,
    LocalLauncher,
    Output,
)
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.ray import RayEngine
from llmsnap.launchers.cluster.slurm import SlurmEngine
from llmsnap.models import Process, State
from llmsnap.tasks import TaskGroup
from tests.fakes.ports import free_port
from tests.launchers import LIMIT_S, real_ray, real_slurm
from tests.launchers.job_launcher import JobLauncher


@pytest.fixture(scope="module", autouse=True)
def booted() -> None:
    """Real clusters, if they are wanted, start outside the time limit of a test."""
    real_ray.boot()
    real_slurm.boot()


@dataclass(frozen=True)
class Kind:
    """A launcher, and its commands: each does what its name says.

    *runs* answers no request; *serves* answers them at the port of the configuration, or at the one
    that the launcher chooses. *waits* is a start that takes until it is given up.
    """

    name: str
    make: Callable[[str], Launcher]
    runs: str
    serves: str
    waits: str
    speaks: str
    fails: str
    stubborn: str
    missing: str


class RayLauncher(ClusterLauncher):
    """The launcher for Ray, whose nodes count nothing of these servers."""

    def __init__(self, owner: str) -> None:
        self.ray = real_ray.ray_cluster()
        settings = LauncherConfig("farm", type="ray", address=self.ray.url, token=self.ray.token)
        super().__init__(settings, RayEngine(settings), Owner(owner))

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Handle:
        if spec.cmd == "wait":
            spec = replace(spec, resources=Resources(gpus=64))
        return super().start(spec, output, cancelled)

    def close(self) -> None:
        super().close()
        self.ray.close()


class SlurmLauncher(ClusterLauncher):
    """The launcher for Slurm, whose jobs push their output."""

    def __init__(self, owner: str) -> None:
        self.slurm = real_slurm.slurm_cluster()
        settings = LauncherConfig(
            *("hpc", "slurm", self.slurm.url, self.slurm.token),
            user=self.slurm.user,
            log_address_given=f"127.0.0.1:{free_port()}",
        )
        super().__init__(settings, SlurmEngine(settings, Owner(owner)), Owner(owner))

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Handle:
        if spec.cmd == "wait":
            self.slurm.hold()
        return super().start(spec, output, cancelled)

    def close(self) -> None:
        super().close()
        self.slurm.close()


SERVER = f"{sys.executable} -S {Path(__file__).with_name('answers.py')} PORT"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
LAUNCHERS = [
    Kind(
        "local",
        LocalLauncher,
        runs="sleep 60",
        serves=SERVER,
        waits="sleep 60",
        speaks="sh -c 'echo word; sleep 60'",
        fails="sh -c 'exit 3'",
        stubborn=f"{sys.executable} -c '{STUBBORN}time.sleep(60)'",
        missing="no-such-program-x",
    ),
    Kind(
        "job",
        JobLauncher,
        runs="hang",
        serves="serve",
        waits="queue",
        speaks="speak",
        fails="fail",
        stubborn="stubborn",
        missing="no-such-command",
    ),
    Kind(
        "ray",
        RayLauncher,
        runs="sleep 60",
        serves=SERVER,
        waits="wait",
        speaks="sh -c 'echo word; sleep 60'",
        fails="sh -c 'exit 3'",
        stubborn=f"{sys.executable} -c '{STUBBORN}time.sleep(60)'",
        missing="",
    ),
    Kind(
        "slurm",
        SlurmLauncher,
        runs="sleep 60",
        serves=SERVER,
        waits="wait",
        speaks="sh -c 'echo word; sleep 60'",
        fails="sh -c 'exit 3'",
        stubborn=f"{sys.executable} -c '{STUBBORN}time.sleep(60)'",
        missing="",
    ),
]


def test_every_launcher_can_be_configured_and_passes_these() -> None:
    assert set(TYPES) <= {kind.name for kind in LAUNCHERS}


class Bench:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.launcher: Launcher = kind.make(f"contract-{os.getpid()}")
        self.output = b""
        self.said = Event()
        self.handles: list[Handle] = []
        self.tasks = TaskGroup("contract")
        self.starting = Event()

    def feed(self, data: bytes) -> None:
        self.output += data
        self.said.set()

    def tail(self, lines: int = 10) -> list[str]:
        return self.output.decode().splitlines()[-lines:]

    def start(self, cmd: str) -> Handle:
        handle = self.launcher.start(self.spec(cmd), self.feed, Event())
        self.handles.append(handle)
        return handle

    def spec(self, cmd: str) -> LaunchSpec:
        return LaunchSpec("m", cmd, "http://127.0.0.1:1", grace_s=0.5)

    def process(self, cmd: str, limit_s: float = 10.0) -> Process:
        """A model over this launcher, with a configured address that only a local server uses."""
        port = free_port()
        settings = ModelConfig(
            id="m",
            cmd=cmd.replace("PORT", str(port)),
            proxy=f"http://127.0.0.1:{port}",
            check_endpoint="/",
            health_check_timeout_s=limit_s,
        )
        return Process(settings, {"local": self.launcher}, self, lambda *_: self.starting.set())


@pytest.fixture(params=LAUNCHERS, ids=lambda kind: kind.name)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    for handle in made.handles:
        handle.kill()
        assert handle.gone.wait(LIMIT_S)
    assert made.launcher.stop_leftovers() == []
    made.tasks.close()
    made.launcher.close()


def test_a_started_server_has_an_id_and_an_address_and_runs(bench: Bench) -> None:
    handle, other = bench.start(bench.kind.runs), bench.start(bench.kind.runs)
    assert handle.url.startswith("http://")
    assert handle.id
    assert other.id not in {"", handle.id}
    assert not handle.exited.is_set()
    assert handle.status is None


def test_what_it_prints_arrives_while_it_runs(bench: Bench) -> None:
    handle = bench.start(bench.kind.speaks)
    assert bench.said.wait(LIMIT_S)
    assert b"word" in bench.output
    assert not handle.exited.is_set()


def test_its_end_is_told_with_its_status(bench: Bench) -> None:
    handle = bench.start(bench.kind.fails)
    assert handle.exited.wait(LIMIT_S)
    assert str(handle.status) == "exit code 3"
    assert handle.gone.wait(LIMIT_S)


def test_a_stop_blocks_until_nothing_is_left(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    handle.stop(4)
    assert handle.exited.is_set()
    assert handle.gone.is_set()
    handle.stop(4)


def test_a_server_that_does_not_stop_is_made_to(bench: Bench) -> None:
    handle = bench.start(bench.kind.stubborn)
    assert bench.said.wait(LIMIT_S)
    handle.stop(0.05)
    assert handle.gone.is_set()


def test_a_kill_does_not_wait(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    switched = gevent.Greenlet(lambda: None)
    switched.start()
    handle.kill()
    assert not switched.ready(), "no other greenlet ran meanwhile"
    assert handle.exited.wait(LIMIT_S)


def test_what_cannot_start_is_refused_before_and_at_the_start(bench: Bench) -> None:
    spec = bench.spec(bench.kind.missing)

    def start(spec: LaunchSpec) -> Handle:
        return bench.launcher.start(spec, bench.feed, Event())

    for attempt in (bench.launcher.check, start):
        with pytest.raises(StartFailed, match="m: "):
            attempt(spec)
    bench.launcher.check(bench.spec(bench.kind.runs))


def test_leftovers_of_an_earlier_run_are_stopped_and_told(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    assert any("model m" in line for line in bench.launcher.stop_leftovers())
    assert handle.gone.wait(LIMIT_S)
    assert bench.launcher.stop_leftovers() == []


def test_each_run_of_a_model_is_told_from_the_next(bench: Bench) -> None:
    first = bench.start(bench.kind.runs)
    spec = replace(bench.spec(bench.kind.runs), generation=1)
    second = bench.launcher.start(spec, bench.feed, Event())
    bench.handles.append(second)
    first.stop(4)
    assert not second.exited.is_set()


def test_a_start_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    cancelled = Event()
    cancelled.set()
    with pytest.raises(StartFailed, match="m: "):
        bench.launcher.start(bench.spec(bench.kind.runs), bench.feed, cancelled)
    assert bench.launcher.stop_leftovers() == []


def test_what_a_server_is_made_of_is_the_same_until_it_changes(bench: Bench) -> None:
    spec = bench.spec(bench.kind.runs)
    again = replace(spec, generation=1)
    assert bench.launcher.fingerprint(spec) == bench.launcher.fingerprint(again)


# --- the process of a model over any launcher ----------------------------------------------------


def test_a_model_is_ready_where_its_handle_says(bench: Bench) -> None:
    process = bench.process(bench.kind.serves)
    process.ensure_ready()
    assert process.handle_id
    with urlopen(process.address.url("/"), timeout=LIMIT_S) as answer:
        assert answer.status == 200
    process.ensure_stopped()
    assert process.handle_id is None
    assert process.local_pid is None


def test_a_server_that_does_not_answer_is_stopped(bench: Bench) -> None:
    process = bench.process(bench.kind.runs, limit_s=0.05)
    with pytest.raises(HealthTimeout, match="m: not healthy"):
        process.ensure_ready()
    assert process.state is State.STOPPED


def test_the_exit_of_a_loading_server_is_the_error(bench: Bench) -> None:
    process = bench.process(bench.kind.fails)
    with pytest.raises(ChildExited, match="exit code 3 while loading"):
        process.ensure_ready()
    assert process.state is State.STOPPED


def test_a_stop_cancels_a_start(bench: Bench) -> None:
    process = bench.process(bench.kind.waits)
    failures: list[Exception] = []

    def load() -> None:
        try:
            process.ensure_ready()
        except LoadAborted as error:
            failures.append(error)

    loading = bench.tasks.spawn("load", load)
    assert bench.starting.wait(LIMIT_S)
    process.ensure_stopped("unloaded")
    loading.join(LIMIT_S)
    assert [str(error) for error in failures] == ["m: unloaded"]
    assert process.state is State.STOPPED


def test_a_lost_server_is_explained_without_a_code() -> None:
    bench = Bench(LAUNCHERS[1])
    process = bench.process("lost")
    with pytest.raises(ChildExited, match="ended with its node was lost"):
        process.ensure_ready()
    bench.launcher.close()
