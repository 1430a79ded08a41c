"""Sleep, faults, and what a server counts."""

import os
import signal
import types
from http.client import IncompleteRead

import gevent
import pytest

from llmsnap.simulator import state as state_module
from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.state import SimState

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


def says(sim):
    answer = sim.post(PATH, CHAT)
    return answer.json["choices"][0]["message"]["content"] if answer.status == 200 else None


def told(sim):
    """Whether it says it is asleep, which parts are, at which level, and the MiB it holds."""
    state = sim.get("/sim/state").json
    assert sim.get("/is_sleeping").json == {"is_sleeping": bool(state["asleep"])}
    return state["asleep"], state["sleep_level"], state["memory_bytes"] >> 20


def test_it_sleeps_and_wakes_at_once_or_part_by_part(serve):
    sim = serve(memory=1)
    for path, state in (
        ("/sleep?level=2", (["kv_cache", "weights"], 2, 0)),
        ("/wake_up", ([], 0, 1)),
        ("/sleep", (["kv_cache", "weights"], 1, 0)),
        ("/wake_up?tags=weights", (["kv_cache"], 1, 0)),
        ("/wake_up?tags=kv_cache", ([], 0, 1)),
    ):
        assert sim.post(path).status == sim.get("/health").status == 200
        assert told(sim) == state
        assert (says(sim) is None) is bool(state[0])


def test_a_sleep_or_wake_that_fails_changes_nothing(serve):
    sim = serve(fail_sleep=True)
    assert sim.post("/sleep").status == 500
    assert "hello" in says(sim)
    sim = serve(fail_wake=True, sleep_time=0.001, wake_time=0.001)
    assert sim.post("/sleep").status == 200
    assert sim.post("/wake_up").status == 500
    assert sim.get("/is_sleeping").json["is_sleeping"]


def test_after_a_bad_wake_it_says_garbage_until_the_weights_are_reloaded(serve):
    sim = serve(corrupt_after_wake=True)
    sim.post("/wake_up")
    assert "hello" in says(sim), "it was awake"
    sim.post("/sleep")
    sim.post("/wake_up")
    assert "hello" not in says(sim)
    assert sim.post("/collective_rpc", {"method": "reload_weights"}).status == 200
    assert "hello" in says(sim)


def test_answers_can_differ_harmlessly(serve):
    sim = serve(recase_after_wake=True)
    before = says(sim)
    sim.post("/sleep")
    sim.post("/wake_up")
    assert says(sim) != before
    assert says(sim).lower().split() == before.lower().split()
    sim = serve(vary=True)
    assert says(sim) != says(sim)


def test_inference_can_fail_while_it_is_healthy(serve):
    sim = serve(fail=True)
    assert sim.post(PATH, CHAT).status == 500
    assert sim.get("/health").status == 200


def test_it_can_die_instead(serve):
    sim = serve(die_on_sleep=True, die_on_wake=True, exit_code=7)
    sim.post("/sleep")
    sim.post("/wake_up")
    assert sim.left == [7, 7]


@pytest.mark.parametrize("path", [PATH, "/sleep"])
def test_a_hanging_server_holds_the_request_until_its_client_leaves(serve, path):
    sim = serve(hang=True, hang_sleep=True)
    connection = sim.begin(path)
    assert bool(sim.state.in_flight) is not bool(sim.state.asleep)
    connection.close()
    assert sim.line_with("client gone").startswith(f"POST {path} 499")
    assert (sim.state.in_flight, sim.state.gone) == (0, 1)


def test_it_leaves_after_the_requests_allowed_or_later(serve):
    sim = serve(exit_after_requests=2, exit_code=4)
    sim.get("/health")
    sim.post(PATH, CHAT)
    assert sim.left == []
    sim.post(PATH, b"no json")
    assert sim.left == [4]
    assert (sim.state.requests, sim.state.in_flight) == (2, 0)
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
        sim.post(f"{PATH}{query}", {**CHAT, "stream": True})
    assert broken.value.partial.count(b"data:") == 2
    assert sim.post(PATH, CHAT).status == 200
