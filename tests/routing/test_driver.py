from collections import defaultdict
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event

from llmsnap import errors
from llmsnap.config import DEFAULT_GROUP, Config, GroupConfig, ModelConfig
from llmsnap.models import State, Trigger
from llmsnap.routing import messages as msg
from llmsnap.routing.driver import ActiveSwap, Driver, Lease, Ticket
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.messages import StartSwap, SwapOutcome, change_of
from llmsnap.routing.pools import Pool, Pooled
from llmsnap.routing.residency import Groups, LoadKind
from llmsnap.routing.scheduler import Scheduler
from llmsnap.tasks import TaskGroup
from tests.fakes.process import FakeProcess

# --- leases ---------------------------------------------------------------------------------------


def test_a_cut_tells_why_and_wakes_the_holder() -> None:
    lease = Lease(7, "m", lambda _: None)
    lease.cut(errors.Draining("early"))
    assert str(lease.cut_error) == "early", "remembered for who begins to hold it later"
    cuts: list[object] = []
    lease.on_cut = lambda: cuts.append(lease.cut_error)
    error = errors.Draining("now")
    lease.cut(error)
    assert cuts == [error]


def test_a_ticket_wakes_who_waits_for_it_with_a_lease_or_why_there_is_none() -> None:
    ends: list[object] = []
    ticket, refused = (Ticket(7, "m", ends.append) for _ in range(2))
    lease = Lease(7, "m", ends.append)
    with pytest.raises(RuntimeError, match="waiting> is not settled"):
        ticket.take()
    waiting = TaskGroup("test").spawn("wait", ticket.wait)
    gevent.idle()
    assert not ticket.wait(0.001)
    ticket.settle(lease)
    waiting.join()
    assert waiting.value is True
    assert ticket.take() is lease
    ticket.cancel()
    assert ends == [], "the lease was taken"
    refused.settle(errors.Draining("no"))
    with pytest.raises(errors.Draining, match="no"):
        refused.take()


def test_a_load_that_was_given_up_does_not_begin() -> None:
    swap = ActiveSwap(StartSwap(7, "a", LoadKind.START))
    swap.aborted = True
    with pytest.raises(errors.LoadAborted, match="given up"):
        swap.begin_loading(1.0)
    assert swap.loading_since is None


def test_a_ticket_without_a_lease_knows_the_swap_it_waited_for() -> None:
    swap = ActiveSwap(StartSwap(7, "a", LoadKind.START))
    evicting, loading, other = (Ticket(1, name, lambda _: None) for name in "aab")
    swap.note_on(evicting, 5.0)
    swap.begin_loading(5.0)
    swap.note_on(loading, 8.0)
    swap.note_on(other, 8.0)
    found = [(each.swap_id, each.load_s) for each in (evicting, loading, other)]
    assert found == [(7, 0.0), (7, 3.0), (None, 0.0)]


# --- driver ---------------------------------------------------------------------------------------

MODELS = {
    "a": ModelConfig("a", "serve a"),
    "b": ModelConfig("b", "serve b", concurrency_limit=1),
    "s": ModelConfig("s", "serve s", can_sleep=True),
}


class Observer:
    """Keeps the argument of each call, by the name of the method."""

    def __init__(self) -> None:
        self.came = Event()
        self.heard: dict[str, list] = defaultdict(list)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def hear(event: object, *_: object) -> None:
            self.heard[name].append(event)
            self.came.set()

        return hear


def config(*ids: str, **changed: ModelConfig) -> Config:
    models = {name: MODELS[name] for name in ids or MODELS} | changed
    group = GroupConfig(DEFAULT_GROUP, members=tuple(models))
    return Config(models=models, groups={DEFAULT_GROUP: group})


QUICK = config(a=ModelConfig("a", "serve a", ttl_s=0.02))


