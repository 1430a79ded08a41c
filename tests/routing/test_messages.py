import dataclasses
from typing import Any, get_args

import pytest

from llmsnap.routing import messages
from llmsnap.routing.messages import Event, LeaseReturned, Request
from llmsnap.routing.scheduler import Scheduler

EVENTS = get_args(Event)


def test_every_event_is_handled() -> None:
    hot = {Request, LeaseReturned}
    assert hot | set(Scheduler()._handlers) == set(EVENTS)


def test_every_message_of_the_module_is_an_event() -> None:
    own = [c for c in vars(messages).values() if getattr(c, "__module__", "") == messages.__name__]
    assert {c for c in own if dataclasses.is_dataclass(c)} == set(EVENTS)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_is_small_and_says_what_it_means(kind: type[Any]) -> None:
    assert kind.__doc__
    assert "__slots__" in vars(kind)
