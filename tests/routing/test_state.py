import random

import pytest

from llmsnap.models import State
from llmsnap.routing.entries import Waiter
from llmsnap.routing.messages import LeaseReturned, ModelRules, SchedulerOptions
from llmsnap.routing.state import SchedulerState
from llmsnap.routing.timing import KEPT, Backoff, Durations, DurationStats, Timers, delay_s
from tests.routing.facts import ready

BOOM = RuntimeError("boom")


@pytest.mark.parametrize(
    ("failures", "alone", "evicting"),
    [
        (1, 0, 0),  # forgiven
        (2, 1, 1),
        (7, 32, 32),
        (11, 60, 512),
        (12, 60, 600),
        (10_000, 60, 600),
    ],
)
def test_delays_double_up_to_a_limit(failures: int, alone: float, evicting: float) -> None:
    assert delay_s(failures, evicts=False) == alone
    assert delay_s(failures, evicts=True) == evicting


def test_the_wait_runs_from_the_last_failure_until_all_are_forgotten() -> None:
    backoff = Backoff()
    backoff.fail(BOOM, 100.0)
    assert backoff.wait_s(100.0, evicts=False) == 0
    backoff.fail(BOOM, 200.0)
    assert backoff.wait_s(200.25, evicts=False) == 0.75
    assert backoff.wait_s(300.0, evicts=False) == 0
    backoff.clear()
    assert (backoff.failures, backoff.error) == (0, None)
    assert backoff.wait_s(200.0, evicts=True) == 0


def test_percentiles_are_durations_that_happened_of_the_last_few() -> None:
    durations = Durations()
    assert durations.snapshot() == DurationStats(0, None, None, None)
    for seconds in (1.0, 9.0, 2.0, 4.0):
        durations.append(seconds)
    assert durations.snapshot() == DurationStats(count=4, last_s=4.0, p50_s=2.0, p90_s=9.0)
    for _ in range(KEPT):
        durations.append(1.0)
    assert durations.snapshot() == DurationStats(KEPT + 4, 1.0, 1.0, 1.0)


def test_keys_are_due_in_order_of_the_last_times_that_were_set() -> None:
    timers: Timers[str] = Timers()
    for key, at in (("late", 3.0), ("early", 9.0), ("middle", 2.0), ("gone", 1.0), ("early", 1.0)):
        timers.set(key, at)
    timers.cancel("gone")
    timers.cancel("unknown")
    assert timers.next_at() == 1.0
    assert timers.pop_due(2.0) == ["early", "middle"]
    assert timers.pop_due(2.0) == []
    assert timers.get("early") is None
    assert timers.next_at() == 3.0


def test_cancelled_keys_do_not_pile_up_and_the_others_keep_their_order() -> None:
    timers: Timers[int] = Timers()
    chance = random.Random(7)
    times = [float(time) for time in chance.sample(range(10_000), 2000)]
    for key, at in enumerate(times):
        timers.set(key, at)
        if key % 5:
            timers.cancel(key)
    assert len(timers) == 400
    assert len(timers._heap) < 1000
    kept = sorted(range(0, 2000, 5), key=lambda key: times[key])
    assert timers.pop_due(10_000.0) == kept


@pytest.mark.parametrize(
    ("began", "waits", "left_s"),
    [
        ((), False, 0.0),
        ((), True, 8.0),  # its answer is still to begin
        ((100.0,), False, 8.0),
        ((96.0,), True, 4.0),
        ((90.0,), False, 10.0),  # twice as long as it has lasted
        ((95.0, 99.0), False, 7.0),  # the youngest
        ((80.0, 97.0, 99.0), False, 20.0),  # the oldest
    ],
)
def test_an_answer_lasts_as_long_as_usual_or_twice_what_it_has(
    began: tuple[float, ...], waits: bool, left_s: float
) -> None:
    model = ready("m", 0.0)
    model.answer_s = 8.0
    model.leases = dict(enumerate(began))
    if waits:
        model.waiters[9] = Waiter(9, model, 99.0, 9)
    assert model.answers_s(100.0) == left_s


def test_what_answers_take_usually_follows_the_latest_ones() -> None:
    state = SchedulerState(SchedulerOptions())
    state.add_model(ModelRules("m"))
    model = state.models["m"]
    usual = [model.answer_s]
    for number, seconds in enumerate((21.0, 21.0, *[1.0] * 40)):
        model.leases[number] = 100.0
        state.return_lease(LeaseReturned(number, "m"), 100.0 + seconds)
        usual.append(model.answer_s)
    assert usual[:3] == [5.0, 7.0, 8.75]
    assert usual[-1] == pytest.approx(1.0, abs=0.1)


# --- the whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "running"),
    [
        ("starting ready sleepPending", True),
        ("starting ready sleepPending asleep", False),
        ("starting ready stopping", True),
        ("starting stopping stopped", False),
        ("starting ready sleepPending asleep stopping", False),  # it has freed the room already
        ("starting ready sleepPending asleep waking stopping", True),
    ],
)
def test_who_takes_room(states: str, running: bool) -> None:
    state = SchedulerState(SchedulerOptions())
    state.add_model(ModelRules("a"))
    for word in states.split():
        state.move(state.models["a"], State(word))
    assert ("a" in state.running) is running
