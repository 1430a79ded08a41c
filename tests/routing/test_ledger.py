import pytest

from llmsnap.models import State
from llmsnap.routing.ledger import Closing, Entry, Phase, Swap, swap_estimate_s
from llmsnap.routing.rules import ModelRules
from llmsnap.routing.swaps import Action, LoadKind, SwapOutcome
from tests.routing.entries import ready, waiting


def swap_of(target: Entry, *victims: Entry, phase: Phase = Phase.DRAIN) -> Swap:
    swap = Swap(
        work=7,
        target=target,
        victims={victim.model_id: victim for victim in victims},
        reason="request",
        footprint=frozenset({target.model_id}),
        began_s=10.0,
        since_s=10.0,
        phases=[("wait", 1.0)],
        phase=phase,
    )
    target.swap = swap
    for victim in victims:
        victim.claim = swap
        swap.former.update(victim.leases)
        victim.refresh()
    return swap


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_only_a_ready_model_is_open(state: State) -> None:
    entry = ready("a", 0.0)
    assert entry.open
    entry.state = state
    entry.refresh()
    assert not entry.open


def test_a_claim_shuts_the_gate_but_while_it_is_reopened() -> None:
    victim = ready("m", 0.0)
    swap = swap_of(waiting("t", 1.0), victim)
    assert not victim.open
    swap.phase = Phase.REOPENED
    victim.refresh()
    assert victim.open


def test_a_closing_shuts_the_gate_for_newcomers_only() -> None:
    entry = ready("a", 0.0)
    entry.closing = Closing(State.ASLEEP)
    entry.refresh()
    assert not entry.open
    assert entry.serves


def test_reopened_gates_shut_for_good_after_the_last_request_of_before() -> None:
    victim = ready("m", 0.0, in_flight=2)
    swap = swap_of(waiting("t", 1.0), victim, phase=Phase.REOPENED)
    swap.settle([-1])
    assert victim.open
    swap.settle([-2])
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
    entry = Entry(rules, 0.0)
    entry.state = state
    assert entry.next_rest == rest


def test_wanted_by_requests_loads_or_a_preload() -> None:
    assert not waiting("a").wanted
    assert waiting("a", 1.0).wanted
    entry = waiting("a")
    entry.loads[1] = 5.0
    assert entry.wanted
    assert entry.asked_at == 5.0
    entry = waiting("a")
    entry.preload_since = 6.0
    assert entry.wanted
    assert entry.asked_at == 6.0


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


def test_books_can_be_read_in_a_debugger() -> None:
    assert repr(ready("a", 0.0, in_flight=2)) == "<Entry a ready, open, 2 in flight, 0 waiting>"
    swap = swap_of(waiting("t", 1.0), ready("m", 0.0))
    assert repr(swap) == "<Swap 7 to t, DRAIN, evicts m>"