class Bench:
    def __init__(self) -> None:
        self.processes = {name: FakeProcess(name) for name in MODELS}
        self.observer = Observer()
        self.driver = Driver(Scheduler(), self.processes.__getitem__, self.observer)
        self.driver.reconfigure(change_of(config()))
        self.tasks = TaskGroup("clients")
        self.swaps = self.observer.heard["on_swap_finished"]
        self.preloads = self.observer.heard["on_preload_ended"]

    def acquire(self, model_id: str, **wishes: object) -> Lease:
        ticket = self.driver.request(model_id, **wishes)
        assert ticket.wait(3)
        return ticket.take()

    def wait_for(self, fact: Callable[[], object]) -> None:
        while not fact():
            self.observer.came.clear()
            assert self.observer.came.wait(3)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for process in made.processes.values():
        process.may_stop.set()
        process.may_load.set()
    assert made.driver.shutdown(0, 3)
    made.driver.close()
    made.tasks.close()


def test_a_stopped_model_is_loaded_once_for_all_who_wait(bench: Bench) -> None:
    bench.processes["a"].may_load.clear()
    tickets = [bench.driver.request("a") for _ in range(3)]
    assert bench.processes["a"].loading.wait(3)
    assert not any(ticket.is_settled for ticket in tickets)
    assert [bench.driver.position(ticket) for ticket in tickets] == [1, 2, 3]
    bench.processes["a"].may_load.set()
    assert all(ticket.wait(3) for ticket in tickets)
    leases = [ticket.take() for ticket in tickets]
    assert bench.processes["a"].loads == 1
    assert {lease.swap_id for lease in leases} == {bench.swaps[0].record.swap_id}
    assert all(lease.load_s <= lease.waited_s for lease in leases)
    assert len(list(bench.driver.leases("a"))) == 3
    for lease in leases:
        lease.close()
        lease.close()
    assert not list(bench.driver.leases("a"))


def test_a_ready_model_is_granted_at_once(bench: Bench) -> None:
    bench.acquire("a").close()
    ticket = bench.driver.request("a")
    assert ticket.is_settled
    lease = ticket.take()
    assert (lease.waited_s, lease.load_s, lease.swap_id) == (0, 0, None)
    lease.close()


def test_another_model_swaps_it_out_when_it_is_idle(bench: Bench) -> None:
    bench.processes["a"].leave_steps = (("save", 1e-9),)
    steps = ("failed_wake", "failed_check", "restore")
    bench.processes["b"].load_steps = tuple((name, 1e-9) for name in steps)
    lease = bench.acquire("a")
    other = bench.driver.request("b")
    gevent.idle()
    assert not other.is_settled
    lease.close()
    assert other.wait(3)
    other.take().close()
    assert bench.processes["a"].state is State.STOPPED
    record = bench.swaps[-1].record
    assert (record.target, record.kind, record.outcome) == ("b", LoadKind.START, SwapOutcome.DONE)
    phases = [name for name, _ in record.phases if name not in ("wait", "drain")]
    assert phases == ["save", "evict", "failed_wake", "failed_check", "load", "restore"]


@pytest.mark.parametrize(
    ("how", "has_parts"), [("fail_check", False), ("fail_load", True), ("unload", True)]
)
def test_a_load_without_success_has_its_parts_too_unless_it_never_began(
    bench: Bench, how: str, has_parts: bool
) -> None:
    process = bench.processes["b"]
    process.load_steps = (("failed_wake", 1e-9),)
    if how == "unload":
        process.may_load.clear()
    else:
        setattr(process, how, errors.ChildExited("b: ended"))
    ticket = bench.driver.request("b")
    if how == "unload":
        assert process.loading.wait(3)
        bench.driver.unload("b")
    assert ticket.wait(3)
    phases = [name for name, _ in bench.swaps[0].record.phases]
    assert ("failed_wake" in phases) is has_parts


def test_a_failed_sleep_frees_the_room_all_the_same(bench: Bench) -> None:
    bench.acquire("s").close()
    bench.processes["s"].fail_sleep = errors.SleepFailed("s: it does not sleep")
    bench.acquire("a").close()
    assert bench.processes["s"].state is State.STOPPED


