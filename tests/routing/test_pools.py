"""Models on clusters: who leaves when no machine is free for another one."""

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.memory import GPU_PARTS, Device, Need
from llmsnap.routing.messages import ModelRules
from llmsnap.routing.occupancy import GpuShare, NodeOccupancy
from llmsnap.routing.pools import Pool, Pooled
from llmsnap.routing.residency import Action, Groups, Plan, Residency
from llmsnap.routing.swaps import RETRIES
from tests.drawn import cases
from tests.routing.facts import Facts
from tests.routing.test_scheduler_properties import everything_ended, rest
from tests.routing.world import FULL, World, group, matrix


class Cluster:
    """A world whose models run on the launcher ``farm``, but *here*, each with *gpus* or one.

    The engine has *nodes* with so many GPUs, of which jobs of others have some, and gives a model
    the first one that has room. A sleeping model keeps its GPUs. Each load that it has no machine
    for is kept in *refused*.
    """

    def __init__(
        self,
        names: str,
        *nodes: int,
        here: str = "",
        pinned: str = "",
        labels: dict[str, str] | None = None,
        gpus: dict[str, int] | None = None,
        groups: Groups | None = None,
        **options: object,
    ) -> None:
        self.nodes, self.others = nodes, [0] * len(nodes)
        self.farm = [name for name in names.split() if name not in here.split()]
        self.gpus = {name: (gpus or {}).get(name, 1) for name in self.farm}
        self.needs = tuple(
            Need(
                name,
                anywhere=self.gpus[name] * GPU_PARTS,
                asleep_anywhere=self.gpus[name] * GPU_PARTS,
                is_pinned=name in pinned.split(),
                labels=tuple((labels or {}).get(name, "").split()),
            )
            for name in self.farm
        )
        self.here = groups or Groups()
        self.at: dict[str, int] = {}
        self.refused: list[str] = []
        self.evicted: list[tuple[str, str]] = []
        self.world = World(names, residency=self.residency(), **options)  # type: ignore[arg-type]
        self.world.finds_machine, self.world.on_swap = self.finds_machine, self.check
        self.world.device_of = lambda name: f"farm/{self.at[name]}" if name in self.at else ""

    def residency(self, nodes: Iterable[Device] = ()) -> Pooled:
        return Pooled(self.here, [Pool("farm", self.needs, tuple(nodes))])

    def tell(self, *offers: str) -> None:
        """Tell the scheduler what the nodes have, and which labels, if that is known."""
        self.world.refigure(
            self.residency(
                Device(
                    f"farm/{number}",
                    total * GPU_PARTS,
                    others=self.others[number] * GPU_PARTS,
                    labels=tuple(offers[number].split()) if offers else None,
                )
                for number, total in enumerate(self.nodes)
            )
        )

    def free(self, number: int, *but: str) -> int:
        used = sum(
            self.gpus[name]
            for name, at in self.at.items()
            if at == number
            and name not in but
            and self.world.models[name].state is not State.STOPPED
        )
        return self.nodes[number] - self.others[number] - used

    def finds_machine(self, name: str) -> bool:
        if name not in self.farm:
            return True
        fits = (n for n in range(len(self.nodes)) if self.free(n, name) >= self.gpus[name])
        found = next(fits, None)
        if found is None:
            self.refused.append(name)
            return False
        self.at[name] = found
        return True

    def check(self, start: msg.StartSwap) -> None:
        """No model leaves but for one of this cluster that has no room there."""
        for eviction in start.evict:
            self.evicted.append((start.target, eviction.model_id))
            assert eviction.model_id in self.farm, f"{eviction} is not on the cluster"
            assert start.target in self.farm, f"{eviction} for a model elsewhere"
        assert not start.device, "the engine decides where it runs"


def leavers(cluster: Cluster) -> list[str]:
    return [victim for _, victim in cluster.evicted]


def test_the_idle_model_that_costs_least_leaves_a_full_cluster_and_no_other() -> None:
    cluster = Cluster("a b c near", 2, here="near")
    cluster.world.serve("near", "a", "b")
    cluster.world.request("a", 0.0)
    assert cluster.world.request("c").after(60.0).in_flight
    assert cluster.refused == ["c"]
    assert cluster.evicted == [("c", "b")]
    record = cluster.world.records[-1]
    assert record.plan
    assert record.plan.why == "farm had no machine for c"
    assert cluster.world.state("near") == "ready"


