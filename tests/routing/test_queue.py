import pytest

from llmsnap.routing import messages as msg
from llmsnap.routing.residency import Groups, LoadKind
from llmsnap.routing.scheduler import Scheduler
from tests.parity import parity
from tests.routing.world import World, group


def test_a_request_waits_for_a_load_and_is_granted_at_once_after_it() -> None:
    world = World("a")
    asked = world.request("a")
    assert world.state("a") == "starting"
    assert asked.after(1.0).granted_at == 1.0
    assert world.request("a").waited_s == 0
    assert world.request("a", never_swap=True).in_flight
    assert world.refusal("nope").reason is msg.RefusalReason.UNKNOWN


def test_newcomers_are_refused_when_every_slot_is_taken_and_waiters_keep_their_place() -> None:
    world = World("a", a=msg.ModelRules("a", concurrency_limit=2))
    first, _, third = world.requests("a", 3)
    assert third.after(1.0).pending
    refused = world.refusal("a")
    assert (refused.reason, refused.retry_after_s) == (msg.RefusalReason.TOO_MANY, 1.0)
    assert "all 2 slots of a are taken" in refused.why
    world.finish(first)
    assert third.in_flight


@parity("Newer keys", "`globalConcurrencyLimit` limits the requests of all models together")
def test_all_models_together_serve_so_many_requests_and_the_oldest_waiter_is_next() -> None:
    world = World("a b", group("all", "a b", swap=False), concurrency_limit=2, slow="b")
    first, second, third = world.requests("a", 3)
    late = world.request("b").after(1.0)
    assert (first.in_flight, second.in_flight, third.pending) == (True, True, True)
    assert world.after(700.0).state("b") == "ready"
    assert late.pending
    refused = world.refusal("b")
    assert (refused.reason, refused.retry_after_s) == (msg.RefusalReason.TOO_MANY, 1.0)
    assert "all 2 slots of all models are taken" in refused.why
    world.finish(first)
    assert (third.in_flight, late.pending) == (True, True)
    world.finish(second)
    assert late.in_flight
    world.finish(third)
    assert world.request("a").in_flight


def test_a_full_queue_refuses_with_the_time_a_load_takes() -> None:
    world = World("a", a=msg.ModelRules("a", queue_limit=2))
    world.requests("a", 2)
    world.run(0.25)
    refused = world.refusal("a")
    assert refused.reason is msg.RefusalReason.TOO_MANY
    assert "2 requests wait for a already (queueLimit)" in refused.why
    assert refused.retry_after_s == 4.75  # nothing measured yet: 5 s, of which some has passed


def test_a_client_that_leaves_is_gone_at_once_and_leaves_nothing_behind() -> None:
    world = World("a b")
    asked, other = world.requests("a", 2)
    world.leave(asked)
    assert asked.after(1.0).granted_at is None
    assert other.in_flight
    for _ in range(2):
        world.leave(other)
    for left in world.requests("b", 5):
        world.leave(left)
    state = world.scheduler._state
    assert not state.tickets
    assert not state.awaited
    assert len(state.timers) == 0
    assert world.view("a").in_flight == 0


@pytest.mark.parametrize("timeout_s", [3660.0, 0.0])
def test_the_queue_deadline_says_who_was_in_the_way(timeout_s: float) -> None:
    world = World("a b", queue_timeout_s=timeout_s, max_hold_s=10_000.0)
    world.request("a").after(1.0)
    asked = world.request("b").after(3660.0)
    if not timeout_s:
        assert asked.pending
        return
    assert asked.refused
    assert asked.refused_at == 3661.0
    assert asked.refused.reason is msg.RefusalReason.QUEUE_TIMEOUT
    assert asked.refused.why == "a is serving 1 request for 61 min"
    assert asked.refused.waited_s == 3660.0
    assert asked.refused.retry_after_s


def test_a_request_may_shorten_its_wait_but_not_extend_it() -> None:
    world = World("a", queue_timeout_s=20.0, slow="a")
    assert world.refusal("a", max_wait_s=0.0).reason is msg.RefusalReason.QUEUE_TIMEOUT
    assert not world.started, "one that does not wait starts nothing"
    hasty, patient = (world.request("a", max_wait_s=seconds) for seconds in (10.0, 30.0))
    world.run(60.0)
    assert (hasty.refused_at, patient.refused_at) == (10.0, 20.0)
    assert hasty.refused
    assert "a has been loading for 10 s" in hasty.refused.why


