import pytest

from llmsnap.errors import in_full
from llmsnap.routing.explain import error_of
from llmsnap.routing.memory import Memory
from llmsnap.routing.messages import Outcome, RefusalReason
from llmsnap.routing.residency import ALONE, Blocked, Group, Groups, Plan, PlannedSwap
from llmsnap.routing.swaps import MIN_RECHECK_S
from tests.routing.facts import gpu, need
from tests.routing.world import World, evicts, group

RUNNING = frozenset("abcdefgx")

DEFAULT = group("(default)", "a b", swap=True, exclusive=True)
LOOSE = group("loose", "c d", swap=False, exclusive=False)
SWAPS = group("swaps", "e f", swap=True, exclusive=False)
KEPT = group("kept", "g", swap=False, exclusive=False, persistent=True)
GROUPS = Groups([DEFAULT, LOOSE, SWAPS, KEPT])


def plan(target: str, running: object) -> Plan:
    found = GROUPS.plan(target, list(running), {})  # type: ignore[call-overload]
    assert isinstance(found, Plan)
    return found


def swap(target: str, *victims: str) -> PlannedSwap:
    return PlannedSwap(target, Plan(victims))


@pytest.mark.parametrize(
    ("target", "leaving"),
    [
        ("a", "bcdefx"),  # exclusive: all but itself and the persistent group
        ("b", "acdefx"),
        ("e", "f"),  # swaps inside its group only
        ("g", ""),
        ("x", ""),  # in no group: disturbs no other
    ],
)
def test_who_leaves(target: str, leaving: str) -> None:
    assert plan(target, RUNNING).victims == tuple(leaving)
    assert plan(target, target) == plan(target, "") == ALONE
    found = plan(target, leaving)
    assert found.victims == tuple(leaving)
    assert not found.how  # each leaves in its usual way
    assert (found.cost, found.answers_s) == (0.0, 0.0), "groups weigh nothing"
    if target == "a":
        assert found.why == "a is in group (default)"


@pytest.mark.parametrize(
    ("group_of_target", "group_of_other", "leaves"),
    [
        (group("t", "t m", swap=True), None, True),
        (group("t", "t", exclusive=True), group("o", "m"), True),
        (group("t", "t", exclusive=True), group("o", "m", persistent=True), False),
        (group("t", "t", exclusive=False), group("o", "m", exclusive=True), False),
        (group("t", "t", exclusive=True, persistent=True), group("o", "m"), True),
        (group("t", "t m", swap=False, exclusive=True), None, False),
        # A group takes the room of those that share a launcher with it.
        (group("t", "t", places="ray"), group("o", "m"), False),
        (group("t", "t", places="local ray"), group("o", "m", places="slurm ray"), True),
        (group("t", "t m", places="local ray"), None, True),
    ],
)
def test_one_other(group_of_target: Group, group_of_other: Group | None, leaves: bool) -> None:
    groups = [group_of_target] + ([group_of_other] if group_of_other else [])
    assert evicts(Groups(groups), "t", "m") is leaves


@pytest.mark.parametrize(
    ("added", "models", "admitted"),
    [
        ("", "a", True),
        ("c", "c", False),  # the same model
        ("a", "c", False),  # would be evicted by it
        ("c", "a", False),  # would evict it
        ("a", "g", True),  # persistent, and evicts no other
        ("ec", "g", True),
        ("x", "a", False),
    ],
)
def test_swaps_exclude_each_other_when_one_would_touch_the_other(added, models, admitted) -> None:
    swaps = GROUPS.swap_set()
    if added:
        swaps.add(swap(*added))
        assert GROUPS.compatible(swap(*added), swap(*models)) is admitted
    assert swaps.admits(swap(*models)) is admitted


@pytest.mark.parametrize(
    ("added", "target", "blocked"),
    [("a", "b", True), ("a", "c", False), ("c", "d", False), ("e", "f", True), ("x", "x", False)],
)
def test_a_set_blocks_the_other_models_of_its_swap_groups(added, target, blocked) -> None:
    swaps = GROUPS.swap_set()
    swaps.add(swap(added))
    assert swaps.blocks(target) is blocked
    if blocked:
        assert not swaps.admits(PlannedSwap(target, plan(target, RUNNING)))


def test_a_model_that_never_fits_is_refused_at_once_and_nothing_leaves_for_it() -> None:
    world = World("a huge", residency=Memory([gpu(16)], [need("a", 6), need("huge", 20)]))
    world.serve("a")
    refused = world.refusal("huge")
    assert (refused.reason, refused.retry_after_s) == (RefusalReason.NEVER_FITS, None)
    why = "huge does not fit: it needs 20.0 GiB on gpu0; gpu0 has 16.0 GiB"
    assert in_full(error_of(refused)) == why
    assert world.outcome(world.load("huge")) is Outcome.FAILED
    world.preload("huge")
    assert world.preloads[-1].outcome is Outcome.FAILED
    assert world.state("a") == "ready"


CROWDED = "a needs 6.0 GiB on gpu0; other programs hold 10.0 GiB of gpu0 (game (pid 7))"


def test_a_model_whose_room_others_hold_waits_and_says_why() -> None:
    world = World("a", residency=Memory([gpu(14, others=10)], [need("a", 6)]))
    asked = world.request("a")
    assert (world.view("a").why, world.started) == (CROWDED, [])
    assert world.view("a").eta_s == 10.0  # asked again in 5 s, then a load of 5 s
    assert world.wake_at == 5.0
    assert world.preview("a")["answer"] == "blocked"
    world.run(20.0)
    world.refigure(Memory([gpu(14)], [need("a", 6)]))
    assert asked.after(1.0).in_flight


def test_a_blocked_request_is_refused_at_its_deadline_with_the_reason() -> None:
    crowded = Memory([gpu(14, others=10)], [need("a", 6)])
    world = World("a", residency=crowded, queue_timeout_s=60.0)
    asked, load = world.request("a"), world.load("a")
    hasty = world.request("a", max_wait_s=7.0)
    assert asked.after(60.0).refused
    assert (asked.refused_at, hasty.refused_at) == (60.0, 7.0)
    assert asked.reason is hasty.reason is RefusalReason.QUEUE_TIMEOUT
    assert asked.refused.why == CROWDED
    assert world.outcome(load) is Outcome.QUEUE_TIMEOUT
    assert world.next_at() is None


class Impatient(Groups):
    def plan(self, *_: object, **__: object) -> Blocked:  # type: ignore[override]
        return Blocked("no room", 0.0)


def test_a_residency_is_not_asked_again_without_a_pause() -> None:
    world = World("a", residency=Impatient())
    world.request("a")
    assert world.wake_at == MIN_RECHECK_S
