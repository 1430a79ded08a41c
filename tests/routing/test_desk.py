import pytest

from llmsnap.models import State
from llmsnap.routing.desk import Desk
from llmsnap.routing.effects import Grant, Refusal, Refuse
from llmsnap.routing.ledger import Closing, Entry, Waiter
from llmsnap.routing.rules import ModelRules, Options


@pytest.fixture
def desk() -> Desk:
    return Desk(Options())


def entry_of(desk: Desk, limit: int = 2, *, waiters: int = 0, ttl_s: float = 0.0) -> Entry:
    entry = Entry(ModelRules("a", concurrency_limit=limit, ttl_s=ttl_s), desk.now)
    desk.entries["a"] = entry
    for ticket in range(waiters):
        waiter = Waiter(ticket, entry, desk.now, desk.next_number())
        entry.waiters[ticket] = desk.tickets[ticket] = waiter
        desk.wanting["a"] = entry
    return entry


@pytest.mark.parametrize(
    ("states", "running"),
    [
        ("starting", True),
        ("starting ready", True),
        ("starting ready sleepPending", True),
        ("starting ready sleepPending asleep", False),
        ("starting ready stopping", True),
        ("starting stopping stopped", False),
        ("starting ready sleepPending asleep stopping", False),  # it has freed the room already
        ("starting ready sleepPending asleep waking stopping", True),
    ],
)
def test_who_takes_room(desk: Desk, states: str, running: bool) -> None:
    entry = entry_of(desk)
    for state in states.split():
        desk.move(entry, State(state))
    assert ("a" in desk.running) is running


def test_leaving_ready_ends_the_turn(desk: Desk) -> None:
    entry = entry_of(desk)
    desk.move(entry, State.READY)
    desk.now = 9.0
    entry.backoff.fail(RuntimeError(), 0.0)
    desk.move(entry, State.STOPPING)
    assert entry.turn_ended == 9.0
    assert entry.backoff.failures == 1
    desk.move(entry, State.READY)
    desk.now = 19.0
    desk.move(entry, State.STOPPING)
    assert entry.backoff.failures == 0  # ten good seconds


def test_slots_are_filled_in_order_of_arrival(desk: Desk) -> None:
    entry = entry_of(desk, limit=2, waiters=3)
    desk.fill(entry)
    assert not desk.out
    desk.now = 4.0
    desk.move(entry, State.READY)
    desk.fill(entry)
    assert desk.out == [Grant(0, "a", 4.0), Grant(1, "a", 4.0)]
    assert list(entry.waiters) == [2]


def test_only_those_owed_a_turn_pass_a_gate_that_is_closing(desk: Desk) -> None:
    entry = entry_of(desk, limit=9, waiters=3)
    desk.move(entry, State.READY)
    entry.closing = Closing(State.ASLEEP, owed=entry.waiters[1].number)
    desk.fill(entry)
    assert [effect.ticket for effect in desk.out if isinstance(effect, Grant)] == [0, 1]


def test_a_refused_request_leaves_nothing_behind(desk: Desk) -> None:
    entry = entry_of(desk, waiters=2)
    desk.timers.set(("queue", 0), 60.0)
    desk.refuse_all(entry, Refusal.UNLOADED)
    assert [e.reason for e in desk.out if isinstance(e, Refuse)] == [Refusal.UNLOADED] * 2
    assert not desk.tickets
    assert not desk.wanting
    assert not entry.waiters
    assert len(desk.timers) == 0


def test_idle_clocks_are_set_for_idle_models_only(desk: Desk) -> None:
    entry = entry_of(desk, ttl_s=60.0)
    entry.leases[5] = 0.0
    desk.move(entry, State.READY)
    assert desk.timers.next_at() is None
    entry.leases.clear()
    desk.arm_idle(entry)
    assert desk.timers.next_at() == 60.0


def test_numbers_only_grow(desk: Desk) -> None:
    assert desk.next_number() < desk.next_number()
