import pytest

from llmsnap.telemetry import SwapFinished


def test_events_cannot_be_changed_and_carry_their_time():
    event = SwapFinished(swap_id=3, target="llama", outcome="done", at=12.5)
    assert event.at == 12.5
    with pytest.raises(AttributeError):
        event.target = "qwen"
