import pytest

from llmsnap.routing.plan import Footprint, Group, Plan
from tests.routing.world import group

RUNNING = frozenset("abcdefgx")

DEFAULT = group("(default)", "a b", swap=True, exclusive=True)
LOOSE = group("loose", "c d", swap=False, exclusive=False)
SWAPS = group("swaps", "e f", swap=True, exclusive=False)
KEPT = group("kept", "g", swap=False, exclusive=False, persistent=True)
PLAN = Plan([DEFAULT, LOOSE, SWAPS, KEPT])


@pytest.mark.parametrize(
    ("target", "leaving"),
    [
        ("a", "bcdefx"),  # exclusive: all but itself and the persistent group
        ("b", "acdefx"),
        ("c", ""),  # neither swaps nor is exclusive
        ("e", "f"),  # swaps inside its group only
        ("g", ""),
        ("x", ""),  # in no group: disturbs nobody
    ],
)
def test_who_leaves(target: str, leaving: str) -> None:
    assert PLAN.evicted_by(target, RUNNING) == frozenset(leaving)


@pytest.mark.parametrize(
    ("group_of_target", "group_of_other", "leaves"),
    [
        (group("t", "t m", swap=True), None, True),
        (group("t", "t m", swap=False), None, False),
        (group("t", "t", exclusive=True), group("o", "m"), True),
        (group("t", "t", exclusive=True), group("o", "m", persistent=True), False),
        (group("t", "t", exclusive=False), group("o", "m", exclusive=True), False),
        (group("t", "t", exclusive=True, persistent=True), group("o", "m"), True),
        (group("t", "t m", swap=True, persistent=True), None, True),
        (group("t", "t m", swap=False, exclusive=True), None, False),
    ],
)
def test_one_other(group_of_target: Group, group_of_other: Group | None, leaves: bool) -> None:
    groups = [group_of_target] + ([group_of_other] if group_of_other else [])
    assert Plan(groups).evicts("t", "m") is leaves


def test_a_model_never_evicts_itself() -> None:
    assert not PLAN.evicts("a", "a")
    assert "a" not in PLAN.evicted_by("a", {"a"})


def test_only_running_models_are_considered() -> None:
    assert PLAN.evicted_by("a", {"b"}) == {"b"}
    assert PLAN.evicted_by("a", ()) == frozenset()


def test_excluding_counts_either_way_round() -> None:
    assert not PLAN.evicts("c", "a")
    assert PLAN.excludes("c", "a")
    assert not PLAN.excludes("c", "e")


@pytest.mark.parametrize(
    ("covered", "models", "clash"),
    [
        ("", "a", False),
        ("c", "c", True),  # the same model
        ("c", "d", False),
        ("a", "c", True),  # would be evicted by it
        ("c", "a", True),  # would evict it
        ("a", "g", False),  # persistent, and evicts nobody
        ("e", "f", True),
        ("c e", "g", False),
        ("x", "a", True),
        ("x", "c", False),
    ],
)
def test_swaps_clash_when_one_would_touch_the_other(covered: str, models: str, clash: bool) -> None:
    footprint = Footprint()
    PLAN.cover(footprint, covered.split())
    assert PLAN.clashes(footprint, models.split()) is clash


def test_plans_of_the_same_groups_are_equal() -> None:
    assert Plan([DEFAULT]) == Plan([DEFAULT])
    assert Plan([DEFAULT]) != Plan([LOOSE])
