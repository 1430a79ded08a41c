import random

import pytest

from llmsnap.models import State
from llmsnap.routing.messages import (
    Grant,
    ModelRules,
    RefusalReason,
    Refuse,
    SchedulerOptions,
    SwapOutcome,
)
from llmsnap.routing.policies import swap_estimate_s
from llmsnap.routing.residency import ALONE, Action, LoadKind, PlannedSwap
from llmsnap.routing.state import (
    ModelState,
    PendingStop,
    Phase,
    SchedulerState,
    Swap,
    Waiter,
)
from llmsnap.routing.timing import KEPT, Backoff, Durations, DurationStats, Timers, delay_s
from tests.routing.models import ready, waiting

# --- back-off ------------------------------------------------------------------------------------

BOOM = RuntimeError("boom")


@pytest.mark.parametrize(
    ("failures", "alone", "evicting"),
    [
        (0, 0, 0),
        (1, 0, 0),  # forgiven
        (2, 1, 1),
        (3, 2, 2),
        (7, 32, 32),
        (8, 60, 64),
        (11, 60, 512),
        (12, 60, 600),
        (10_000, 60, 600),
    ],
)
def test_delays_double_up_to_a_limit(failures: int, alone: float, evicting: float) -> None:
    assert delay_s(failures, evicts=False) == alone
    assert delay_s(failures, evicts=True) == evicting


def test_the_wait_runs_from_the_last_failure() -> None:
    backoff = Backoff()
    backoff.fail(BOOM, 100.0)
    assert backoff.wait_s(100.0, evicts=False) == 0
    backoff.fail(BOOM, 200.0)
    assert backoff.wait_s(200.25, evicts=False) == 0.75
    assert backoff.wait_s(300.0, evicts=False) == 0


def test_clearing_forgets_everything() -> None:
    backoff = Backoff()
    backoff.fail(BOOM, 0.0)
    backoff.fail(BOOM, 0.0)
    backoff.clear()
    assert (backoff.failures, backoff.error) == (0, None)
    assert backoff.wait_s(0.0, evicts=True) == 0


# --- measured durations --------------------------------------------------------------------------


def test_nothing_measured_yet() -> None:
    assert Durations().snapshot() == DurationStats(0, None, None, None)
    assert Durations().p50_s is None


def test_percentiles_are_durations_that_happened() -> None:
    durations = Durations()
    for seconds in (1.0, 9.0, 2.0, 4.0):
        durations.append(seconds)
    assert durations.snapshot() == DurationStats(count=4, last_s=4.0, p50_s=2.0, p90_s=9.0)


def test_only_the_last_few_count_towards_percentiles() -> None:
    durations = Durations()
    durations.append(1000.0)
    for _ in range(KEPT):
        durations.append(1.0)
    assert durations.snapshot() == DurationStats(KEPT + 1, 1.0, 1.0, 1.0)


# --- timers --------------------------------------------------------------------------------------


def test_keys_are_due_in_order_of_their_times() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 3.0)
    timers.set("early", 1.0)
    timers.set("middle", 2.0)
    assert timers.next_at() == 1.0
    assert timers.pop_due(2.0) == ["early", "middle"]
    assert timers.pop_due(2.0) == []
    assert timers.next_at() == 3.0


def test_the_last_setting_of_a_key_counts() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.next_at() == 5.0
    timers.set("a", 1.0)
    assert timers.pop_due(9.0) == ["a"]
    assert timers.get("a") is None


def test_a_cancelled_key_is_never_due() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("unknown")
    assert timers.next_at() is None
    assert timers.pop_due(2.0) == []


def test_cancelled_keys_do_not_pile_up() -> None:
    timers: Timers[int] = Timers()
    for key in range(10_000):
        timers.set(key, 3600.0 + key)
        timers.cancel(key)
    assert len(timers) == 0
    assert len(timers._heap) < 200


