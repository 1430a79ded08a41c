import pytest

from llmsnap.config import loads
from llmsnap.routing import messages as msg
from llmsnap.routing.residency import Groups
from tests.routing.world import World, evicts, gate_shut, group

APART, TOGETHER = (Groups([group("renamed", "a b", swap=swap)]) for swap in (True, False))


def remove(world: World, model_id: str) -> None:
    del world.rules[model_id]
    world.configure()


# --- reload --------------------------------------------------------------------------------------


CONFIG = """
queueTimeout: 60
models:
  a: {cmd: serve a, proxy: "http://localhost:1", ttl: 30, concurrencyLimit: 3, queueLimit: 7}
  b:
    cmd: serve b
    proxy: http://localhost:2
    sleepAfter: 5
    sleepMode: enable
    sleepEndpoints: [{endpoint: /sleep}]
    wakeEndpoints: [{endpoint: /wake}]
groups:
  both: {swap: false, exclusive: false, persistent: true, members: [a, b]}
routing:
  scheduler: {use: fifo, settings: {fair: {maxHold: 9}, fifo: {priority: {b: 4}}}}
"""


def test_a_configuration_becomes_rules_groups_and_options() -> None:
    change = msg.change_of(loads(CONFIG), frozenset({"a"}))
    assert change.rules == (
        msg.ModelRules("a", concurrency_limit=3, queue_limit=7, ttl_s=30),
        msg.ModelRules("b", sleep_after_s=5, can_sleep=True, priority=4),
    )
    assert not evicts(change.residency, "a", "b")
    assert change.options == msg.SchedulerOptions("fifo", max_hold_s=9, queue_timeout_s=60)
    assert change.restart == frozenset({"a"})


def test_nothing_happens_to_unchanged_models() -> None:
    world = World("a b")
    stream, waiting = world.occupy("a"), world.request("b")
    before = len(world.effects)
    for _ in range(20):
        world.configure()
    assert len(world.effects) == before
    world.finish(stream)
    assert waiting.after(5.0).in_flight


def test_new_limits_apply_to_the_living_process() -> None:
    world = World("a", a=msg.ModelRules("a", concurrency_limit=1))
    _, second, third = world.requests("a", 3)
    world.run(1.0)
    world.rules["a"] = msg.ModelRules("a", concurrency_limit=2)
    world.configure()
    assert second.in_flight
    world.rules["a"] = msg.ModelRules("a", concurrency_limit=1)
    world.configure()
    world.finish(second)
    assert third.pending


def test_a_new_ttl_applies_to_a_model_that_idles_already() -> None:
    world = World("a")
    world.finish(world.occupy("a"))
    world.run(100.0)
    world.rules["a"] = msg.ModelRules("a", ttl_s=110.0)
    world.configure()
    assert world.after(10.0).state("a") == "stopping"
    assert world.after(1.0).state("a") == "stopped"


@pytest.mark.parametrize("how", ["restarted", "removed and added again"])
def test_a_restarted_model_drains_without_limit_and_returns_with_the_next_request(how) -> None:
    world = World("a")
    stream = world.occupy("a")
    if how == "restarted":
        world.configure(restart=["a"])
    else:
        remove(world, "a")
        world.rules["a"] = msg.ModelRules("a")
        world.configure()
    waiting = world.request("a")
    assert waiting.after(3000.0).pending
    world.finish(stream)
    assert waiting.after(1.5).in_flight
    assert world.started == ["a", "a"]
    assert not world.cuts
    assert not world.retired


def test_a_restarted_model_that_loads_is_loaded_anew_for_its_waiters() -> None:
    world = World("a", slow="a")
    waiting = world.request("a").after(10.0)
    world.models["a"].load_s = 1.0
    world.configure(restart=["a"])
    assert waiting.after(1.5).in_flight
    assert world.started == ["a", "a"]


@pytest.mark.parametrize("change", ["restart", "changed", "files"])
def test_a_change_of_a_model_or_its_files_forgets_failures(change: str) -> None:
    world = World("a")
    world.fail("a")
    assert world.request("a").refused
    if change == "files":
        world.tell(msg.FilesChanged("a"))
        world.tell(msg.FilesChanged("gone"))
    else:
        world.configure(**{change: ["a", "gone"]})
    world.occupy("a")


def test_a_sleeping_model_is_stopped_by_a_restart() -> None:
    world = World("a", a=msg.ModelRules("a", can_sleep=True))
    world.serve("a")
    world.sleep("a")
    world.run(1.0)
    world.configure(restart=["a"])
    assert world.after(1.0).state("a") == "stopped"


