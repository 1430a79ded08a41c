"""Models on clusters: who leaves when no machine is free for another one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.memory import Need
from llmsnap.routing.messages import ModelRules
from llmsnap.routing.pools import Pool, Pooled
from llmsnap.routing.residency import Groups
from llmsnap.routing.swaps import RETRIES
from tests.routing.test_scheduler_properties import everything_ended, rest
from tests.routing.world import FULL, World, group


class Cluster:
    """A world whose models run on the launcher ``farm``, but *here*, each with *gpus* or one.

    The engine has *total* GPUs on one machine, of which others use some. A sleeping model keeps
    its GPUs. Each load that it has no machine for is kept in *refused*.
    """

    def __init__(
        self,
        names: str,
        total: int,
        *,
        here: str = "",
        pinned: str = "",
        labels: dict[str, str] | None = None,
        gpus: dict[str, int] | None = None,
        groups: Groups | None = None,
        **options: object,
    ) -> None:
        self.total, self.others, self.gpus = total, 0, gpus or {}
        self.world = World(names, **options)  # type: ignore[arg-type]
        self.farm = [name for name in names.split() if name not in here.split()]
        needs = tuple(
            Need(
                name,
                is_pinned=name in pinned.split(),
                labels=((labels or {}).get(name, ""),),
            )
            for name in self.farm
        )
        self.world.residency = Pooled(groups or Groups(), [Pool("farm", needs)])
        self.world.finds_machine = self.finds_machine
        self.world.on_swap = self.check
        self.world.configure()
        self.refused: list[str] = []
        self.evicted: list[tuple[str, str]] = []

    def finds_machine(self, name: str) -> bool:
        used = sum(
            self.gpus.get(each, 1)
            for each in self.farm
            if each != name and self.world.models[each].state is not State.STOPPED
        )
        found = name not in self.farm or used + self.gpus.get(name, 1) <= self.total - self.others
        if not found:
            self.refused.append(name)
        return found

    def check(self, start: msg.StartSwap) -> None:
        """No model leaves for another one of this cluster, but after that found no machine."""
        for eviction in start.evict:
            self.evicted.append((start.target, eviction.model_id))
            assert start.target in self.refused, f"{eviction} without need"
            assert eviction.model_id in self.farm, f"{eviction} is not on the cluster"


def leavers(cluster: Cluster) -> list[str]:
    return [victim for _, victim in cluster.evicted]


def test_the_idle_model_that_costs_least_leaves_a_full_cluster_and_no_other() -> None:
    cluster = Cluster("a b c near", 2, here="near")
    cluster.world.serve("near", "a", "b")
    cluster.world.request("a", 0.0)
    asked = cluster.world.request("c")
    cluster.world.run(60.0)
    assert asked.in_flight
    assert cluster.refused == ["c"]
    assert cluster.evicted == [("c", "b")]
    record = cluster.world.records[-1]
    assert record.plan
    assert record.plan.why == "farm had no machine free for c"
    assert cluster.world.state("near") == "ready"


@pytest.mark.parametrize(
    ("settings_of", "left"),
    [
        ({"pinned": "a b"}, None),
        ({"pinned": "a"}, "b"),
        ({"labels": {"b": "h100", "c": "h100"}}, "b"),
        ({"labels": {"a": "h100", "c": "h100"}}, "a"),
    ],
)
def test_pins_and_labels_count(settings_of: dict[str, object], left: str | None) -> None:
    cluster = Cluster("a b c", 2, **settings_of)  # type: ignore[arg-type]
    cluster.world.serve("a", "b")
    asked = cluster.world.request("c")
    cluster.world.run(30.0)
    assert leavers(cluster) == ([left] if left else [])
    assert asked.in_flight is bool(left)
    if not left:
        assert asked.refused
        assert asked.refused.error is FULL


def test_models_leave_one_at_a_time_until_there_is_room() -> None:
    cluster = Cluster("a b c d big", 4, gpus={"big": 2})
    cluster.world.serve("a", "b", "c", "d")
    asked = cluster.world.request("big")
    cluster.world.run(60.0)
    assert asked.in_flight
    assert leavers(cluster) == ["a", "b"]


def test_a_start_is_tried_again_three_times_when_others_take_what_becomes_free() -> None:
    cluster = Cluster("a b c d e f", 5)
    cluster.world.serve("a", "b", "c", "d", "e")
    cluster.others = 9
    asked = cluster.world.request("f")
    cluster.world.run(60.0)
    assert asked.reason is msg.RefusalReason.FAILED
    assert leavers(cluster) == ["a", "b", "c"]
    assert len(cluster.refused) == 1 + RETRIES


def test_a_busy_model_is_drained_and_one_that_sleeps_leaves_before_it() -> None:
    cluster = Cluster("a b c", 2, b=ModelRules("b", can_sleep=True))
    stream = cluster.world.occupy("a")
    cluster.world.serve("b")
    cluster.world.sleep("b")
    cluster.world.run(5.0)
    held = cluster.world.occupy("c")
    asked = cluster.world.request("b")
    cluster.world.run(300.0)
    assert leavers(cluster) == ["b"]
    assert asked.pending
    cluster.world.finish(stream)
    cluster.world.run(30.0)
    assert asked.in_flight
    assert held.in_flight
    assert leavers(cluster) == ["b", "a"]


def test_a_model_of_a_group_is_stopped_where_its_sleep_would_keep_the_machine() -> None:
    groups = Groups([group("g", "a b", exclusive=False)])
    cluster = Cluster("a b", 1, groups=groups, a=ModelRules("a", can_sleep=True))
    cluster.world.on_swap = None
    cluster.world.serve("a")
    asked = cluster.world.request("b")
    cluster.world.run(30.0)
    assert asked.in_flight
    assert cluster.refused == ["b"]
    assert cluster.world.state("a") == "stopped"


rows = st.lists(
    st.tuples(
        st.sampled_from("abcdexy"),
        st.sampled_from([0.0, 0.5, 3.0, 30.0]),
        st.sampled_from([0.0, 0.0, 1.0, 10.0, 100.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)


@given(
    requests=rows,
    total=st.integers(1, 4),
    big=st.integers(1, 3),
    policy=st.sampled_from(["fair", "fifo"]),
    pinned=st.sampled_from(["", "a", "a b"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_each_request_ends_and_only_models_of_a_full_cluster_leave(
    requests: list[tuple[str, float, float, int]], total: int, big: int, policy: str, pinned: str
) -> None:
    cluster = Cluster(
        "a b c d e x y",
        total,
        here="x y",
        pinned=pinned,
        gpus={"e": big},
        policy=policy,
        b=ModelRules("b", can_sleep=True, sleep_after_s=2.0),
        c=ModelRules("c", ttl_s=5.0),
    )
    for name, hold_s, pause_s, others in requests:
        cluster.others = others
        cluster.world.request(name, hold_s)
        cluster.world.run(pause_s)
    rest(cluster.world)
    everything_ended(cluster.world)
    assert not set(leavers(cluster)) & {"x", "y", *pinned.split()}
    tries = [record.target for record in cluster.world.records]
    assert len(tries) <= 4 * len(requests), "each request has three retries at most"
