"""The contract of a launcher: whatever runs servers has to pass these.

A further launcher adds itself to LAUNCHERS, and says how a start of it is made to wait.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from urllib.request import urlopen

import gevent
import pytest
from gevent.event import Event

from llmsnap import launchers as module
from llmsnap.config import ModelConfig, Resources
from llmsnap.config.launchers import TYPES
from llmsnap.errors import ChildExited, HealthTimeout, LoadAborted, StartFailed
from llmsnap.launchers import Handle, Launcher, LaunchSpec, LocalLauncher, Output
from llmsnap.launchers.cluster import ENGINES
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.models import Process, State
from tests.fakes.ports import free_port
from tests.launchers import LIMIT_S, SERVER, Heard
from tests.launchers.clusters import CLUSTERS, boot, cluster_of
from tests.launchers.farm import settings_of

RUNS = "sleep 60"
"""It answers no request; SERVER does, at the port of the configuration or one of its launcher."""
WAITS = "sleep 61"
"""On a cluster, a start that takes until it is given up."""
SPEAKS = "sh -c 'echo word; sleep 60'"
FAILS = "sh -c 'exit 3'"
STUBBORN = """sh -c 'trap "" TERM; echo word; exec sleep 60'"""


@pytest.fixture(scope="module", autouse=True)
def booted() -> None:
    """Real clusters, if they are wanted, start outside the time limit of a test."""
    boot()


class OnCluster(module.ClusterLauncher):
    """A launcher, and its cluster, for one test."""

    def __init__(self, kind: str, owner: str) -> None:
        self.cluster = cluster_of(kind)
        settings = settings_of(self.cluster)
        super().__init__(settings, ENGINES[kind](settings, Owner(owner), {}), Owner(owner))

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Handle:
        if spec.cmd == WAITS and self.settings.type == "ray":
            spec = replace(spec, resources=Resources(gpus=64))
        elif spec.cmd == WAITS:
            self.cluster.hold()
        return super().start(spec, output, cancelled)

    def close(self) -> None:
        super().close()
        self.cluster.close()


LAUNCHERS = {"local": LocalLauncher} | {kind: partial(OnCluster, kind) for kind in CLUSTERS}


def test_every_launcher_can_be_configured_and_passes_these() -> None:
    assert set(TYPES) <= set(LAUNCHERS)


class Bench:
    def __init__(self, make: Callable[[str], Launcher]) -> None:
        self.launcher = make(f"contract-{os.getpid()}")
        self.output = self.feed = Heard()
        self.handles: list[Handle] = []
        self.starting = Event()

    def tail(self, lines: int = 10) -> list[str]:
        return self.output.data.decode().splitlines()[-lines:]

    def start(self, cmd: str, generation: int = 0) -> Handle:
        spec = replace(self.spec(cmd), generation=generation)
        handle = self.launcher.start(spec, self.output, Event())
        self.handles.append(handle)
        return handle

    def spec(self, cmd: str) -> LaunchSpec:
        return LaunchSpec("m", cmd, "http://127.0.0.1:1", grace_s=0.1)

    def process(self, cmd: str, limit_s: float = LIMIT_S) -> Process:
        """A model over this launcher, with a configured address that only a local server uses."""
        port = free_port()
        cmd, url = cmd.replace("PORT", str(port)), f"http://127.0.0.1:{port}"
        more = {"check_endpoint": "/", "health_check_timeout_s": limit_s}
        settings = ModelConfig(id="m", cmd=cmd, proxy=url, **more)
        return Process(settings, {"local": self.launcher}, self, lambda *_: self.starting.set())


@pytest.fixture(params=LAUNCHERS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(LAUNCHERS[request.param])
    yield made
    for handle in made.handles:
        handle.kill()
        assert handle.gone.wait(LIMIT_S)
    assert made.launcher.stop_leftovers() == []
    made.launcher.close()


def test_started_servers_have_ids_and_addresses_and_run_until_each_is_stopped(bench) -> None:
    handle, other = bench.start(RUNS), bench.start(RUNS, generation=1)
    assert handle.url.startswith("http://")
    assert handle.id
    assert other.id not in {"", handle.id}
    assert [(each.exited.is_set(), each.status) for each in bench.handles] == [(False, None)] * 2
    stops = [gevent.spawn(handle.stop, LIMIT_S) for _ in range(2)]
    gevent.joinall(stops, raise_error=True)
    assert handle.exited.is_set()
    assert handle.gone.is_set(), "a stop blocks until nothing is left"
    handle.stop(LIMIT_S)
    assert not other.exited.is_set()


def test_what_it_prints_arrives_while_it_runs_and_a_kill_does_not_wait(bench: Bench) -> None:
    handle = bench.start(SPEAKS)
    bench.output.wait_for(b"word")
    assert not handle.exited.is_set()
    switched = gevent.Greenlet(lambda: None)
    switched.start()
    handle.kill()
    assert not switched.ready(), "no other greenlet ran meanwhile"
    assert handle.exited.wait(LIMIT_S)


def test_its_end_is_told_with_its_status(bench: Bench) -> None:
    handle = bench.start(FAILS)
    assert handle.exited.wait(LIMIT_S)
    assert str(handle.status) == "exit code 3"
    assert handle.gone.wait(LIMIT_S)


def test_a_server_that_does_not_stop_is_made_to(bench: Bench) -> None:
    handle = bench.start(STUBBORN)
    bench.output.wait_for()
    handle.stop(0.05)
    assert handle.gone.is_set()


def test_what_cannot_start_is_refused_before_and_at_the_start(bench: Bench) -> None:
    for attempt in (lambda: bench.launcher.check(bench.spec("")), lambda: bench.start("")):
        with pytest.raises(StartFailed, match="m: "):
            attempt()
    bench.launcher.check(bench.spec(RUNS))


def test_leftovers_of_an_earlier_run_are_stopped_and_told(bench: Bench) -> None:
    handle = bench.start(RUNS)
    assert any("model m" in line for line in bench.launcher.stop_leftovers())
    assert handle.gone.wait(LIMIT_S)
    assert bench.launcher.stop_leftovers() == []


def test_a_start_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    cancelled = Event()
    cancelled.set()
    with pytest.raises(StartFailed, match="m: "):
        bench.launcher.start(bench.spec(RUNS), bench.feed, cancelled)
    assert bench.launcher.stop_leftovers() == []


def test_what_a_server_is_made_of_is_the_same_until_it_changes(bench: Bench) -> None:
    spec = bench.spec(RUNS)
    again = replace(spec, generation=1)
    assert bench.launcher.fingerprint(spec) == bench.launcher.fingerprint(again)


def test_a_model_is_ready_where_its_handle_says(bench: Bench) -> None:
    process = bench.process(SERVER)
    process.ensure_ready()
    assert process.handle_id
    with urlopen(process.address.url("/"), timeout=LIMIT_S) as answer:
        assert answer.status == 200
    process.ensure_stopped()
    assert process.handle_id is None
    assert process.local_pid is None


def test_a_server_that_does_not_answer_is_stopped(bench: Bench) -> None:
    process = bench.process(RUNS, limit_s=0.05)
    with pytest.raises(HealthTimeout, match="m: not healthy"):
        process.ensure_ready()
    assert process.state is State.STOPPED


def test_the_exit_of_a_loading_server_is_the_error(bench: Bench) -> None:
    process = bench.process(FAILS)
    with pytest.raises(ChildExited, match="exit code 3 while loading"):
        process.ensure_ready()
    assert process.state is State.STOPPED


def test_a_stop_cancels_a_start(bench: Bench) -> None:
    process = bench.process(WAITS)
    loading = gevent.spawn(process.ensure_ready)
    assert bench.starting.wait(LIMIT_S)
    process.ensure_stopped("unloaded")
    with pytest.raises(LoadAborted, match=r"^m: unloaded$"):
        loading.get(timeout=LIMIT_S)
    assert process.state is State.STOPPED
