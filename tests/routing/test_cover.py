"""The cheapest way to free memory, against trying all."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@st.composite
def ways(draw: st.DrawFn) -> list[Way]:
    """Draw a candidate: it may be put to sleep, or stopped, which frees as much or more.

    Asleep it may take more of a device than before.
    """
    tie = (draw(st.booleans()), draw(st.sampled_from([1.0, 2.0])))
    found: list[Way] = []
    frees = (0, draw(st.sampled_from([0, 0, -3])))
    if frees[1]:
        found.append(Way(draw(st.sampled_from([0.5, 1.0])), (draw(st.integers(0, 6)), -3), tie))
        frees = (found[0].frees[0], 0)
    for _ in range(draw(st.integers(1, 2 - len(found)))):
        frees = (frees[0] + draw(st.integers(0, 6)), frees[1] + draw(st.integers(0, 6)))
        found.append(Way(draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0])), frees, tie))
    return found


needs = st.tuples(st.integers(0, 15), st.integers(-4, 15))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(candidates=st.lists(ways(), max_size=6), need=needs)
def test_the_answer_is_the_best_of_all(candidates: list[list[Way]], need: Bytes) -> None:
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


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(candidates=st.lists(ways(), min_size=EXACT_UP_TO + 1, max_size=40), need=needs)
def test_beyond_that_it_is_never_worse_than_greedy(
    candidates: list[list[Way]], need: Bytes
) -> None:
    wanted = (need[0] * 4, need[1] * 4)
    start, found = greedy(candidates, wanted), cheapest(candidates, wanted)
    assert (start is None) == (found is None)
    if start is not None and found is not None:
        assert found.key <= start.key
        assert is_enough(candidates, found.chosen, wanted)
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