def test_a_clean_up_of_cancelled_keys_keeps_the_order() -> None:
    timers: Timers[int] = Timers()
    chance = random.Random(7)
    times = [float(time) for time in chance.sample(range(10_000), 2000)]
    for key, at in enumerate(times):
        timers.set(key, at)
        if key % 5:
            timers.cancel(key)
    kept = sorted(range(0, 2000, 5), key=lambda key: times[key])
    assert timers.pop_due(10_000.0) == kept


# --- models and swaps ----------------------------------------------------------------------------


def swap_of(target: ModelState, *victims: ModelState, phase: Phase = Phase.DRAIN) -> Swap:
    swap = Swap(
        work=7,
        target=target,
        victims={victim.model_id: victim for victim in victims},
        reason="request",
        planned=PlannedSwap(target.model_id, ALONE),
        began_s=10.0,
        since_s=10.0,
        phases=[("wait", 1.0)],
        phase=phase,
    )
    target.swap = swap
    for victim in victims:
        victim.evicted_by = swap
        swap.in_flight_before.update(victim.leases)
        victim.refresh()
    return swap


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_only_a_ready_model_is_open(state: State) -> None:
    model = ready("a", 0.0)
    assert model.open
    model.state = state
    model.refresh()
    assert not model.open


def test_a_claim_shuts_the_gate_but_while_it_is_reopened() -> None:
    victim = ready("m", 0.0)
    swap = swap_of(waiting("t", 1.0), victim)
    assert not victim.open
    swap.phase = Phase.REOPENED
    victim.refresh()
    assert victim.open


def test_a_closing_shuts_the_gate_for_newcomers_only() -> None:
    model = ready("a", 0.0)
    model.pending_stop = PendingStop(State.ASLEEP)
    model.refresh()
    assert not model.open
    assert model.serves


def test_reopened_gates_shut_for_good_after_the_last_request_of_before() -> None:
    victim = ready("m", 0.0, in_flight=2)
    swap = swap_of(waiting("t", 1.0), victim, phase=Phase.REOPENED)
    swap.requests_ended([-1])
    assert victim.open
    swap.requests_ended([-2])
    assert swap.phase is Phase.LAST_DRAIN
    assert not victim.open


def test_phases_are_noted_with_what_they_took() -> None:
    swap = swap_of(waiting("t", 1.0))
    swap.phase = Phase.REOPENED
    swap.enter(Phase.EVICT, 14.0)
    swap.enter(Phase.LOAD, 14.0)
    swap.note(20.0)
    record = swap.record(SwapOutcome.DONE, "", 20.0)
    assert record.phases == (("wait", 1.0), ("drain", 4.0), ("load", 6.0))
    assert (record.began_s, record.ended_s, record.target) == (10.0, 20.0, "t")


@pytest.mark.parametrize(
    ("state", "rules", "rest"),
    [
        (State.READY, ModelRules("a"), None),
        (State.READY, ModelRules("a", ttl_s=60.0), (60.0, State.STOPPED)),
        (State.READY, ModelRules("a", sleep_after_s=5.0), None),  # it cannot sleep
        (
            State.READY,
            ModelRules("a", ttl_s=60.0, sleep_after_s=5.0, can_sleep=True),
            (5.0, State.ASLEEP),
        ),
        (
            State.ASLEEP,
            ModelRules("a", ttl_s=60.0, sleep_after_s=5.0, can_sleep=True),
            (60.0, State.STOPPED),
        ),
        (State.STARTING, ModelRules("a", ttl_s=60.0), None),
    ],
)
def test_when_an_idle_model_rests(
    state: State, rules: ModelRules, rest: tuple[float, State] | None
) -> None:
    model = ModelState(rules, 0.0)
    model.state = state
    assert model.next_rest == rest


def test_wanted_by_requests_loads_or_a_preload() -> None:
    assert not waiting("a").wanted
    assert waiting("a", 1.0).wanted
    model = waiting("a")
    model.loads[1] = 5.0
    assert model.wanted
    assert model.asked_at == 5.0
    model = waiting("a")
    model.preload_since = 6.0
    assert model.wanted
    assert model.asked_at == 6.0


