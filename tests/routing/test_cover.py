"""The cheapest way to free memory, against trying all."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.routing.cover import (
    EXACT_UP_TO,
    MOST_NODES,
    Bytes,
    Way,
    cheapest,
    cover_of,
    greedy,
    is_enough,
)


@st.composite
def ways(draw: st.DrawFn) -> list[Way]:
    """Draw a candidate: it may be put to sleep, or stopped, which frees as much or more."""
    tie = (draw(st.booleans()), draw(st.sampled_from([1.0, 2.0])))
    found: list[Way] = []
    frees = (0, 0)
    for _ in range(draw(st.integers(1, 2))):
        frees = (frees[0] + draw(st.integers(0, 6)), frees[1] + draw(st.integers(0, 6)))
        found.append(Way(draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0])), frees, tie))
    return found


needs = st.tuples(st.integers(0, 15), st.integers(0, 15))


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


def test_nothing_leaves_where_nothing_is_wanted() -> None:
    found = cheapest([[Way(1.0, (5, 5), (False, 0.0))]], (0, -3))
    assert found is not None
    assert found.chosen == (None,)
