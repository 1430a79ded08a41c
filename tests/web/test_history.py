"""Facts about llmsnap.web.history."""

from __future__ import annotations

from llmsnap.events import ProcessStateChanged
from llmsnap.web.history import KEPT_S, StateHistory


def test_states_follow_each_other_and_the_last_is_open() -> None:
    history = StateHistory(wall=lambda: 100.0)
    history.add("a", "stopped", 10.0)
    history.note(ProcessStateChanged("a", "stopped", "starting", at=20.0))
    history.note(ProcessStateChanged("a", "starting", "ready", at=25.5))
    assert history.bars("a") == [
        {"state": "stopped", "from_ms": 10_000, "to_ms": 20_000},
        {"state": "starting", "from_ms": 20_000, "to_ms": 25_500},
        {"state": "ready", "from_ms": 25_500, "to_ms": None},
    ]
    assert history.bars("b") == []


def test_what_ended_before_the_window_is_forgotten() -> None:
    history = StateHistory(wall=lambda: KEPT_S + 100)
    history.add("a", "stopped", 0.0)
    history.add("a", "ready", 50.0)
    assert [bar["state"] for bar in history.bars("a")] == ["ready"]