def test_who_waits_for_a_failed_load_gets_its_error(bench: Bench) -> None:
    bench.processes["a"].fail_load = errors.ChildExited("a: ended with exit code 3")
    tickets = [bench.driver.request("a") for _ in range(2)]
    for ticket in tickets:
        assert ticket.wait(3)
        with pytest.raises(errors.LlmsnapError, match="unable to make a ready: a: ended") as caught:
            ticket.take()
        assert caught.value.status == 502


def test_a_load_that_ran_out_of_memory_is_tried_twice_and_says_what_was_free(bench: Bench) -> None:
    needs = Need("a", (Share("gpu0", 8 * GIB),))
    bench.driver.reconfigure(msg.ResidencyChanged(Memory([Device("gpu0", 16 * GIB)], [needs])))
    bench.observer.on_out_of_memory = lambda _: True
    bench.processes["a"].fail_load = errors.OutOfMemory("a: out of memory")
    with pytest.raises(errors.LlmsnapError, match=r"8\.0 GiB on gpu0, where 16\.0 GiB was free"):
        bench.acquire("a")
    assert bench.processes["a"].loads == 2


def test_a_load_that_found_no_machine_is_tried_again_once_another_model_has_left(
    bench: Bench,
) -> None:
    pool = Pool("farm", (Need("a"), Need("b")))
    bench.driver.reconfigure(msg.ResidencyChanged(Pooled(Groups(), [pool])))
    bench.acquire("b").close()
    bench.processes["a"].fail_load = errors.NoCapacity("a: no machine of farm was free", 5.0)
    with pytest.raises(errors.LlmsnapError, match="no machine of farm was free") as caught:
        bench.acquire("a")
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    assert bench.processes["b"].state is State.STOPPED
    assert bench.processes["a"].loads == 2


def test_what_can_be_known_is_checked_before_anything_is_evicted(bench: Bench) -> None:
    bench.acquire("a").close()
    bench.processes["b"].fail_check = errors.StartFailed("b: command not found")
    with pytest.raises(errors.LlmsnapError, match="command not found"):
        bench.acquire("b")
    assert bench.processes["a"].state is State.READY
    assert bench.processes["b"].files_noted >= 1


def test_a_failing_model_whose_files_changed_is_started_at_once(bench: Bench) -> None:
    process = bench.processes["a"]
    process.fail_load = errors.ChildExited("a: ended with exit code 3")
    for _ in range(2):
        assert bench.driver.request("a").wait(3)
    assert process.files_noted == 2
    assert bench.driver.request("a").has_failed
    assert not bench.driver.recheck_files("a")
    assert bench.driver.request("a").has_failed
    process.fail_load, process.files_changed = None, True
    assert bench.driver.recheck_files("a")
    bench.acquire("a").close()


def test_files_are_noted_after_a_crash_too(bench: Bench) -> None:
    bench.acquire("b").close()
    process = bench.processes["b"]
    process.state = State.STOPPED
    bench.driver.crashed("b", State.READY, Trigger.EXITED)
    gevent.idle()
    assert process.files_noted == 1
    bench.driver.load("b", wait=False)
    bench.acquire("b").close()
    assert process.loads == 2


def test_a_client_that_leaves_is_forgotten_or_its_lease_returned(bench: Bench) -> None:
    bench.processes["a"].may_load.clear()
    ticket = bench.driver.request("a")
    ticket.cancel()
    ticket.cancel()
    with pytest.raises(errors.ClientGone):
        ticket.take()
    bench.processes["a"].may_load.set()
    bench.acquire("a").close()
    granted = bench.driver.request("a")
    granted.cancel()
    assert not list(bench.driver.leases("a"))


def test_who_waited_in_vain_knows_for_which_swap(bench: Bench) -> None:
    bench.processes["a"].may_load.clear()
    leaves, stays = bench.driver.request("a"), bench.driver.request("a")
    assert bench.processes["a"].loading.wait(3)
    under_way = bench.driver.swap_to("a")
    assert bench.driver.swap_to("b") is None
    leaves.cancel()
    bench.driver.unload(None)
    assert stays.wait(3)
    bench.processes["a"].fail_load = errors.ChildExited("a: ended with exit code 3")
    bench.processes["a"].may_load.set()
    fails = bench.driver.request("a")
    assert fails.wait(3)
    aborted, failed = (swap.record.swap_id for swap in bench.swaps)
    assert [each.swap_id for each in (leaves, stays, fails)] == [aborted, aborted, failed]
    assert under_way == aborted
    with pytest.raises(errors.LoadAborted, match="unloaded"):
        stays.take()
    assert leaves.load_s > 0
    refused_at_once = bench.driver.request("nobody")
    assert (refused_at_once.swap_id, refused_at_once.load_s) == (None, 0.0)


