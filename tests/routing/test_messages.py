from typing import get_args

from llmsnap.config import loads
from llmsnap.routing.messages import (
    Event,
    Eviction,
    LeaseReturned,
    ModelRules,
    RequestArrived,
    SchedulerOptions,
    SwapOutcome,
    SwapRecord,
    change_of,
)
from llmsnap.routing.residency import Action, LoadKind
from llmsnap.routing.scheduler import Scheduler
from tests.routing.world import evicts

# --- swaps ----------------------------------------------------------------------------------------


def record(number: int, error: str = "") -> SwapRecord:
    return SwapRecord(
        swap_id=number,
        target="b",
        kind=LoadKind.WAKE,
        outcome=SwapOutcome.FAILED if error else SwapOutcome.DONE,
        evicted=(Eviction("a", Action.SLEEP),),
        reason="request",
        waits_s=(3.0, 2.5),
        phases=(("wait", 1.0), ("load", 2.0)),
        reopened=False,
        began_s=1.0,
        ended_s=4.0,
        error=error,
    )


def test_a_record_reads_as_one_line() -> None:
    assert str(record(7)) == (
        "swap 7: wake b for request, done; evicted a (sleep); 2 waited; wait 1.00 s, load 2.00 s"
    )
    assert str(record(8, "exited with code 1")).endswith("; exited with code 1")


# --- messages -------------------------------------------------------------------------------------

EVENTS = get_args(Event)


def test_every_event_is_handled() -> None:
    hot = {RequestArrived, LeaseReturned}
    assert hot | set(Scheduler()._handlers) == set(EVENTS)


# --- setup ----------------------------------------------------------------------------------------

TEXT = """
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
    change = change_of(loads(TEXT), frozenset({"a"}))
    assert change.rules == (
        ModelRules("a", concurrency_limit=3, queue_limit=7, ttl_s=30),
        ModelRules("b", sleep_after_s=5, can_sleep=True, priority=4),
    )
    assert not evicts(change.residency, "a", "b")
    assert change.options == SchedulerOptions("fifo", max_hold_s=9, queue_timeout_s=60)
    assert change.restart == frozenset({"a"})
