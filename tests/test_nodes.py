"""Machines of launchers: what their engines tell, and swaps on a full cluster."""

from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event

from llmsnap import nodes as nodes_module
from llmsnap.config import loads
from llmsnap.errors import NoCapacity
from llmsnap.launchers import LaunchSpec, NodeView, Output, registry
from llmsnap.models import State
from llmsnap.nodes import SETTLED_S, NodeMeter, PlacedServer
from llmsnap.routing import Ticket
from llmsnap.service import Service
from tests.fakes.launcher import FakeHandle, FakeLauncher
from tests.launchers import until

LIMIT_S = 10


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


def server(gpus: float, **more: Any) -> PlacedServer:
    return PlacedServer(
        **{"launcher": "farm", "node": "n1", "gpus": gpus, "is_moving": False, **more}
    )


def test_what_neither_is_free_nor_ours_is_that_of_others() -> None:
    made = Meter()
    assert made.others(free=4) == 0
    made.servers = [server(2), server(1, node="n2"), server(1, launcher="x")]
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
    made.meter._wakes["farm"] = Event()
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


class Cluster(FakeLauncher):
    """A machine with two GPUs for each of *places* models, and its engine."""

    def __init__(self) -> None:
        super().__init__()
        self.places = 1
        self.tells = True
        """Whether the engine tells what machines there are."""
        self.is_up = Event()
        self.is_up.set()
        self.refused = 0

    @property
    def running(self) -> list[str]:
        return [each.spec.model_id for each in self.handles if not each.gone.is_set()]

    def nodes(self) -> list[NodeView]:
        free = 2 * (self.places - len(self.running))
        return [NodeView("n1", 2 * self.places, free)] * (self.tells and self.is_up.is_set())

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> FakeHandle:
        self.is_up.wait()
        if len(self.running) == self.places:
            self.refused += 1
            raise NoCapacity("full", 0.1)
        handle = super().start(spec, output, cancelled)
        handle.node = "n1"
        return handle


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(registry, "cluster_launcher", lambda *_: made)
    monkeypatch.setattr(nodes_module, "HURRIED_S", 0.01)
    monkeypatch.setattr("llmsnap.models.health.UNCHECKED_S", 0.001)
    return made


@pytest.fixture
def service(cluster: Cluster) -> Iterator[Service]:
    """One whose models, a, b and c, run on the cluster."""
    models = "".join(
        f"  {name}: {{cmd: serve, launcher: farm, proxy: 'http://localhost:1',"
        " checkEndpoint: none, resources: {gpus: 2}}\n"
        for name in "abc"
    )
    farm = "{type: ray, address: 'http://localhost:1', insecure: true}"
    text = f"logToStdout: none\nlaunchers: {{farm: {farm}}}\nmodels:\n{models}"
    made = Service(loads(text, environ={}))
    made.open()
    yield made
    for each in cluster.handles:
        each.stop_allowed.set()
    made.close(0.0)


def served(ticket: Ticket) -> None:
    assert ticket.wait(LIMIT_S), "it got no lease"
    ticket.take().close()


@pytest.mark.parametrize("tells", [True, False])
def test_models_swap_on_a_full_cluster_after_a_start_that_failed_only_where_it_tells_nothing(
    cluster: Cluster, service: Service, tells: bool
) -> None:
    cluster.tells = tells
    served(service.driver.request("a"))
    if tells:
        until(lambda: service.nodes.found.get("farm"))
    served(service.driver.request("c"))
    assert (cluster.running, cluster.refused) == (["c"], 0 if tells else 1)


def test_an_engine_that_goes_down_during_an_eviction_costs_no_further_model(
    cluster: Cluster, service: Service
) -> None:
    cluster.places = 2
    for name in "ab":
        served(service.driver.request(name))
    until(lambda: service.nodes.found.get("farm"))
    for each in cluster.handles:
        each.stop_allowed.clear()
    ticket = service.driver.request("c")
    until(lambda: any(each.stops for each in cluster.handles))
    cluster.is_up.clear()
    until(lambda: not service.nodes.found["farm"])
    for each in cluster.handles:
        each.stop_allowed.set()
    until(lambda: service.state("c") is State.STARTING)
    cluster.is_up.set()
    served(ticket)
    assert (len(cluster.running), cluster.running[-1], cluster.refused) == (2, "c", 0)
