"""Events and the bus."""

import logging

import pytest

from llmsnap.telemetry import (
    ActivityRecord,
    ActivityRecorded,
    ConfigReload,
    Event,
    EventBus,
    ModelPreloaded,
    ProcessStateChanged,
    ReloadPhase,
    SwapFinished,
)

# --- events ---------------------------------------------------------------------------------------


def test_events_cannot_be_changed_and_carry_their_time():
    event = SwapFinished(swap_id=3, target="llama", outcome="done", at=12.5)
    assert event.at == 12.5
    with pytest.raises(AttributeError):
        event.target = "qwen"


# --- the bus --------------------------------------------------------------------------------------


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


def test_a_subscriber_hears_its_types_in_order_and_nothing_else(bus):
    heard = []
    bus.subscribe((ProcessStateChanged, ModelPreloaded), heard.append)
    first = ProcessStateChanged("llama", "stopped", "starting")
    second = ModelPreloaded("llama", success=True)
    for event in (first, ConfigReload(ReloadPhase.START), second):
        bus.publish(event)
    assert heard == [first, second]


def test_the_base_type_hears_everything(bus):
    heard = []
    bus.subscribe(Event, heard.append)
    bus.publish(ConfigReload(ReloadPhase.START))
    bus.publish(ActivityRecorded(ActivityRecord(id=0)))
    assert [type(event) for event in heard] == [ConfigReload, ActivityRecorded]


def test_subscribers_are_told_in_the_order_they_came(bus):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: heard.append("first"))
    bus.subscribe(ModelPreloaded, lambda event: heard.append("second"))
    bus.publish(ModelPreloaded("llama", success=True))
    assert heard == ["first", "second"]


def test_publishing_without_subscribers_does_nothing(bus):
    bus.publish(ModelPreloaded("llama", success=True))
    assert repr(bus) == "<EventBus, 0 subscribers>"


def test_a_failing_handler_is_logged_and_disturbs_nobody(bus, caplog):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: 1 / 0)
    bus.subscribe(ModelPreloaded, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(ModelPreloaded("llama", success=True))
    assert len(heard) == 1
    assert "handler of ModelPreloaded failed" in caplog.text


def test_a_closed_subscription_hears_nothing_more(bus):
    heard = []
    subscription = bus.subscribe(ModelPreloaded, heard.append)
    subscription.close()
    subscription.close()
    bus.publish(ModelPreloaded("llama", success=True))
    assert heard == []
    assert "closed" in repr(subscription)


def test_one_handler_may_close_another_while_an_event_is_told(bus):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: late.close())
    late = bus.subscribe(ModelPreloaded, heard.append)
    bus.publish(ModelPreloaded("llama", success=True))
    assert heard == []


def test_a_handler_that_subscribes_does_not_hear_the_same_event(bus):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: bus.subscribe(ModelPreloaded, heard.append))
    bus.publish(ModelPreloaded("llama", success=True))
    assert heard == []