def test_models_come_and_go_and_one_that_goes_refuses_its_waiters_and_drains() -> None:
    world = World("a", group("g", "a b"))
    world.rules["b"] = msg.ModelRules("b")
    world.configure()
    stream, waiting = world.occupy("a"), world.request("b")
    remove(world, "a")
    assert world.request("a").refused
    remove(world, "b")
    assert waiting.reason is msg.RefusalReason.UNKNOWN
    assert world.retired == ["b"]
    world.run(100.0)
    world.finish(stream)
    assert world.after(1.0).retired == ["b", "a"]
    assert not world.scheduler._state.models


def test_a_removed_model_that_loads_is_aborted() -> None:
    world = World("a", slow="a")
    asked = world.request("a")
    remove(world, "a")
    assert asked.after(0.5).refused
    assert world.retired == ["a"]


def test_models_that_may_no_longer_be_together_part_at_the_next_swap() -> None:
    world = World("a b", group("g", "a b", swap=False))
    world.serve("a")
    world.occupy("b")
    world.residency = APART
    world.configure()
    assert world.after(100.0).state("a") == world.state("b") == "ready", "a reload evicts none"
    world.crash("b")
    world.request("b")
    assert world.after(0.1).state("a") == "stopping"


@pytest.mark.parametrize("groups", [APART, TOGETHER])
def test_a_reload_opens_only_gates_that_need_not_be_shut_any_more(groups: Groups) -> None:
    world, _, asked, held = gate_shut()
    world.residency = groups
    world.configure()
    assert held.in_flight is (groups is TOGETHER)
    assert asked.after(1.0).in_flight is (groups is TOGETHER)


def test_a_reload_ends_the_list_of_preloads_but_not_the_load() -> None:
    world = World("a b")
    world.preload("a", "b")
    world.configure()
    assert [p.outcome for p in world.preloads] == [msg.Outcome.SUPERSEDED] * 2
    world.preload("a")
    assert world.after(1.0).preloads[2:] == [msg.PreloadEnded("a", msg.Outcome.OK)]
    assert world.started == ["a"]


# --- shutdown ------------------------------------------------------------------------------------


def test_shutdown_refuses_waiters_and_lets_requests_in_flight_end() -> None:
    world = World("a b")
    stream, waiting = world.occupy("a"), world.request("b")
    load = world.load("b")
    world.shutdown(10.0)
    assert waiting.reason is msg.RefusalReason.SHUTDOWN
    assert world.outcome(load) is msg.Outcome.SHUTDOWN
    assert world.refusal("a").reason is msg.RefusalReason.SHUTDOWN
    world.run(9.0)
    world.finish(stream)
    assert world.after(0.5).shutdown_done
    assert not world.cuts
    assert world.next_at() is None, "no timer is left"


@pytest.mark.parametrize("again", [False, True])
def test_shutdown_cuts_what_outlasts_the_drain_and_a_second_one_at_once(again: bool) -> None:
    world = World("a")
    stream = world.occupy("a")
    world.shutdown(10.0)
    if again:
        world.shutdown(0.0)
    assert stream.after(0.0 if again else 10.0).returned
    assert world.cuts[0].reason is msg.CutReason.SHUTDOWN
    assert world.after(0.5).shutdown_done


def test_shutdown_stops_all_models_side_by_side() -> None:
    world = World(
        "a b c", group("g", "a b c", swap=False), slow="c", b=msg.ModelRules("b", can_sleep=True)
    )
    world.serve("a", "b")
    sleep = world.sleep("b")
    world.request("c")
    assert world.after(1.0).outcome(sleep) is msg.Outcome.OK
    world.shutdown(10.0)
    assert world.after(0.5).shutdown_done


def test_shutdown_of_nothing_is_done_at_once() -> None:
    world = World("a")
    world.shutdown()
    assert world.shutdown_done
    commands = world.sleep("a"), world.load("a"), world.unload("a")
    shut = msg.Outcome.SHUTDOWN
    assert [world.outcome(each) for each in commands] == [shut, shut, msg.Outcome.OK]


def test_shutdown_does_not_wait_for_what_cannot_be_stopped() -> None:
    world = World("a")
    world.serve("a")
    world.models["a"].stop_fails = True
    world.shutdown()
    assert world.after(1.0).shutdown_done


def test_shutdown_during_an_eviction_stops_who_was_put_to_sleep() -> None:
    world = World("a b", a=msg.ModelRules("a", can_sleep=True))
    world.serve("a")
    world.request("b")
    sleep = world.sleep("a")
    world.shutdown()
    assert world.outcome(sleep) is msg.Outcome.SHUTDOWN
    assert world.after(1.0).shutdown_done
