import pytest

from llmsnap.models import State
from llmsnap.routing.entries import ModelState
from llmsnap.routing.messages import Due, DueRule, ModelRules, SchedulerOptions
from llmsnap.routing.policies import AT_ONCE, NEVER, Fair, Fifo, Policy
from llmsnap.routing.residency import Action
from tests.routing.facts import ready, waiting
from tests.routing.world import World


@pytest.mark.parametrize("policy", [Fair(SchedulerOptions()), Fifo(SchedulerOptions())])
def test_what_every_policy_keeps_to(policy: Policy) -> None:
    target = waiting("t", 10.0)
    assert policy.due(target, []) == Due(AT_ONCE, DueRule.FREE)
    assert policy.due(target, [ready("m", 0.0)]) == Due(AT_ONCE, DueRule.IDLE)
    assert policy.due(target, [ready("m", 0.0, in_flight=1)]).at > 10.0
    assert policy.due(waiting("t"), [ready("m", 0.0, in_flight=1)]).at == NEVER
    assert policy.rank_changes_at(target, 1e9) == NEVER
    assert policy.rank(target, 50.0) < policy.rank(waiting("u", 20.0), 50.0)


FAIR = Fair(SchedulerOptions(max_hold_s=120.0))


def measured(target: ModelState, load_s: float) -> ModelState:
    target.starts.append(load_s)
    return target


@pytest.mark.parametrize(
    ("load_s", "waits_since", "ready_at", "due"),
    [
        (10.0, 100.0, 0.0, Due(110.0, DueRule.HOLD, 10.0, 20.0)),  # the waiter, by S
        (10.0, 100.0, 95.0, Due(115.0, DueRule.TURN, 10.0, 20.0)),  # the turn is, by 2 S
        (100.0, 100.0, 95.0, Due(215.0, DueRule.TURN, 100.0, 120.0)),  # at most maxHold
        (500.0, 100.0, 0.0, Due(220.0, DueRule.HOLD, 120.0, 120.0)),
    ],
)
def test_when_the_gate_of_one_busy_victim_may_shut(load_s, waits_since, ready_at, due) -> None:
    target = measured(waiting("t", waits_since), load_s)
    assert FAIR.due(target, [ready("m", ready_at, in_flight=1)]) == due


def test_a_swap_is_estimated_by_what_was_measured_of_target_and_slowest_victim() -> None:
    target, idle, busy = waiting("t", 100.0), ready("m", 99.0), ready("n", 0.0, in_flight=1)
    assert FAIR.due(target, [idle, busy]).at == 105.0  # not measured; the idle one had its turn
    measured(target, 10.0)
    idle.durations(Action.STOP).append(1.0)
    busy.durations(Action.STOP).append(7.0)
    assert FAIR.due(target, [idle, busy]).at == 117.0
    target.state = State.ASLEEP
    target.wakes.append(2.0)
    assert FAIR.due(target, [busy]).at == 109.0
    busy.rules = ModelRules("n", can_sleep=True)
    busy.durations(Action.SLEEP).append(1.0)
    assert FAIR.due(target, [busy]).at == 103.0


@pytest.mark.parametrize(
    ("models", "fair", "fifo"),
    [
        ([waiting("a", 20.0), waiting("b", 10.0)], "ba", "ba"),
        ([waiting("a", 10.0), waiting("b", 20.0, priority=1)], "ba", "ba"),
        ([waiting("a", 10.0, 30.0), waiting("b", 20.0)], "ab", "ab"),  # the oldest counts
        ([waiting("a", 10.0, turn_ended=30.0), waiting("b", 20.0)], "ba", "ab"),  # a had its turn
        ([waiting("a", 20.0, turn_ended=5.0), waiting("b", 20.0)], "ba", "ab"),  # lately
        ([waiting("a", -500.0), waiting("b", -400.0, priority=9)], "ab", "ba"),  # beyond maxHold
        ([waiting("a", -400.0), waiting("b", 10.0, priority=9)], "ab", "ba"),
    ],
)
def test_the_order_among_waiting_models(models: list[ModelState], fair: str, fifo: str) -> None:
    for policy, order in ((FAIR, fair), (Fifo(SchedulerOptions()), fifo)):
        ranked = sorted(models, key=lambda model: policy.rank(model, 50.0))
        assert "".join(model.model_id for model in ranked) == order


def test_the_rank_changes_once_by_itself() -> None:
    model = waiting("a", 10.0)
    assert FAIR.rank_changes_at(model, 50.0) == 130.0
    assert FAIR.rank_changes_at(model, 130.0) == NEVER
    assert FAIR.rank(model, 129.9) > FAIR.rank(waiting("b", 9.0), 130.0)


def test_a_ready_model_is_served_whatever_waits() -> None:
    world = World("a b", policy="fifo", queue_timeout_s=0.0)
    first = world.request("a").after(1.0)
    asked = world.request("b")
    for _ in range(100):
        second = world.request("a")
        assert second.after(100.0).in_flight
        world.finish(first)
        first = second
    assert asked.pending
    world.finish(first)
    assert asked.after(1.5).in_flight


def test_requests_for_the_same_model_share_its_turn() -> None:
    world = World("a b", policy="fifo")
    for name in "abab":
        world.request(name, 1.0)
    assert world.after(60.0).started == ["a", "b"]
