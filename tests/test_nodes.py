"""Machines of launchers: what their engines tell, and swaps on a full cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from llmsnap import nodes as nodes_module
from llmsnap.config import loads
from llmsnap.launchers import ClusterLauncher, NodeView
from llmsnap.launchers.cluster import job as job_module
from llmsnap.launchers.cluster import launcher as launcher_module
from llmsnap.nodes import SETTLED_S, NodeMeter, PlacedServer
from llmsnap.routing import Lease
from llmsnap.service import Service
from llmsnap.statedir import StateDir
from tests.fakes.ports import free_port
from tests.launchers.fake_ray import TOKEN, FakeRay

LIMIT_S = 15


class Meter:
    """A meter whose clock, servers and engine are those of a test."""

    def __init__(self) -> None:
        self.now, self.changes = 0.0, 0
        self.servers: list[PlacedServer] = []
        self.meter = NodeMeter({}, lambda: self.servers, self.change, lambda: False, self.clock)
        self.meter._moved_at["farm"] = -SETTLED_S

    def clock(self) -> float:
        return self.now

    def change(self) -> None:
        self.changes += 1

    def others(self, free: float) -> float:
        """What others have, once the engine says that *free* of 4 GPUs are."""
        self.meter.note("farm", [NodeView("n1", 4, free)])
        return self.meter.found["farm"][0].others


def server(gpus: float, *, is_moving: bool = False) -> PlacedServer:
    return PlacedServer("farm", "n1", gpus, is_moving)


def test_what_neither_is_free_nor_ours_is_that_of_others() -> None:
    made = Meter()
    assert made.others(free=4) == 0
    made.servers = [
        server(2),
        PlacedServer("farm", "n2", 1, False),
        PlacedServer("x", "n1", 1, False),
    ]
    assert made.others(free=1) == 1
    assert made.others(free=1) == 1
    assert made.changes == 2, "the first figures, and the second"
    made.meter.note("farm", [])
    assert made.meter.found["farm"] == ()


def test_jobs_of_an_earlier_run_are_not_of_others_before_they_could_be_adopted() -> None:
    made = Meter()
    made.meter._moved_at["farm"] = 0.0
    assert made.others(free=1) == 0
    made.servers = [server(2)]
    made.now = SETTLED_S
    assert made.others(free=1) == 1


def test_a_start_or_stop_of_ours_that_the_engine_does_not_know_yet_is_not_of_others() -> None:
    made = Meter()
    made.meter._wakes["farm"] = gevent.event.Event()
    made.servers = [server(2)]
    assert made.others(free=1) == 1
    made.servers = []  # it has stopped a moment ago
    made.meter.poke("farm")
    assert made.others(free=1) == 1
    made.servers = [server(1, is_moving=True)]
    made.now = SETTLED_S
    assert made.others(free=0) == 1, "another one starts meanwhile"
    made.servers = [server(1)]
    made.now += SETTLED_S - 1
    assert made.others(free=0) == 1
    assert made.others(free=3) == 0, "less is believed at once"
    made.now += 1
    assert made.others(free=1) == 2


# --- swaps on a cluster --------------------------------------------------------------------------


class Site:
    """A service whose models, a and c, run on a pretended Ray with a node for one of them.

    A start that finds no machine takes *placement_s*.
    """

    def __init__(self, folder: Path, ray: FakeRay, placement_s: float) -> None:
        self.ray = ray
        models = "".join(
            f"  {name}: {{cmd: '{sys.executable} -m http.server {free_port()}', launcher: farm,"
            f" proxy: 'http://localhost:{free_port()}', checkEndpoint: none,"
            " unloadTimeout: 1, resources: {gpus: 2}}\n"
            for name in "ac"
        )
        farm = f"{{type: ray, address: '{ray.url}', token: {TOKEN}}}"
        text = f"logToStdout: none\nlaunchers: {{farm: {farm}}}\nmodels:\n{models}"
        self.service = Service(loads(text, environ={}), state=StateDir(folder))
        self.service.open()
        launcher = self.service.launchers["farm"]
        assert isinstance(launcher, ClusterLauncher)
        self.launcher = launcher
        launcher.settings = replace(launcher.settings, placement_timeout_s=placement_s)

    def ask(self, name: str) -> Lease:
        ticket = self.service.driver.request(name)
        assert ticket.wait(LIMIT_S), self.service.driver.scheduler.explain(name, time.monotonic())
        return ticket.take()

    def fill(self) -> None:
        """Load a, and learn what the node has."""
        self.ask("a").close()
        self.until(lambda: self.service.nodes.found.get("farm"))

    def until(self, fact: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not fact():
            assert time.monotonic() < deadline, "it did not come true"
            gevent.sleep(0.01)

    @property
    def running(self) -> str:
        """The models of which a job runs."""
        jobs = self.ray.jobs.values()
        return " ".join(
            sorted(job.body["metadata"]["model"] for job in jobs if job.status == "RUNNING")
        )


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "CALM_S", 0.1)
    monkeypatch.setattr(launcher_module, "SWEEP_S", 0.05)
    monkeypatch.setattr(nodes_module, "HURRIED_S", 0.05)


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    made = FakeRay()
    del made.nodes[1]
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, ray: FakeRay) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def build(placement_s: float = 60.0) -> Site:
        sites.append(Site(tmp_path, ray, placement_s))
        return sites[-1]

    yield build
    for each in sites:
        each.until(lambda site=each: not site.launcher._unwanted)
        each.service.close(0.0)


def test_a_model_swaps_on_a_full_cluster_without_a_start_that_fails(
    make: Callable[..., Site],
) -> None:
    site = make()
    site.fill()
    posted = site.ray.calls.count("POST /api/jobs/")
    site.ask("c").close()
    assert site.running == "c"
    assert site.ray.calls.count("POST /api/jobs/") == posted + 1


def test_an_engine_that_tells_nothing_has_its_models_leave_after_a_start_that_failed(
    make: Callable[..., Site],
) -> None:
    site = make(1.2)
    site.ray.fail("GET", "/cluster_status", *[(500, "no")] * 1000)
    site.ask("a").close()
    site.ask("c").close()
    assert site.running == "c"


def test_an_engine_that_goes_down_during_an_eviction_costs_no_further_model(
    make: Callable[..., Site],
) -> None:
    site = make(1.2)
    site.fill()
    ticket = site.service.driver.request("c")
    site.until(lambda: str(site.service.state("a")) == "stopping")
    site.ray.go_down()
    gevent.sleep(0.2)
    site.ray.come_back()
    assert ticket.wait(LIMIT_S)
    ticket.take().close()
    assert site.running == "c"