def test_limits_refuse_and_are_no_failures_of_the_model(bench: Bench) -> None:
    lease = bench.acquire("b")
    for name, wishes, error in (
        ("b", {}, errors.TooManyInFlight),
        ("nobody", {}, errors.UnknownModel),
        ("a", {"never_swap": True}, errors.NotReady),
    ):
        refused = bench.driver.request(name, **wishes)
        assert not refused.has_failed
        with pytest.raises(error):
            refused.take()
    lease.close()


def test_unload_cuts_and_answers_when_the_process_is_gone(bench: Bench) -> None:
    lease = bench.acquire("a")
    cut: list[object] = []
    lease.on_cut = lambda: cut.append(lease.cut_error)
    bench.processes["a"].may_stop.clear()
    unload = bench.tasks.spawn("unload", bench.driver.unload, "a")
    gevent.idle()
    assert isinstance(cut[0], errors.LoadAborted)
    assert not unload.ready()
    bench.processes["a"].may_stop.set()
    unload.join()
    assert unload.value is None
    assert bench.processes["a"].state is State.STOPPED
    lease.close()


def test_sleep_by_hand(bench: Bench) -> None:
    bench.driver.sleep("s")
    assert bench.processes["s"].state is State.STOPPED, "there is nothing to put to sleep"
    with pytest.raises(errors.SleepNotConfigured):
        bench.driver.sleep("a")
    bench.driver.load("s")
    bench.driver.sleep("s")
    assert bench.processes["s"].state is State.ASLEEP
    bench.driver.load("s")
    bench.processes["s"].fail_sleep = errors.SleepFailed("s: no")
    with pytest.raises(errors.SleepFailed):
        bench.driver.sleep("s")


def test_preloads_tell_how_they_ended(bench: Bench) -> None:
    bench.processes["b"].fail_load = errors.StartFailed("b: no")
    bench.driver.preload(("a", "b"))
    bench.wait_for(lambda: len(bench.preloads) == 2)
    found = [(p.model_id, p.outcome) for p in bench.preloads]
    assert found == [("a", msg.Outcome.OK), ("b", msg.Outcome.FAILED)]


def test_a_removed_model_is_stopped_and_retired(bench: Bench) -> None:
    lease = bench.acquire("a")
    bench.driver.reconfigure(change_of(config("b")))
    with pytest.raises(errors.UnknownModel):
        bench.driver.request("a").take()
    assert bench.processes["a"].state is State.READY, "it drains"
    lease.close()
    bench.wait_for(lambda: "a" in bench.observer.heard["on_retired"])
    assert bench.processes["a"].state is State.STOPPED


def test_shutdown_refuses_and_stops_all(bench: Bench) -> None:
    lease = bench.acquire("a")
    waiting = bench.driver.request("b")
    done = bench.tasks.spawn("shutdown", bench.driver.shutdown, 3, 3)
    gevent.idle()
    for ticket in (waiting, bench.driver.request("a")):
        assert ticket.wait(3)
        with pytest.raises(errors.Draining):
            ticket.take()
    assert not done.ready()
    lease.close()
    done.join()
    assert done.value is True
    assert bench.processes["a"].state is State.STOPPED


# --- leases that do not keep their model --------------------------------------------------------


def loose(bench: Bench, model_id: str) -> tuple[Lease, list[str]]:
    """A lease that was loosened, and in which state its model was whenever it was cut."""
    lease = bench.acquire(model_id)
    cuts: list[str] = []
    lease.on_cut = lambda: cuts.append(str(bench.processes[model_id].state))
    lease.loosen()
    lease.loosen()
    assert not list(bench.driver.leases(model_id))
    return lease, cuts


