"""Facts about llmsnap.telemetry.history."""

from __future__ import annotations

from llmsnap.telemetry.events import EventBus, ProcessStateChanged
from llmsnap.telemetry.telemetry import KEPT_S, MAX_BARS, StateHistory


def states(history: StateHistory, model_id: str = "a") -> list[str]:
    return [bar["state"] for bar in history.bars(model_id)]


def test_states_follow_each_other_and_the_last_is_open() -> None:
    history = StateHistory(wall=lambda: 10.0)
    history.know(["a"])
    history.note(ProcessStateChanged("a", "stopped", "starting", at=20.0))
    history.note(ProcessStateChanged("a", "starting", "ready", at=25.5))
    assert history.bars("a") == [
        {"state": "stopped", "from_ms": 10_000, "to_ms": 20_000},
        {"state": "starting", "from_ms": 20_000, "to_ms": 25_500},
        {"state": "ready", "from_ms": 25_500, "to_ms": None},
    ]
    assert history.bars("b") == []


def test_what_ended_before_the_window_is_forgotten() -> None:
    now = [0.0]
    history = StateHistory(wall=lambda: now[0])
    history.know(["a"])
    now[0] = KEPT_S + 100
    history.note(ProcessStateChanged("a", "stopped", "ready", at=50.0))
    assert states(history) == ["ready"]


def test_a_crash_loop_does_not_fill_the_memory() -> None:
    history = StateHistory(wall=lambda: 0.0)
    history.know(["a"])
    for number in range(2 * MAX_BARS):
        history.note(ProcessStateChanged("a", "x", str(number), at=1.0))
    assert len(states(history)) == MAX_BARS


def test_models_come_and_go_with_the_configuration() -> None:
    history = StateHistory()
    history.know(["a", "b"])
    history.note(ProcessStateChanged("a", "stopped", "ready"))
    history.know(["a", "c"])
    assert states(history) == ["stopped", "ready"], "one that stays keeps its past"
    assert states(history, "c") == ["stopped"]
    history.note(ProcessStateChanged("b", "stopping", "stopped"))
    assert states(history, "b") == [], "one that is gone leaves nothing behind"


def test_it_follows_the_bus_until_told_not_to() -> None:
    bus, history = EventBus(), StateHistory()
    history.know(["a"])
    following = history.follow(bus)
    bus.publish(ProcessStateChanged("a", "stopped", "starting"))
    following.close()
    bus.publish(ProcessStateChanged("a", "starting", "ready"))
    assert states(history) == ["stopped", "starting"]