@pytest.mark.parametrize("load_s", [0.0, 0.5])
def test_never_swap_is_told_the_state_and_when_to_come_back(load_s: float) -> None:
    world = World("a")
    if load_s:
        world.request("a").after(load_s)
    refused = world.refusal("a", never_swap=True)
    assert refused.reason is msg.RefusalReason.NOT_READY
    assert refused.state == ("starting" if load_s else "stopped")
    assert refused.retry_after_s == 5.0 - load_s


def test_one_failure_is_forgiven_the_second_is_remembered() -> None:
    world = World("a")
    world.models["a"].failures = 3
    for retry_after_s in (None, 1.0):
        asked = world.request("a")
        assert asked.after(1.0).refused
        assert (asked.refused.reason, asked.refused.retry_after_s) == (
            msg.RefusalReason.FAILED,
            retry_after_s,
        )
    world.run(0.25)
    refused = world.refusal("a")
    assert refused.reason is msg.RefusalReason.FAILED
    assert str(refused.error) == "exited with code 1"
    assert refused.retry_after_s == 0.75
    world.run(0.75)
    world.request("a")
    assert world.started == ["a"] * 3


def test_a_model_that_evicts_others_backs_off_for_longer() -> None:
    world = World("a b", group("g", "a b"))
    world.serve("a")
    world.models["b"].failures = 99
    waits = []
    for _ in range(12):
        world.request("b").after(2.0)
        world.request("a", 0.0).after(2.0)
        waits.append(round(world.view("b").backoff_s))
        world.run(700.0)
    assert waits[-1] > 590


def serving(models: int = 1, ttl_s: float = 0.0) -> Scheduler:
    """A scheduler whose model m0 is ready and whose other models wait for each other."""
    names = [f"m{number}" for number in range(models)]
    rules = tuple(msg.ModelRules(name, ttl_s=ttl_s) for name in names)
    groups = [group("own", "m0", persistent=True, exclusive=False)]
    scheduler = Scheduler()
    plan = Groups([*groups, group("rest", " ".join(names[1:]))])
    scheduler.handle(msg.ConfigChanged(rules, plan, msg.SchedulerOptions()), 0.0)
    effects = scheduler.handle(msg.RequestArrived(0, "m0"), 0.0)
    work = next(effect.work for effect in effects if isinstance(effect, msg.StartSwap))
    scheduler.handle(msg.LoadDone(work, "m0", LoadKind.START, 1.0), 1.0)
    for number, name in enumerate(names[1:]):
        scheduler.handle(msg.RequestArrived(1000 + number, name), 1.0)
    return scheduler


def test_a_grant_is_the_only_effect_on_the_hot_path() -> None:
    scheduler = serving()
    assert scheduler.handle(msg.RequestArrived(1, "m0"), 2.0) == [msg.Grant(1, "m0")]
    assert scheduler.handle(msg.LeaseReturned(1, "m0"), 3.0) == []


def test_the_hot_path_looks_at_no_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = serving(models=50, ttl_s=60.0)
    scheduler.handle(msg.LeaseReturned(0, "m0"), 2.0)

    def never() -> None:
        raise AssertionError("decided on the hot path")

    monkeypatch.setattr(scheduler, "_settle", never)
    for ticket in range(1, 20):
        scheduler.handle(msg.RequestArrived(ticket, "m0"), 3.0)
        scheduler.handle(msg.LeaseReturned(ticket, "m0"), 4.0)


def test_the_timer_is_set_only_when_it_changes() -> None:
    scheduler = serving(ttl_s=60.0)  # ready at 1: the clock is looked at again at 61
    for ticket in range(5):
        scheduler.handle(msg.RequestArrived(ticket, "m0"), 20.0)
        assert scheduler.handle(msg.LeaseReturned(ticket, "m0"), 20.0) == []
    assert scheduler.handle(msg.Tick(), 30.0) == [msg.WakeMeAt(61.0)], "it came too early"
    assert scheduler.handle(msg.Tick(), 61.0) == [msg.WakeMeAt(80.0)]
