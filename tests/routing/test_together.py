"""Which models fit together in a memory budget, against trying all sets."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given, settings

from llmsnap.routing.memory import Device, Memory, Need, Share
from llmsnap.routing.together import MOST_SETS, what_fits
from tests.routing.test_scheduler_properties import budgets


def fit(memory: Memory, names: set[str]) -> bool:
    """Whether the models fit, by trying all GPUs for each."""
    gpus = [each.name for each in memory.devices if each.is_gpu]
    groups = [each.apart for each in memory.needs if each.model_id in names and each.apart]
    if len(groups) != len(set(groups)):
        return False
    for places in product(gpus, repeat=len(names)):
        sizes = [memory.held(name, place) for name, place in zip(names, places, strict=True)]
        used = [sum(each) for each in zip(*sizes, strict=True)] or [0] * len(memory.devices)
        room = (each.capacity - each.reserve for each in memory.devices)
        if all(size <= most for size, most in zip(used, room, strict=True)):
            return True
    return False


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(memory=budgets())
def test_the_largest_sets_are_those_found_by_trying_all(memory: Memory) -> None:
    names = [each.model_id for each in memory.needs]
    pinned = {each.model_id for each in memory.needs if each.always_stays}
    every = [set(each) for n in range(len(names) + 1) for each in combinations(names, n)]
    fitting = [each for each in every if each >= pinned and fit(memory, each)]
    largest = [each for each in fitting if not any(each < other for other in fitting)]
    found = what_fits(memory)
    assert found.is_complete
    assert sorted(map(sorted, found.sets)) == sorted(map(sorted, largest))
    for name in names:
        assert (name in found.never) is not any(
            fit(memory, {*pinned, name}) and name in each for each in every
        )
    for pair in combinations([name for name in names if name not in {*found.never, *pinned}], 2):
        assert (pair in found.apart) is not fit(memory, {*pinned, *pair})


def test_of_many_models_the_first_sets_are_found() -> None:
    needs = [Need(f"m{number}", (Share("gpu0", 3 + number % 5),)) for number in range(60)]
    found = what_fits(Memory([Device("gpu0", 40)], needs))
    assert len(found.sets) == MOST_SETS
    assert not found.is_complete
    assert found.sets[0][:3] == ("m0", "m1", "m2")
    assert not found.apart
