import pytest

from llmsnap.routing import messages as msg
from llmsnap.routing.messages import Grant, ModelRules, SchedulerOptions, StartSwap, WakeMeAt
from llmsnap.routing.residency import Groups, LoadKind
from llmsnap.routing.scheduler import Scheduler
from tests.routing.world import group


def serving(models: int = 1, ttl_s: float = 0.0) -> Scheduler:
    """A scheduler whose model m0 is ready and whose other models wait for each other."""
    names = [f"m{number}" for number in range(models)]
    rules = tuple(ModelRules(name, ttl_s=ttl_s) for name in names)
    groups = [group("own", "m0", persistent=True, exclusive=False)]
    scheduler = Scheduler()
    plan = Groups([*groups, group("rest", " ".join(names[1:]))])
    scheduler.handle(msg.ConfigChanged(rules, plan, SchedulerOptions()), 0.0)
    effects = scheduler.handle(msg.RequestArrived(0, "m0"), 0.0)
    work = next(effect.work for effect in effects if isinstance(effect, StartSwap))
    scheduler.handle(msg.LoadDone(work, "m0", LoadKind.START, 1.0), 1.0)
    for number, name in enumerate(names[1:]):
        scheduler.handle(msg.RequestArrived(1000 + number, name), 1.0)
    return scheduler


def test_a_grant_is_the_only_effect_on_the_hot_path() -> None:
    scheduler = serving()
    assert scheduler.handle(msg.RequestArrived(1, "m0"), 2.0) == [Grant(1, "m0")]
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
    assert scheduler.handle(msg.Tick(), 30.0) == [WakeMeAt(61.0)], "it came too early"
    assert scheduler.handle(msg.Tick(), 61.0) == [WakeMeAt(80.0)]
