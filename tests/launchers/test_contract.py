"""The contract of a launcher: whatever runs servers has to pass these, given the five programs.

A further launcher adds itself to LAUNCHERS with commands that do the same on its engine.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gevent
import pytest
from gevent.event import Event

from llmsnap.errors import StartFailed
from llmsnap.launchers.base import Handle, Launcher, LaunchSpec
from llmsnap.launchers.local.child import LocalLauncher


@dataclass(frozen=True)
class Kind:
    """A launcher, and its commands that run, say a word, fail, ignore SIGTERM, do not exist."""

    name: str
    make: type
    runs: str
    speaks: str
    fails: str
    stubborn: str
    missing: str


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
LAUNCHERS = [
    Kind(
        "local",
        LocalLauncher,
        runs="sleep 60",
        speaks="sh -c 'echo word; sleep 60'",
        fails="sh -c 'exit 3'",
        stubborn=f"{sys.executable} -c '{STUBBORN}time.sleep(60)'",
        missing="no-such-program-x",
    )
]


class Bench:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.launcher: Launcher = kind.make(f"contract-{os.getpid()}")
        self.output = b""
        self.said = Event()
        self.handles: list[Handle] = []

    def feed(self, data: bytes) -> None:
        self.output += data
        self.said.set()

    def start(self, cmd: str) -> Handle:
        handle = self.launcher.start(self.spec(cmd), self.feed)
        self.handles.append(handle)
        return handle

    def spec(self, cmd: str) -> LaunchSpec:
        return LaunchSpec("m", cmd, "http://10.0.0.1:1")


@pytest.fixture(params=LAUNCHERS, ids=lambda kind: kind.name)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    for handle in made.handles:
        handle.kill()
        assert handle.gone.wait(4)
    made.launcher.close()


def test_a_started_server_has_an_address_and_runs(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    assert handle.url == "http://10.0.0.1:1"
    assert not handle.exited.is_set()
    assert handle.status is None


def test_what_it_prints_arrives_while_it_runs(bench: Bench) -> None:
    handle = bench.start(bench.kind.speaks)
    assert bench.said.wait(4)
    assert b"word" in bench.output
    assert not handle.exited.is_set()


def test_its_end_is_told_with_its_status(bench: Bench) -> None:
    handle = bench.start(bench.kind.fails)
    assert handle.exited.wait(4)
    assert str(handle.status) == "exit code 3"
    assert handle.gone.wait(4)


def test_a_stop_blocks_until_nothing_is_left(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    handle.stop(4)
    assert handle.exited.is_set()
    assert handle.gone.is_set()
    handle.stop(4)


def test_a_server_that_does_not_stop_is_made_to(bench: Bench) -> None:
    handle = bench.start(bench.kind.stubborn)
    assert bench.said.wait(4)
    handle.stop(0.05)
    assert handle.gone.is_set()


def test_a_kill_does_not_wait(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    switched = gevent.Greenlet(lambda: None)
    switched.start()
    handle.kill()
    assert not switched.ready(), "nobody else ran meanwhile"
    assert handle.exited.wait(4)


def test_what_cannot_start_is_refused_before_and_at_the_start(bench: Bench) -> None:
    spec = bench.spec(bench.kind.missing)
    for attempt in (bench.launcher.check, lambda spec: bench.launcher.start(spec, bench.feed)):
        with pytest.raises(StartFailed, match="m: "):
            attempt(spec)
    bench.launcher.check(bench.spec(bench.kind.runs))


def test_leftovers_of_an_earlier_run_are_stopped_and_told(bench: Bench) -> None:
    handle = bench.start(bench.kind.runs)
    assert any("model m" in line for line in bench.launcher.stop_leftovers())
    assert handle.gone.wait(4)
    assert bench.launcher.stop_leftovers() == []


def test_each_run_of_a_model_is_told_from_the_next(bench: Bench) -> None:
    first = bench.start(bench.kind.runs)
    spec = replace(bench.spec(bench.kind.runs), generation=1)
    second = bench.launcher.start(spec, bench.feed)
    bench.handles.append(second)
    first.stop(4)
    assert not second.exited.is_set()
