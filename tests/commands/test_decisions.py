"""``llmsnap plan`` and ``llmsnap why``."""

from __future__ import annotations

import json

from llmsnap.commands import decisions, load
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
        assert said.startswith("Loading c would stop a.\n")
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
        assert said.startswith(f"Swap {swap['id']} loaded a by hand.\n")
        assert "Nothing was evicted." in said
        assert json.loads(server.run(decisions.why, str(swap["id"]), "--json"))["target"] == "a"