def test_a_loose_lease_holds_up_no_swap_and_ends_before_the_server_does(bench: Bench) -> None:
    lease, cuts = loose(bench, "a")
    ended, ended_cuts = loose(bench, "a")
    ended.close()
    bench.acquire("b").close()
    assert cuts == ["ready"]
    assert ended_cuts == []
    assert isinstance(lease.cut_error, errors.ModelLeft)
    lease.close()
    assert bench.processes["a"].state is State.STOPPED
    bench.acquire("a").close()
    assert cuts == ["ready"], "once"


def test_a_loose_lease_takes_no_slot(bench: Bench) -> None:
    lease, _ = loose(bench, "b")
    bench.acquire("b").close()
    lease.close()
    bench.acquire("b").close()


def test_a_loose_lease_outlasts_a_sleep_but_not_a_failed_one(bench: Bench) -> None:
    lease, cuts = loose(bench, "s")
    bench.acquire("a").close()
    assert bench.processes["s"].state is State.ASLEEP
    assert cuts == []
    bench.acquire("s").close()
    assert bench.swaps[-1].record.kind is LoadKind.WAKE
    bench.processes["s"].fail_sleep = errors.SleepFailed("s: it does not sleep")
    bench.processes["s"].may_stop.set()
    bench.driver.unload("s")
    assert cuts == ["ready"]
    lease.close()


def test_a_lease_of_an_idle_model_ends_with_the_next_request_or_when_it_leaves(
    bench: Bench,
) -> None:
    driver, cuts = bench.driver, []

    def rest() -> Lease:
        lease = driver.rest("s")
        assert lease is not None
        lease.on_cut = lambda: cuts.append(str(bench.processes["s"].state))
        return lease

    assert driver.rest("s") is None, "it is not loaded"
    request = bench.acquire("s")
    assert driver.rest("s") is None, "it is not idle"
    request.close()
    rest().close()
    request = bench.acquire("s")
    assert cuts == [], "it was given back"
    request.close()
    lease = rest()
    bench.acquire("s").close()
    assert cuts == ["ready"]
    lease.close()
    rest()
    driver.sleep("s")
    assert cuts == ["ready", "ready"]


@pytest.mark.parametrize("fault", ["", "it answered nothing"])
def test_a_suspected_model_is_asked_and_restarted_if_it_does_not_work(
    bench: Bench, fault: str
) -> None:
    bench.acquire("a").close()
    process = bench.processes["a"]
    process.fault = fault
    bench.driver.suspect("a")
    bench.acquire("a").close()
    assert process.checks == 1
    assert process.loads == (2 if fault else 1)
    assert len(bench.observer.heard["on_faulty"]) == (1 if fault else 0)


def test_a_model_that_must_not_sleep_is_stopped_instead(bench: Bench) -> None:
    bench.acquire("s").close()
    bench.driver.forbid_sleep("s")
    with pytest.raises(errors.SleepNotConfigured):
        bench.driver.sleep("s")
    bench.acquire("a").close()
    assert bench.processes["s"].state is State.STOPPED
    bench.driver.reconfigure(change_of(config(), sleepless=frozenset("s")))
    bench.acquire("s").close()
    bench.acquire("a").close()
    assert bench.processes["s"].state is State.STOPPED, "after a reload, too"


@pytest.mark.parametrize("end", ["unload", "shutdown", "remove", "ttl"])
def test_a_loose_lease_ends_with_its_model(bench: Bench, end: str) -> None:
    if end == "ttl":
        bench.driver.reconfigure(change_of(QUICK))
    lease, cuts = loose(bench, "a")
    match end:
        case "unload":
            bench.driver.unload("a", drain=True)
        case "shutdown":
            assert bench.driver.shutdown(3, 3)
        case "remove":
            bench.driver.reconfigure(change_of(config("b")))
    with gevent.Timeout(3):
        while bench.processes["a"].state is not State.STOPPED:
            gevent.sleep(0.001)
    assert cuts == ["ready"]
    lease.close()