@pytest.mark.parametrize("others", [0, 9])
def test_a_start_is_tried_again_three_times_when_others_take_what_becomes_free(others: int) -> None:
    cluster = Cluster("a b c d e big", 5, gpus={"big": 3})
    cluster.world.serve("a", "b", "c", "d", "e")
    cluster.others = [others]
    asked = cluster.world.request("big").after(60.0)
    assert leavers(cluster) == ["a", "b", "c"]
    assert len(cluster.refused) == (1 + RETRIES if others else 3)
    if others:
        assert asked.reason is msg.RefusalReason.FAILED
        assert asked.refused.error is FULL
    else:
        assert asked.in_flight


def test_a_model_of_a_group_is_stopped_where_its_sleep_would_keep_the_machine() -> None:
    groups = Groups([group("g", "a b", exclusive=False)])
    cluster = Cluster("a b", 1, groups=groups, a=ModelRules("a", can_sleep=True))
    cluster.world.on_swap = None
    cluster.world.serve("a")
    assert cluster.world.request("b").after(30.0).in_flight
    assert cluster.refused == ["b"]
    assert cluster.world.state("a") == "stopped"


@pytest.mark.parametrize(
    ("settings_of", "asked", "left"),
    [
        ({}, "c", ["a"]),  # nodes of 1 and 2 GPUs: a is on the first, b and d on the second
        ({"gpus": {"c": 2}}, "c", ["b", "d"]),
        ({"gpus": {"c": 2}, "pinned": "b"}, "c", []),
        ({"gpus": {"c": 3}}, "c", []),
        ({}, "near", []),
    ],
)
def test_models_leave_before_the_start_where_the_engine_tells_what_is_free(
    settings_of: dict[str, object], asked: str, left: list[str]
) -> None:
    cluster = Cluster("a b d c near", 1, 2, here="near", **settings_of)  # type: ignore[arg-type]
    cluster.world.serve("a", "b", "d")
    cluster.tell()
    found = cluster.world.request(asked).after(300.0)
    assert leavers(cluster) == left
    assert bool(cluster.refused) is (not left and asked == "c"), "the engine has the last word"
    assert found.in_flight is not bool(cluster.refused)


def test_who_has_which_gpus_and_who_would_leave_is_told_in_gpus() -> None:
    cluster = Cluster("a b c", 3, gpus={"b": 2})
    cluster.world.serve("a", "b")
    cluster.tell()
    found = cluster.world.scheduler.occupancy()
    assert found.nodes == (
        NodeOccupancy("farm/0", 3.0, 0.0, 0.0, (GpuShare("a", 1.0), GpuShare("b", 2.0)), ()),
    )
    plan = cluster.world.preview("c")
    assert (plan["device"], plan["takes"], plan["frees"]) == (
        *("farm/0", {"farm/0": 1.0}),
        {"a": {"farm/0": 1.0}},
    )
    assert plan["summary"].startswith("evicts a (1 GPU, idle ")
    assert plan["why"] == "c needs 1 GPU on a machine of farm"
    assert "Room for it is on farm/0." in plan["sentences"]


def test_two_models_do_not_get_the_same_last_gpu() -> None:
    cluster = Cluster("a b c d", 2)
    cluster.world.serve("a", "b")
    cluster.tell()
    asked = [cluster.world.request("c", 3.0), cluster.world.request("d", 3.0)]
    cluster.world.run(60.0)
    assert all(each.returned for each in asked)
    assert cluster.refused == []
    assert sorted(leavers(cluster)) == ["a", "b"]


# Where that is unknown, the machine that runs a model with that label has it.
@pytest.mark.parametrize("offers", [("a100", "h100"), ()])
def test_a_model_leaves_on_a_machine_with_the_label(offers: tuple[str, ...]) -> None:
    cluster = Cluster("a b c", 1, 1, labels={"b": "h100", "c": "h100"})
    cluster.world.serve("a", "b")
    cluster.tell(*offers)
    assert cluster.world.request("c").after(60.0).in_flight
    assert leavers(cluster) == ["b"]
    assert not cluster.refused


def test_figures_that_are_wrong_cost_a_refusal_and_one_more_model() -> None:
    cluster = Cluster("a b", 1)
    cluster.world.serve("a")
    cluster.nodes = (9,)
    cluster.tell()
    cluster.nodes = (1,)
    assert cluster.world.request("b").after(60.0).in_flight
    assert (cluster.refused, leavers(cluster)) == (["b"], ["a"])


# --- plans, without a scheduler -------------------------------------------------------------------

STOP, SLEEP = Action.STOP, Action.SLEEP


