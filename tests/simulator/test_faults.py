import os
import signal
import types
from http.client import IncompleteRead

import gevent
import pytest

from llmsnap.simulator import faults
from llmsnap.simulator.options import Options
from llmsnap.simulator.state import State

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

    state = State(Options(flood=20_000), write_line, lambda code: None)
    flooding = gevent.Greenlet(faults.flood, state)
    flooding.start()
    flooding.join()
    assert len(lines[0]) + 1 == 20_000 / faults.FLOODS_PER_SECOND


@pytest.mark.parametrize("new_session", [False, True])
def test_a_grandchild_lives_in_our_session_or_its_own(new_session):
    pid = faults.start_grandchild(new_session=new_session)
    assert (os.getsid(pid) == pid) is new_session
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("limit", "passed", "hung_up"), [(1, [b"a"], True), (3, [b"a", b"b"], False)]
)
def test_a_stream_is_cut_after_so_many_chunks(limit, passed, hung_up):
    calls: list[str] = []
    client = types.SimpleNamespace(hang_up=lambda: calls.append("hang up"))
    state = State(Options(), calls.append, lambda code: None)
    assert list(faults.cut(state, client, [b"a", b"b"], limit)) == passed
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
