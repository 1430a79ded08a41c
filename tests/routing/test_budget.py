"""The memory budget, from the configuration, what was found, and what was measured."""

import json
from typing import Any

import pytest

from llmsnap.config import loads
from llmsnap.routing.budget import Figures, FoundDevice, KnownSizes, budget_of
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import (
    ConfigChanged,
    Eviction,
    ResidencyChanged,
    SchedulerOptions,
    residency_of,
)
from llmsnap.routing.recording import decode, encode
from llmsnap.routing.residency import Action
from tests.routing.facts import gpu, need
from tests.routing.world import World

TWO = (FoundDevice("gpu0", 24 * GIB), FoundDevice("gpu1", 16 * GIB), FoundDevice("ram", 64 * GIB))
FOUND = {"m": KnownSizes({"gpu1": 4 * GIB}, "estimated")}


def memory(text: str, figures: Figures) -> Memory:
    config = (
        f"routing: {{router: {{use: memory}}}}\nmodels: {{m: {{cmd: 's ${{PORT}}', {text}}}}}\n"
    )
    return budget_of(loads(config, environ={}), figures)


def test_a_budget_is_made_of_a_configuration() -> None:
    config = loads(
        """
        memory: {gpu0: {capacity: 24GiB, reserve: 1GiB}}
        groups:
          one: {members: [z, b], exclusive: false}
          kept: {swap: false, persistent: true, members: [c]}
        routing: {router: {use: memory}}
        models:
          z: &m {cmd: 's ${PORT}', memory: 6GiB}
          b: {<<: *m, memory: {any: 3GiB}, asleepMemory: {ram: 1GiB}, evictCost: 3}
          c: {<<: *m, memory: auto}
        """,
        environ={},
    )
    ram = FoundDevice("ram", 8 * GIB)
    figures = Figures((ram,), held={"z": {"gpu0": GIB}}, sleeping=frozenset("z"))
    found = residency_of(config, figures)
    one = Share("gpu0", GIB)
    assert found == Memory(
        [Device("gpu0", 24 * GIB, GIB), Device("ram", 8 * GIB)],
        [
            need("z", 6, apart="one", measured=(one,), is_measured_asleep=True),
            Need("b", anywhere=3 * GIB, asleep=(Share("ram", GIB),), evict_cost=3.0, apart="one"),
            Need("c", is_known=False, is_pinned=True, source="unknown"),
        ],
    )
    for event in (ConfigChanged((), found, SchedulerOptions()), ResidencyChanged(found)):
        assert decode(json.loads(json.dumps(encode(event)))) == event


@pytest.mark.parametrize(
    ("given", "found", "devices"),
    [
        ("", TWO, {"gpu0": (24, 0), "gpu1": (16, 0), "ram": (64, 0)}),
        (
            "gpu1: 8GiB, gpu0: {reserve: 2GiB}",
            TWO,
            {"gpu0": (24, 0), "gpu1": (8, 0), "ram": (64, 0)},
        ),
        ("gpu0: 8GiB", (), {"gpu0": (8, 0), "ram": (0, 0)}),
        ("ram: {reserve: 99GiB}", TWO[2:], {"ram": (64, 0)}),
        ("", (FoundDevice("gpu0", 0), FoundDevice("ram", 9 * GIB, 2 * GIB)), {"ram": (9, 2)}),
        # What other programs use is taken from what the budget leaves, then from the budget.
        ("ram: 6GiB", (FoundDevice("ram", 9 * GIB, 2 * GIB),), {"ram": (6, 0)}),
        ("ram: 6GiB", (FoundDevice("ram", 9 * GIB, 5 * GIB),), {"ram": (6, 2)}),
    ],
)
def test_devices_are_those_of_the_machine_limited_by_the_file(
    given: str, found: tuple[FoundDevice, ...], devices: dict[str, tuple[int, int]]
) -> None:
    text = f"routing: {{router: {{use: memory}}}}\nmemory: {{{given}}}\nmodels: {{}}\n"
    made = budget_of(loads(text, environ={}), Figures(found)).devices
    shown = {each.name: (each.capacity // GIB, each.others // GIB) for each in made}
    assert shown == devices


@pytest.mark.parametrize(
    ("text", "figures", "shares", "source"),
    [
        ("memory: 6GiB", {}, {"gpu0": 3, "gpu1": 3}, "declared"),
        (
            "memory: 6GiB",
            {"splits": {"m": {"gpu0": 2, "gpu1": 1}}, "needs": FOUND},
            {"gpu0": 4, "gpu1": 2},
            "declared",
        ),
        ("memory: 6GiB", {"splits": {"m": {"gpu1": 1, "gpu7": 3}}}, {"gpu1": 6}, "declared"),
        ("memory: 6GiB", {"devices": TWO[2:]}, {"ram": 6}, "declared"),
        ("memory: auto", {"needs": FOUND}, {"gpu1": 4}, "estimated"),
        ("memory: auto", {}, {}, "unknown"),
        (
            "memory: {gpu0: 5GiB, ram: 1GiB, any: 2GiB}",
            {"devices": (FoundDevice("ram", 32 * GIB, aliases=("gpu0",)),)},
            {"ram": 8},
            "declared",
        ),
    ],
)
def test_needs_are_declared_else_measured_else_estimated(
    text: str, figures: dict[str, Any], shares: dict[str, int], source: str
) -> None:
    (found,) = memory(text, Figures(**{"devices": TWO} | figures)).needs
    assert {each.device: each.size // GIB for each in found.shares} == shares
    assert (found.source, found.is_known, found.anywhere) == (source, source != "unknown", 0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory: {any: 1GiB}", "it needs a GPU, and there is none"),
        (
            "memory: {gpu3: 1GiB}",
            "it needs gpu3, which this machine does not have; ram has 64.0 GiB",
        ),
        ("device: gpu3", "it needs gpu3, which this machine does not have; ram has 64.0 GiB"),
    ],
)
def test_a_device_that_is_not_there_is_why_a_model_never_fits(text: str, why: str) -> None:
    made = memory(text, Figures(TWO[2:]))
    assert getattr(made.plan("m", [], {}), "reason", "") == why


def test_a_model_that_holds_more_than_it_needs_counts_as_what_it_holds() -> None:
    machine = World("a b", residency=Memory([gpu(14)], [need("a", 4), need("b", 6)]))
    machine.serve("a")
    holds = need("a", 4, measured=(Share("gpu0", 9 * GIB),))
    machine.refigure(Memory([gpu(14)], [holds, need("b", 6)]))
    (device,) = machine.scheduler.occupancy().devices
    assert [(each.model, each.bytes // GIB) for each in device.residents] == [("a", 9)]
    machine.serve("b")
    assert machine.records[-1].evicted == (Eviction("a", Action.STOP),)
    machine.serve("a")
    assert machine.records[-1].evicted == (), "it is loaded by what it needs"
