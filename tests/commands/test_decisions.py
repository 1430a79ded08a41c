"""``llmsnap plan`` and ``llmsnap why``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmsnap.commands import decisions, load
from llmsnap.commands.decisions import said_of_plan, said_of_swap
from tests.commands.conftest import running

MATRIX = """
models:
  a: {cmd: "s ${PORT}", proxy: MODEL, aliases: [first]}
  b: {cmd: "s ${PORT}", proxy: MODEL}
  c: {cmd: "s ${PORT}", proxy: MODEL}
matrix:
  evict_costs: {a: 3}
  sets: {pairs: "a & b | b & c"}
"""


def test_a_running_server_says_what_a_load_would_do() -> None:
    with running(MATRIX) as server:
        said = server.run(decisions.plan, "c", "--running", "first,b")
        assert said.startswith("Loading c would evict a.\n")
        assert "Cost: 3." in said
        assert "Allowed by set pairs: b & c." in said
        answer = json.loads(server.run(decisions.plan, "c", "--json"))
        assert (answer["answer"], answer["victims"]) == ("plan", [])
        assert server.states() == {"a": "stopped", "b": "stopped", "c": "stopped"}


def test_a_swap_is_explained() -> None:
    with running(MATRIX) as server:
        server.run(load.main, "a")
        (swap,) = server.service.telemetry.last_swaps()
        said = server.run(decisions.why, str(swap["id"]))
        assert said.startswith(f"Swap {swap['id']}: start of a for load, done.\n")
        assert "Nothing was evicted." in said
        assert json.loads(server.run(decisions.why, str(swap["id"]), "--json"))["target"] == "a"


PLAN: dict[str, Any] = {
    "model": "m",
    "answer": "plan",
    "victims": [],
    "how": {},
    "cost": 0.0,
    "why": "",
    "considered": [],
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"answer": "ready"}, ["m is ready: nothing would change."]),
        (
            {"answer": "never_fits", "reason": "needs 9"},
            ["m can never be loaded: needs 9"],
        ),
        ({"answer": "blocked", "reason": "a game"}, ["m would have to wait: a game"]),
        ({}, ["Loading m would evict nothing."]),
        (
            {
                "victims": ["x", "y"],
                "how": {"x": "stop", "y": "sleep"},
                "cost": 2.5,
                "device": "gpu1",
                "considered": [{"victims": ["z"], "cost": 9.0, "lost_by": "cost"}],
            },
            [
                "Loading m would stop x and put y to sleep.",
                "Cost: 2.5.",
                "On gpu1.",
                "Not chosen: evict z, at a cost of 9: it costs more.",
            ],
        ),
    ],
)
def test_a_plan_in_sentences(answer: dict[str, Any], said: list[str]) -> None:
    assert list(said_of_plan({**PLAN, **answer})) == said


def test_a_failed_swap_in_sentences() -> None:
    swap = {
        "id": 7, "target": "m", "kind": "start", "outcome": "failed", "error": "out of memory",
        "evicted": ["x"], "reason": "request", "waiters": 2, "longest_wait_ms": 61_000,
        "phases": [{"name": "load", "ms": 60_000}], "plan": None,
    }  # fmt: skip
    assert list(said_of_swap(swap)) == [
        "Swap 7: start of m for request, failed: out of memory.",
        "Evicted: x.",
        "Times: load 60 s.",
        "Requests that waited: 2, the longest for 61 s.",
    ]
