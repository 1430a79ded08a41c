"""Plans and swaps in words, as the web UI and the command line show them."""

from typing import Any

import pytest

from llmsnap.routing.sentences import said_of_plan, said_of_request, said_of_swap, summary_of_plan

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
        ({}, "can load: nothing has to leave", ["Loading m would evict nothing."]),
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
                "victims": ["x", "y"], "leaving": [X, Y], "cost": 2.51234, "answers_s": 1.5,
                "device": "gpu1",
                "why": "m needs 20 GiB",
                "considered": [{"victims": ["v", "w", "z"], "cost": 9.0, "lost_by": "cost"}],
            },
            "evicts x (14 GiB, idle 3 min) and y (busy)",
            [
                "Loading m would stop x (14 GiB, idle 3 min) and put y (busy) to sleep.",
                "Why: m needs 20 GiB.",
                "Cost: 2.51 (the time to load again what leaves, weighted by how likely it is "
                "needed soon, and 1.5 s that its answers are likely to take).",
                "Placed on gpu1.",
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


ASKED: dict[str, Any] = {
    **SWAP, "kind": "start", "evicted": ["x"], "how": {"x": "sleep"}, "reason": "request",
    "waiters": 2, "longest_wait_ms": 61_000, "started_ms": 9_000,
    "asked_by": [
        {"request_id": "r-1", "key_name": "wiki"}, {"request_id": "r-2", "key_name": None},
    ],
    "phases": [{"name": "wait", "ms": 1000}, {"name": "load", "ms": 60_000}],
    "when": {"rule": "hold", "due_ms": 9_000, "hold_ms": 800, "turn_ms": 4_000, "reopened": True},
    "memory": [{"device": "gpu0", "capacity_bytes": 24 * GIB, "before_bytes": 16 * GIB,
                "after_bytes": None}],
    "prompt_tokens": {"saved": 1462, "restored": 800},
}  # fmt: skip


def test_a_swap_says_who_asked_and_why_at_that_time() -> None:
    assert list(said_of_swap(ASKED)) == [
        "Swap 7 loaded m for a request.",
        "Asked for by r-1 (key wiki) and r-2.",
        "Decided after 1.0 s: busy models are left alone until the oldest request has waited 0.8 s"
        ".",
        "Requests in flight took so long that new ones were let in once more.",
        "Evicted: x (put to sleep).",
        "Times: waited 1.0 s, loaded 60 s.",
        "Prompts: 1462 tokens saved, 800 tokens restored.",
        "Requests that waited: 2, the longest for 61 s.",
        "gpu0: models held 16 GiB of 24 GiB before, 0 GiB after.",
    ]


@pytest.mark.parametrize(
    ("when", "wait_ms", "said"),
    [
        ({"rule": "turn", "due_ms": 8_200}, 1_000, [
            "Decided after 1.0 s: each busy model that is to leave has a turn of 4.0 s.",
            "Other swaps went first, or other models were busy, for 0.8 s.",
        ]),
        ({"rule": "idle"}, 1_000, [
            "Decided after 1.0 s: idle models may leave at any time.",
            "Other swaps went first, or other models were busy, for 1.0 s.",
        ]),
        ({"rule": "free"}, 1, ["Decided at once: no model had to leave."]),
    ],
)  # fmt: skip
def test_when_a_swap_was_decided_in_sentences(
    when: dict[str, Any], wait_ms: int, said: list[str]
) -> None:
    usual = {"due_ms": None, "hold_ms": 0, "turn_ms": 4_000, "reopened": False}
    waited = {"when": {**usual, **when}, "phases": [{"name": "wait", "ms": wait_ms}]}
    assert list(said_of_swap({**ASKED, **waited}))[2:-5] == said


REQUEST = {"request_id": "r-2", "model_id": "m", "swap_id": 7, "queue_ms": 1000, "load_ms": 60_000}
WAITED = "Request r-2 waited 1.0 s for its turn, 60 s for m to load."


@pytest.mark.parametrize(
    ("request_", "swap", "said"),
    [
        ({}, ASKED, [WAITED, "Its place was 2 of 2.", *said_of_swap(ASKED)]),
        ({}, SWAP, [WAITED, *said_of_swap(SWAP)]),
        ({}, None, [
            WAITED, "It waited for swap 7, which is still under way, or no longer known.",
        ]),
        ({"swap_id": None, "load_ms": None}, None, [
            "Request r-2 waited 1.0 s for its turn, 0.0 s for m to load.",
        ]),
        ({"swap_id": None, "queue_ms": None}, None, [
            "Request r-2 did not wait for m: it was ready.",
        ]),
        ({"position": 2, "why": "a is busy", "eta_s": 4.0}, None, [
            "Request r-2 waits for m, at place 2 in its queue.",
            "Why: a is busy.",
            "It may take another 4.0 s.",
            "Swap 7 loads m now.",
        ]),
        ({"position": 1, "why": "a game", "eta_s": None, "swap_id": None}, None, [
            "Request r-2 waits for m, at place 1 in its queue.",
            "Why: a game.",
        ]),
    ],
)  # fmt: skip
def test_a_wait_in_sentences(
    request_: dict[str, Any], swap: dict[str, Any] | None, said: list[str]
) -> None:
    assert list(said_of_request({**REQUEST, **request_}, swap)) == said
