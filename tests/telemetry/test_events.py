"""The bus of events."""

import logging

import pytest

from llmsnap.telemetry import ConfigReload, Event, EventBus, ModelPreloaded, ReloadPhase

LOADED = ModelPreloaded("llama", success=True)


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


def test_subscribers_hear_their_types_in_the_order_they_came(bus):
    heard = []
    for name, kinds in (("first", (ModelPreloaded,)), ("second", Event), ("third", Event)):
        bus.subscribe(kinds, lambda event, name=name: heard.append((name, event)))
    reload = ConfigReload(ReloadPhase.START)
    bus.publish(reload)
    bus.publish(LOADED)
    assert heard[:2] == [("second", reload), ("third", reload)]
    assert heard[2:] == [("first", LOADED), ("second", LOADED), ("third", LOADED)]


def test_a_failing_handler_is_logged_and_disturbs_nobody(bus, caplog):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: 1 / 0)
    bus.subscribe(ModelPreloaded, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(LOADED)
    assert len(heard) == 1
    assert "handler of ModelPreloaded failed" in caplog.text


def test_subscriptions_that_come_and_go_in_a_handler_do_not_hear_the_event_that_is_told(bus):
    heard = []
    bus.subscribe(ModelPreloaded, lambda event: late.close())
    late = bus.subscribe(ModelPreloaded, heard.append)
    for _ in range(2):
        bus.publish(LOADED)
    bus.subscribe(ModelPreloaded, lambda event: bus.subscribe(ModelPreloaded, heard.append))
    bus.publish(LOADED)
    assert heard == []
