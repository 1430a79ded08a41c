"""State and faults of the simulator."""

from __future__ import annotations

import os
import signal
import types
from http.client import IncompleteRead

import gevent
import pytest

from llmsnap.simulator import state as state_module
from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.state import SimState


@pytest.fixture
def make():
    def make(**options):
        return SimState(SimOptions(**options), lambda line: None, left.append)

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


CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def test_it_leaves_later(serve):
    sim = serve(exit_after=0.001, exit_code=5)
    sim.leaving.wait()
    assert sim.left == [5]


def test_a_flood_writes_what_it_is_told_to():
    lines: list[str] = []

    def write_line(line):
        lines.append(line)
        raise gevent.GreenletExit

    state = SimState(SimOptions(flood=20_000), write_line, lambda code: None)
    flooding = gevent.Greenlet(state_module.flood, state)
    flooding.start()
    flooding.join()
    assert len(lines[0]) + 1 == 20_000 / state_module.FLOODS_PER_SECOND


@pytest.mark.parametrize("new_session", [False, True])
def test_a_grandchild_lives_in_our_session_or_its_own(new_session):
    pid = state_module.start_grandchild(new_session=new_session)
    assert (os.getsid(pid) == pid) is new_session
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("limit", "passed", "hung_up"), [(1, [b"a"], True), (3, [b"a", b"b"], False)]
)
def test_a_stream_is_cut_after_so_many_chunks(limit, passed, hung_up):
    calls: list[str] = []
    client = types.SimpleNamespace(hang_up=lambda: calls.append("hang up"))
    state = SimState(SimOptions(), calls.append, lambda code: None)
    assert list(state_module.cut(state, client, [b"a", b"b"], limit)) == passed
    assert ("hang up" in calls) is hung_up


@pytest.mark.parametrize(
    ("options", "query"), [({"break_stream_after": 2}, ""), ({}, "?sim_break=2")]
)
def test_a_broken_stream_has_no_end(serve, options, query):
    sim = serve(**options)
    with pytest.raises(IncompleteRead) as broken:
        sim.post(f"/v1/chat/completions{query}", {**CHAT, "stream": True})
    assert broken.value.partial.count(b"data:") == 2
    assert sim.post("/v1/chat/completions", CHAT).status == 200