def test_estimates_come_from_what_was_measured() -> None:
    target, victim = waiting("t", 1.0), ready("m", 0.0)
    assert swap_estimate_s(target, [victim]) == 5.0
    for kind, seconds in ((LoadKind.START, 30.0), (LoadKind.WAKE, 2.0)):
        target.durations(kind).append(seconds)
    victim.durations(Action.STOP).append(4.0)
    victim.durations(Action.SLEEP).append(1.0)
    assert swap_estimate_s(target, [victim]) == 34.0
    target.state = State.ASLEEP
    victim.rules = ModelRules("m", can_sleep=True)
    assert swap_estimate_s(target, [victim]) == 3.0


# --- the whole -----------------------------------------------------------------------------------


@pytest.fixture
def state() -> SchedulerState:
    return SchedulerState(SchedulerOptions())


def entry_of(
    state: SchedulerState, limit: int = 2, *, waiters: int = 0, ttl_s: float = 0.0
) -> ModelState:
    model = ModelState(ModelRules("a", concurrency_limit=limit, ttl_s=ttl_s), state.now)
    state.models["a"] = model
    for ticket in range(waiters):
        waiter = Waiter(ticket, model, state.now, state.next_number())
        model.waiters[ticket] = state.tickets[ticket] = waiter
        state.awaited["a"] = model
    return model


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
def test_who_takes_room(state: SchedulerState, states: str, running: bool) -> None:
    model = entry_of(state)
    for word in states.split():
        state.move(model, State(word))
    assert ("a" in state.running) is running


def test_leaving_ready_ends_the_turn(state: SchedulerState) -> None:
    model = entry_of(state)
    state.move(model, State.READY)
    state.now = 9.0
    model.backoff.fail(RuntimeError(), 0.0)
    state.move(model, State.STOPPING)
    assert model.turn_ended == 9.0
    assert model.backoff.failures == 1
    state.move(model, State.READY)
    state.now = 19.0
    state.move(model, State.STOPPING)
    assert model.backoff.failures == 0  # ten good seconds


def test_slots_are_filled_in_order_of_arrival(state: SchedulerState) -> None:
    model = entry_of(state, limit=2, waiters=3)
    state.fill(model)
    assert not state.effects
    state.now = 4.0
    state.move(model, State.READY)
    state.fill(model)
    assert state.effects == [Grant(0, "a", 4.0), Grant(1, "a", 4.0)]
    assert list(model.waiters) == [2]


def test_only_those_owed_a_turn_pass_a_gate_that_is_closing(state: SchedulerState) -> None:
    model = entry_of(state, limit=9, waiters=3)
    state.move(model, State.READY)
    model.pending_stop = PendingStop(State.ASLEEP, served_first=model.waiters[1].number)
    state.fill(model)
    assert [effect.ticket for effect in state.effects if isinstance(effect, Grant)] == [0, 1]


def test_a_refused_request_leaves_nothing_behind(state: SchedulerState) -> None:
    model = entry_of(state, waiters=2)
    state.timers.set(("queue", 0), 60.0)
    state.refuse_all(model, RefusalReason.UNLOADED)
    assert [e.reason for e in state.effects if isinstance(e, Refuse)] == [
        RefusalReason.UNLOADED
    ] * 2
    assert not state.tickets
    assert not state.awaited
    assert not model.waiters
    assert len(state.timers) == 0


def test_idle_clocks_are_set_for_idle_models_only(state: SchedulerState) -> None:
    model = entry_of(state, ttl_s=60.0)
    model.leases[5] = 0.0
    state.move(model, State.READY)
    assert state.timers.next_at() is None
    model.leases.clear()
    state.arm_idle(model)
    assert state.timers.next_at() == 60.0


def test_numbers_only_grow(state: SchedulerState) -> None:
    assert state.next_number() < state.next_number()
