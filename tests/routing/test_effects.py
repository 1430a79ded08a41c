import dataclasses
from typing import Any, get_args

import pytest

from llmsnap.routing import effects
from llmsnap.routing.effects import Effect, Grant, Outcome, Refusal

EFFECTS = get_args(Effect)


def test_every_message_of_the_module_is_an_effect() -> None:
    own = [c for c in vars(effects).values() if getattr(c, "__module__", "") == effects.__name__]
    assert {c for c in own if dataclasses.is_dataclass(c)} == set(EFFECTS)


@pytest.mark.parametrize("kind", EFFECTS, ids=lambda kind: kind.__name__)
def test_an_effect_is_small_and_says_what_it_asks_for(kind: type[Any]) -> None:
    assert kind.__doc__
    assert "__slots__" in vars(kind)


def test_equal_effects_compare_equal() -> None:
    assert Grant(1, "a") == Grant(1, "a", 0.0)
    assert Grant(1, "a") != Grant(2, "a")


def test_reasons_and_outcomes_are_words() -> None:
    assert all(str(word).islower() for word in [*Refusal, *Outcome])
