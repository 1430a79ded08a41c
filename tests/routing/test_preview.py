"""Plans and swaps as documents, and what a load would do, now or as supposed."""

from dataclasses import replace
from typing import Any

import pytest

from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import Due, DueRule, ModelRules
from llmsnap.routing.policies import AT_ONCE
from llmsnap.routing.preview import memory_document, when_document
from tests.routing.world import World


def machine() -> World:
    """Two cards; a and b run on the first, of which c needs the most. a moves to RAM to sleep."""
    needs = [
        Need("a", (Share("gpu0", 6 * GIB),), asleep=(Share("ram", 2 * GIB),)),
        Need("b", (Share("gpu0", 6 * GIB),)),
        Need("c", anywhere=10 * GIB),
    ]
    devices = [Device("gpu0", 16 * GIB), Device("gpu1", GIB), Device("ram", 4 * GIB)]
    budget = Memory(devices, needs)
    found = World("a b c", residency=budget, a=ModelRules("a", can_sleep=True))
    found.serve("c")
    found.unload("c")
    found.run(5.0)
    found.serve("a", "b")
    return found


def shown(world: World, **supposed: Any) -> dict[str, Any]:
    return world.preview("c", **supposed)


def test_a_preview_says_who_would_leave_how_and_what_that_frees() -> None:
    world = machine()
    world.request("b", 100.0).after(3.0)
    found = shown(world)
    assert found["leaving"] == [
        {"model": "a", "action": "sleep", "frees": 6 * GIB, "busy": False, "idle_s": 12.0}
    ]
    assert (found["answer"], found["device"], found["answers_s"]) == ("plan", "gpu0", 0.0)
    assert found["takes"] == {"gpu0": 10 * GIB, "gpu1": 0, "ram": 0}
    assert found["left"] == {"gpu0": 0, "gpu1": GIB, "ram": 2 * GIB}
    assert found["frees"] == {"a": {"gpu0": 6 * GIB, "gpu1": 0, "ram": -2 * GIB}}
    assert [(each["victims"], each["lost_by"]) for each in found["considered"]] == [(["b"], "cost")]
    assert found["eta_s"] == pytest.approx(1.2, abs=0.3)  # a sleep, and a load
    world.request("a", 100.0).after(1.23456)
    both = shown(world)
    (leaves,) = both["leaving"]
    assert (leaves["model"], leaves["busy"], leaves["idle_s"]) == ("a", True, None)
    assert both["answers_s"] == pytest.approx(3.14, abs=0.01)
    assert both["answers_s"] == round(both["answers_s"], 3)


def test_what_is_supposed_to_run_is_idle_and_says_nothing_of_now() -> None:
    world = machine()
    world.requests("a", 2, 100.0)
    world.requests("b", 2, 100.0)
    world.run(3.0)
    found = shown(world, running=["a", "b"])
    assert (found["answers_s"], found["eta_s"]) == (0.0, None)
    assert found["leaving"] == [
        {"model": "a", "action": "sleep", "frees": 6 * GIB, "busy": False, "idle_s": None}
    ]
    assert 0 < found["cost"] < 1
    larger = shown(world, capacities={"gpu0": 15 * GIB})
    assert ([each["model"] for each in larger["leaving"]], larger["eta_s"]) == (["a", "b"], None)
    assert shown(world, capacities={"gpu1": 20 * GIB})["device"] == "gpu1"
    assert shown(world, capacities={"gpu2": 20 * GIB})["left"]["gpu2"] == 10 * GIB
    assert shown(world, capacities={"gpu0": 4 * GIB})["answer"] == "never_fits"
    assert shown(world, running=["b"])["victims"] == []
    assert shown(world, running=["b"], capacities={"gpu0": 15 * GIB})["victims"] == ["b"]


@pytest.mark.parametrize(
    ("due", "shown"),
    [
        (None, None),
        (
            Due(AT_ONCE, DueRule.IDLE),
            {"rule": "idle", "due_ms": None, "hold_ms": 0.0, "turn_ms": 0.0, "reopened": False},
        ),
        (
            Due(12.5, DueRule.TURN, 1.25, 2.5),
            {"rule": "turn", "due_ms": 112_500, "hold_ms": 1250, "turn_ms": 2500,
             "reopened": False},
        ),
    ],
)  # fmt: skip
def test_the_rule_of_when_is_shown_in_unix_time(due: Due | None, shown: object) -> None:
    world = machine()
    record = replace(world.records[-1], due=due)
    assert when_document(record, 100.0) == shown


def test_the_memory_before_and_after_a_swap_is_what_models_held() -> None:
    world = machine()
    before = world.scheduler.occupancy()
    world.request("c", 1.0).after(10.0)
    first, second, ram = memory_document(before, world.scheduler.occupancy())
    assert first == {
        "device": "gpu0", "capacity_bytes": 16 * GIB, "reserve_bytes": 0, "others_bytes": 0,
        "before_bytes": 12 * GIB, "after_bytes": 16 * GIB,
    }  # fmt: skip
    assert (second["before_bytes"], second["after_bytes"]) == (0, 0)
    assert (ram["before_bytes"], ram["after_bytes"]) == (0, 2 * GIB)
