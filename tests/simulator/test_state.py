import pytest

from llmsnap.simulator.options import Options
from llmsnap.simulator.state import State


@pytest.fixture
def make():
    def make(**options):
        return State(Options(**options), lambda line: None, left.append)

    left: list[int] = []
    make.left = left
    return make


def test_memory_is_held_and_given_back(make):
    state = make(memory=2)
    state.hold_memory()
    assert state.describe()["memory_bytes"] == 2 << 20
    state.release_memory()
    assert state.describe()["memory_bytes"] == 0


def test_waking_all_parts_takes_the_memory_back(make):
    state = make(memory=1)
    state.fall_asleep(2)
    assert state.describe()["sleep_level"] == 2
    state.awake()
    assert state.describe()["memory_bytes"] == 1 << 20
    assert (state.asleep, state.sleep_level) == (frozenset(), 0)


def test_a_server_is_asleep_while_one_part_is(make):
    state = make(memory=1)
    state.fall_asleep(1)
    state.awake(frozenset({"weights"}))
    assert state.describe()["asleep"] == ["kv_cache"]
    assert state.describe()["memory_bytes"] == 0
    state.awake(frozenset({"kv_cache"}))
    assert not state.asleep


def test_requests_are_counted_while_they_last(make):
    state = make()
    state.begin_inference()
    state.begin_inference()
    state.end_inference()
    assert (state.requests, state.in_flight) == (2, 1)
    assert "1 in flight" in repr(state)


def test_it_leaves_once_the_last_request_allowed_was_answered(make):
    state = make(exit_after_requests=1, exit_code=3)
    state.begin_inference()
    assert make.left == []
    state.end_inference()
    assert make.left == [3]