def node(number: int, gpus: int, *labels: str) -> Device:
    return Device(f"farm/{number}", gpus * GPU_PARTS, labels=labels or None)


def wants(name: str, gpus: int = 1, *labels: str, pin: bool = False) -> Need:
    size = gpus * GPU_PARTS
    return Need(name, anywhere=size, asleep_anywhere=size, labels=labels, is_pinned=pin)


def on(number: int, start_s: float = 10.0, **more: Any) -> Facts:
    return Facts(device=f"farm/{number}", start_s=start_s, **more)


def plan(
    needs: str | Iterable[Need],
    nodes: Iterable[Device],
    retries: int = 0,
    here: Residency | None = None,
    current: Plan | None = None,
    **facts: Facts,
) -> Plan:
    """What leaves for t."""
    if isinstance(needs, str):
        needs = [wants(name) for name in needs]
    pooled = Pooled(here or Groups(), [Pool("farm", tuple(needs), tuple(nodes))])
    known = {**facts, "t": Facts(state=State.STOPPED, retries=retries)}
    running = [name for name, each in facts.items() if each.state is not State.ASLEEP]
    found = pooled.plan("t", running, known, current)
    assert isinstance(found, Plan)
    return found


PAIR = [wants("t", 2), *map(wants, "abc")]
ASLEEP = State.ASLEEP


@pytest.mark.parametrize(
    ("needs", "nodes", "facts", "left"),
    [
        # The cheapest by far, and one asleep as well as one that runs.
        ("tab", (), {"a": on(0), "b": on(0, 2.0)}, "b"),
        ([*map(wants, "ta"), wants("b", pin=True)], (), {"a": on(0), "b": on(0, 2.0)}, "a"),
        ([wants("t"), wants("b", pin=True)], (), {"b": on(0, 2.0)}, ""),
        ("tab", (), {"a": on(0), "b": on(0, 2.0, state=ASLEEP)}, "b"),
        ("tab", (), {"a": on(0, idle_since=9.0), "b": on(0, idle_since=8.0)}, "b"),
        # Idle ones first.
        ("tab", (), {"a": on(0), "b": on(0, 2.0, busy=True)}, "a"),
        ("tab", (), {"a": on(0, busy=True), "b": on(0, busy=True, left_s=1.0)}, "b"),
        ("tab", (), {"a": on(0, 900.0), "b": on(0, 2.0, state=State.STOPPING)}, "a"),
        ("tab", (), {"a": on(0, 900.0), "b": on(0, 2.0, leaves=("u", STOP))}, "a"),
        ("tab", (), {"a": on(0, 900.0), "b": on(0, 2.0, leaves=("t", STOP))}, "b"),
        # Those of the same labels, which run where the target may run.
        (
            [wants("t", 1, "x"), wants("a"), wants("b", 1, "x")],
            *((), {"a": on(0), "b": on(0, 900.0)}, "b"),
        ),
        # Machines that are too small, or lack a label, do not help, those as large as it do.
        ("tab", (node(0, 1), node(1, 9)), {"a": on(0), "b": on(1, 900.0)}, "a"),
        (PAIR, (node(0, 1), node(1, 9)), {"a": on(0), "b": on(1, 900.0)}, "b"),
        (PAIR, (node(0, 2), node(1, 9)), {"a": on(0), "b": on(1, 900.0)}, "a"),
        (
            [wants("t", 1, "x"), *map(wants, "ab")],
            *((node(0, 9, "y"), node(1, 9, "x", "y")), {"a": on(0), "b": on(1, 900.0)}, "b"),
        ),
        # The figures of the engine, where these say that a model has to leave.
        (
            [wants("t", 2), *map(wants, "bc"), wants("a", 1), wants("p", 1, pin=True)],
            (node(0, 2), node(1, 2)),
            {"a": on(0, 1.0), "p": on(0), "b": on(1), "c": on(1)},
            "bc",
        ),
    ],
)
def test_who_leaves_after_a_start_that_found_no_machine(
    needs: str | list[Need], nodes: tuple[Device, ...], facts: dict[str, Facts], left: str
) -> None:
    found = plan(needs, nodes, 1, **facts)
    assert found.how == dict.fromkeys(left, STOP)
    assert found.victims == tuple(left)
    assert not plan(needs, (), 0, **facts).victims, "the start comes first"


