"""Plans and swaps in words, as the web UI and the command line show them."""

from __future__ import annotations

from typing import Any

import pytest

from llmsnap.routing.sentences import said_of_plan, said_of_swap, summary_of_plan

GIB = 1024**3
PLAN: dict[str, Any] = {
    "model": "m", "answer": "plan", "victims": [], "how": {}, "cost": 0.0, "why": "",
    "considered": [], "leaving": [], "eta_s": None,
}  # fmt: skip
X = {"model": "x", "action": "stop", "frees": 14 * GIB, "busy": False, "idle_s": 185.0}
Y = {"model": "y", "action": "sleep", "frees": None, "busy": True, "idle_s": None}


@pytest.mark.parametrize(
    ("answer", "summary", "said"),
    [
        ({"answer": "ready"}, "is ready", ["m is ready: nothing would change."]),
        (
            {"answer": "never_fits", "reason": "it needs 9"},
            "never fits: it needs 9",
            ["m can never be loaded: it needs 9."],
        ),
        (
            {"answer": "blocked", "reason": "a game"},
            "has to wait: a game",
            ["m would have to wait: a game."],
        ),
        ({}, "nothing has to leave", ["Loading m would evict nothing."]),
        (
            {"device": "", "eta_s": 8.24},
            "fits: nothing has to leave",
            ["Loading m would evict nothing.", "It would be ready in about 8.2 s."],
        ),
        (
            {"answer": "under_way", "victims": ["x"], "leaving": [X], "cost": 1.0},
            "is being loaded",
            ["m is being loaded; x leaves for it.", "Cost: 1."],
        ),
        (
            {
                "victims": ["x", "y"], "leaving": [X, Y], "cost": 2.51234, "device": "gpu1",
                "why": "m needs 20 GiB",
                "considered": [{"victims": ["v", "w", "z"], "cost": 9.0, "lost_by": "cost"}],
            },
            "evicts x (14 GiB, idle 3 min) and y (busy)",
            [
                "Loading m would stop x (14 GiB, idle 3 min) and put y (busy) to sleep.",
                "Why: m needs 20 GiB.",
                "Cost: 2.51.",
                "On gpu1.",
                "Not chosen: evict v, w and z, at a cost of 9: it costs more.",
            ],
        ),
    ],
)  # fmt: skip
def test_a_plan_in_words(answer: dict[str, Any], summary: str, said: list[str]) -> None:
    assert summary_of_plan({**PLAN, **answer}) == summary
    assert list(said_of_plan({**PLAN, **answer})) == said


SWAP: dict[str, Any] = {
    "id": 7, "target": "m", "kind": "wake", "outcome": "done", "error": "", "evicted": [],
    "reason": "preload", "waiters": 0, "longest_wait_ms": 0, "phases": [], "plan": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        ({}, ["Swap 7 woke m as a preload.", "Nothing was evicted."]),
        (
            {"outcome": "aborted", "reason": "load"},
            ["Swap 7 to m, by hand, was given up.", "Nothing was evicted."],
        ),
        (
            {
                "outcome": "failed", "error": "no memory; its last output:\nline", "evicted": ["x"],
                "reason": "request", "waiters": 2, "longest_wait_ms": 61_000,
                "phases": [{"name": "evict", "ms": 400}, {"name": "load", "ms": 60_000}],
                "plan": {**PLAN, "victims": ["x"], "cost": 3.0},
            },
            [
                "Swap 7 to m, for a request, failed: no memory.",
                "Evicted: x.",
                "Cost: 3.",
                "Times: evicted 0.4 s, loaded 60 s.",
                "Requests that waited: 2, the longest for 61 s.",
            ],
        ),
    ],
)  # fmt: skip
def test_a_swap_in_sentences(swap: dict[str, Any], said: list[str]) -> None:
    assert list(said_of_swap({**SWAP, **swap})) == said
