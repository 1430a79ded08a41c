"""Which models fit together, in a memory budget against trying all sets, and how it is said."""

from itertools import combinations, product
from random import Random

import pytest

from llmsnap.routing import together
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
from llmsnap.routing.together import (
    fits_document,
    said_of_fits,
    said_of_sets,
    sets_document,
    what_fits,
)
from tests.drawn import cases
from tests.routing.residencies import any_budget
from tests.routing.world import matrix


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


@cases(40)
def test_the_largest_sets_are_those_found_by_trying_all(chance: Random) -> None:
    memory = any_budget(chance, "abcde")
    names = [each.model_id for each in memory.needs]
    pinned = {each.model_id for each in memory.needs if each.always_stays}
    every = [set(each) for n in range(len(names) + 1) for each in combinations(names, n)]
    fitting = [each for each in every if each >= pinned and fit(memory, each)]
    largest = [each for each in fitting if not any(each < other for other in fitting)]
    found = what_fits(memory)
    assert found.is_complete
    assert what_fits(memory, len(largest)) == found
    assert not largest or not what_fits(memory, len(largest) - 1).is_complete
    assert sorted(map(sorted, found.sets)) == sorted(map(sorted, largest))
    for name in names:
        assert (name in found.never) is not any(
            fit(memory, {*pinned, name}) and name in each for each in every
        )
    for pair in combinations([name for name in names if name not in {*found.never, *pinned}], 2):
        assert (pair in found.apart) is not fit(memory, {*pinned, *pair})


def said(memory: Memory) -> list[str]:
    return list(said_of_fits(fits_document(memory)))


def test_of_many_models_the_first_sets_are_found() -> None:
    needs = [Need(f"m{number}", (Share("gpu0", 3 + number % 5),)) for number in range(60)]
    memory = Memory([Device("gpu0", 40)], needs)
    found = what_fits(memory)
    assert len(found.sets) == 50
    assert not found.is_complete
    assert found.sets[0][:3] == ("m0", "m1", "m2")
    assert not found.apart
    text = said(memory)
    assert text[61] == "these fit together:"
    assert len(text) == 61 + 1 + 50 + 1
    assert text[-1] == "  and others"


@pytest.mark.parametrize(
    ("models", "checks", "sets"),
    [(4, 5, ["m0 m1 m2 m3"]), (4, 4, []), (5, 6, ["m0 m1 m2 m3 m4"]), (5, 5, [])],
)
def test_the_search_ends_after_so_many_sets_that_it_looks_at(
    models: int, checks: int, sets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of these models fit together: each adds one set to look at."""
    monkeypatch.setattr(together, "MOST_CHECKS", checks)
    needs = [Need(f"m{number}", (Share("gpu0", 1),)) for number in range(models)]
    found = what_fits(Memory([Device("gpu0", models)], needs))
    assert [" ".join(each) for each in found.sets] == sets
    assert found.is_complete is bool(sets)


@pytest.mark.parametrize(
    ("on_cards", "pairs", "rest"), [((10,), 45, []), ((10, 3, 2, 2), 50, []), ((11,), 50, ["5"])]
)
def test_of_many_pairs_that_never_fit_the_first_are_listed(
    on_cards: tuple[int, ...], pairs: int, rest: list[str]
) -> None:
    """On each card only one of its models fits."""
    cards = [f"gpu{card}" for card, models in enumerate(on_cards) for _ in range(models)]
    needs = [Need(f"m{number}", (Share(card, 5),)) for number, card in enumerate(cards)]
    text = said(Memory([Device(f"gpu{card}", 8) for card, _ in enumerate(on_cards)], needs))
    never = text[text.index("these never fit together:") + 1 :]
    assert [each for each in never if " and m" in each] == never[:pairs]
    assert never[:2] == ["  m0 and m1", "  m0 and m2"]
    assert never[pairs:] == [f"  and {number} other pairs" for number in rest]


def test_what_fits_is_said_of_any_gpu_of_nothing_and_where_pinned_models_leave_no_room() -> None:
    devices = [Device("gpu0", 8 * GIB), Device("gpu1", 8 * GIB)]
    any_gpu = Need("any", (Share("gpu0", GIB),), anywhere=4 * GIB)
    assert said(Memory(devices, [any_gpu, Need("none")])) == [
        "memory budget: gpu0 8 GiB, gpu1 8 GiB",
        "  any: 1 GiB on gpu0 and 4 GiB on any one GPU, declared",
        "  none: nothing, declared",
        "these fit together:",
        "  any, none",
    ]
    pins = [Need(name, anywhere=5 * GIB, is_pinned=True) for name in "abc"]
    found = fits_document(Memory(devices, pins))
    assert (found["together"], found["apart"]) == ([], [])
    assert [each["never"] is not None for each in found["models"]] == [True] * 3
    assert "these fit together:" not in said_of_fits(found)


@pytest.mark.parametrize(
    ("text", "number", "listed", "last"),
    [
        ("a & b", "1 combination", 2, "  a, b"),
        ("(a | b | c | d) & (e | f | g | h | i)", "20 combinations", 21, "  d, i"),
        ("2 of (a, b, c, d, e, f, g)", "21 combinations", 22, "  and others"),
    ],
)
def test_the_first_combinations_of_a_set_are_listed(
    text: str, number: str, listed: int, last: str
) -> None:
    lines = list(said_of_sets(sets_document(matrix("a b c d e f g h i", s=text))))
    assert lines[0] == f"set s: {number}"
    assert lines[-1] == last
    assert len(lines) == listed