@pytest.mark.parametrize(
    ("current", "b", "left"),
    [("a", {"busy": True, "left_s": 1.0}, "a"), ("c", {"busy": True}, "b"), ("a", {}, "b")],
)
def test_a_busy_model_that_is_drained_already_is_kept_unless_another_one_is_idle(
    current: str, b: dict[str, Any], left: str
) -> None:
    facts = {"a": on(0, busy=True, left_s=9.0), "b": on(0, **b)}
    assert plan("tab", (), 1, current=Plan((current,)), **facts).victims == (left,)


OF_GROUP = Groups([group("g", "t a x", exclusive=False)])


@pytest.mark.parametrize(
    ("size", "gpus", "how"),
    [
        (1, 3, {"a": None, "x": None}),  # both leave in their usual way
        (1, 2, {"a": STOP, "x": None}),  # the rest is on this machine
        (2, 3, {"a": STOP, "x": None}),
        (2, 2, {"a": STOP, "b": STOP, "x": None}),  # one more than those of the group
    ],
)
def test_a_model_that_leaves_in_any_case_is_stopped_where_its_sleep_leaves_no_room(
    size: int, gpus: int, how: dict[str, Action | None]
) -> None:
    needs = [wants("t", size), wants("a"), wants("b")]
    facts = {"a": on(0, leave_by=SLEEP), "b": on(0, 1.0), "x": Facts()}
    found = plan(needs, [node(0, gpus)], here=OF_GROUP, **facts)
    assert {name: found.how.get(name) for name in found.victims} == how
    assert found.stays == {"t", "b"} - how.keys()
    freed = {each.model_id: each.size for each in found.room.frees} if found.room else {}
    assert freed == {name: (GPU_PARTS,) for name, action in how.items() if action}
    by_group = "t is in group g"
    by_figures = f"t needs {'1 GPU' if size == 1 else '2 GPUs'} on a machine of farm"
    assert found.why == (by_figures if "b" in how else by_group)


def test_the_cost_is_that_of_those_who_leave_here_and_on_the_cluster() -> None:
    here = matrix("t a x", "x: 7", s="t & a | x")
    found = plan("ta", [node(0, 1)], here=here, a=on(0), x=Facts())
    assert found.victims == ("a", "x")
    assert found.cost == pytest.approx(7.0 + 0.05 * 10.0)


# --- whatever comes -------------------------------------------------------------------------------


def any_nodes(chance: Random) -> list[int]:
    return [chance.randint(1, 3) for _ in range(chance.randint(1, 3))]


@cases(80)
def test_whatever_comes_each_request_ends_and_only_models_of_a_full_cluster_leave(
    chance: Random,
) -> None:
    pinned, in_group = chance.choice(["", "a", "a b"]), chance.random() < 0.5
    cluster = Cluster(
        "a b c d e x y",
        *any_nodes(chance),
        here="x y",
        pinned=pinned,
        gpus={"e": chance.randint(1, 3)},
        groups=Groups([group("g", "c d", exclusive=False)] if in_group else []),
        policy=chance.choice(["fair", "fifo"]),
        b=ModelRules("b", can_sleep=True, sleep_after_s=2.0),
        c=ModelRules("c", ttl_s=5.0),
    )
    is_told, requests = chance.random() < 0.5, chance.randint(1, 25)
    for _ in range(requests):
        cluster.others[0] = chance.randint(0, 3)
        if is_told:
            cluster.tell()
        asked = cluster.world.request(
            chance.choice("abcdexy"), chance.choice([0.0, 0.5, 3.0, 30.0])
        )
        asked.after(chance.choice([0.0, 0.0, 1.0, 10.0, 100.0]))
    rest(cluster.world)
    everything_ended(cluster.world)
    assert not set(leavers(cluster)) & {"x", "y", *pinned.split()}
    tries = [record.target for record in cluster.world.records]
    assert len(tries) <= (1 + RETRIES) * requests


@cases(60)
def test_with_true_figures_no_start_fails_that_can_work_and_no_model_leaves_without_need(
    chance: Random,
) -> None:
    nodes = any_nodes(chance)
    cluster = Cluster("a b c d e", *nodes, gpus={"e": chance.randint(1, 3)})
    cluster.tell()

    def check(start: msg.StartSwap) -> None:
        gpus = cluster.gpus[start.target]
        has_room = any(cluster.free(number) >= gpus for number in range(len(nodes)))
        assert not (start.evict and has_room), f"{start} without need"

    cluster.world.on_swap = check
    for name in chance.choices("abcde", k=chance.randint(1, 15)):
        asked = cluster.world.request(name, 0.0)
        assert asked.after(60.0).returned is (cluster.gpus[name] <= max(nodes))
    assert set(cluster.refused) <= {"e"}
