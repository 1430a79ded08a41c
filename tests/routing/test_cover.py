"""The cheapest way to free memory, against trying all."""

import random
from collections.abc import Sequence
from itertools import product

import pytest

from llmsnap.routing.cover import (
    EXACT_UP_TO,
    MOST_NODES,
    Bytes,
    Chosen,
    Way,
    cheapest,
    cover_of,
    greedy,
    is_enough,
)
from tests.drawn import cases

COSTS = (0.5, 1.0, 2.0, 3.0, 10.0)


def ways(chance: random.Random, costs: Sequence[float] = COSTS) -> list[Way]:
    """Draw a candidate: it may be put to sleep, or stopped, which frees as much or more.

    Asleep it may take more of a device than before.
    """
    tie = (chance.random() < 0.5, chance.choice([1.0, 2.0]))
    found: list[Way] = []
    frees = (0, 0)
    if chance.random() < 0.3:
        found.append(Way(chance.choice(costs[:2]), (chance.randint(0, 6), -3), tie))
        frees = (found[0].frees[0], 0)
    for _ in range(chance.randint(1, 2 - len(found))):
        frees = (frees[0] + chance.randint(0, 6), frees[1] + chance.randint(0, 6))
        found.append(Way(chance.choice(costs), frees, tie))
    return found


@cases(1000)
def test_the_answer_is_the_best_of_all(chance: random.Random) -> None:
    costs = chance.choice([COSTS, (1.0, 2.0), (1.0,)])  # the fewer, the more choices cost the same
    candidates = [ways(chance, costs) for _ in range(chance.randint(0, 6))]
    need = (chance.choice([0, chance.randint(0, 15)]), chance.randint(-4, 15))
    choices = product(*([None, *range(len(each))] for each in candidates))
    enough = [cover_of(candidates, each) for each in choices if is_enough(candidates, each, need)]
    found = cheapest(candidates, need)
    if not enough:
        assert found is None
        return
    assert found is not None
    assert found.key == min(each.key for each in enough)
    assert cover_of(candidates, found.chosen).key == found.key
    # No eviction without need.
    for number, index in enumerate(found.chosen):
        if index is not None:
            others = (*found.chosen[:number], None, *found.chosen[number + 1 :])
            assert not is_enough(candidates, others, need)


@cases(60)
def test_beyond_that_it_is_never_worse_than_greedy(chance: random.Random) -> None:
    candidates = [ways(chance) for _ in range(chance.randint(EXACT_UP_TO + 1, 40))]
    need = (4 * chance.randint(0, 15), 4 * chance.randint(-4, 15))
    start, found = greedy(candidates, need), cheapest(candidates, need)
    assert (start is None) == (found is None)
    if start is not None and found is not None:
        assert found.key <= start.key
        assert is_enough(candidates, found.chosen, need)
        assert found.nodes <= MOST_NODES + 2 * len(candidates) * len(candidates)


IDLE = (False, 0.0)


@pytest.mark.parametrize(
    ("candidates", "need", "chosen"),
    [
        ([[Way(1.0, (4,), IDLE), Way(10.0, (10,), IDLE)], [Way(4.0, (6,), IDLE)]], (10,), (0, 0)),
        # To stop it after all costs less than the other one.
        (
            [[Way(1.0, (4,), IDLE), Way(10.0, (10,), IDLE)], [Way(9.5, (6,), IDLE)]],
            (10,),
            (1, None),
        ),
        # One on both devices counts twice.
        (
            [[Way(2.0, (5, 0), IDLE)], [Way(2.0, (0, 5), IDLE)], [Way(3.0, (5, 5), IDLE)]],
            (5, 5),
            (None, None, 0),
        ),
        ([[Way(2.0, (9,), IDLE)], [Way(1.0, (3,), IDLE)]], (4,), (0, None)),
        # Of two victims either of which may stay after all, the more expensive one stays.
        (
            [[Way(1.0, (5,), IDLE)], [Way(1.2, (5,), IDLE)], [Way(2.0, (7,), IDLE)]],
            (12,),
            (0, None, 0),
        ),
        ([[Way(2.0, (4,), IDLE)], [Way(2.0, (4,), IDLE)]], (4,), (0, None)),
    ],
)
def test_greedy_takes_the_cheapest_part_of_what_is_wanted(
    candidates: list[list[Way]], need: Bytes, chosen: Chosen
) -> None:
    found = greedy(candidates, need)
    assert found is not None
    assert found.chosen == chosen


@pytest.mark.parametrize(
    ("candidates", "need", "nodes"),
    [
        # Of equal costs only those are followed whose last use is no later.
        ([[Way(1.0, (4, 4), (False, float(n)))] for n in range(12)], (24, 24), 625),
        ([[Way(1.0, (4, 4), (n < 6, 1.0))] for n in range(12)], (24, 24), 625),
        # Parts of the cheapest ones bound the cost.
        ([[Way(1.0 + n, (4 + n % 3, 4), IDLE)] for n in range(12)], (26, 20), 19),
        # What frees nothing that is wanted is not looked at.
        ([[Way(1.0, (0, 4), IDLE)] for _ in range(11)] + [[Way(1.0, (4, 4), IDLE)]], (4, -1), 3),
    ],
)
def test_few_choices_are_looked_at(candidates: list[list[Way]], need: Bytes, nodes: int) -> None:
    found = cheapest(candidates, need)
    assert found is not None
    assert found.nodes == nodes


@pytest.mark.parametrize(("most", "nodes"), [(1, 3), (50, 61), (MOST_NODES, 5011)])
def test_the_search_ends_after_so_many_nodes(most: int, nodes: int) -> None:
    chance = random.Random(4)
    many = [
        [Way(chance.uniform(5, 6), (chance.randint(50, 60), chance.randint(50, 60)), IDLE)]
        for _ in range(20)
    ]
    found = cheapest(many, (511, 487), most)
    assert found is not None
    assert found.nodes == nodes
    assert found.key <= greedy(many, (511, 487)).key  # type: ignore[union-attr]
