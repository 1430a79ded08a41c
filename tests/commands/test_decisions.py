"""``llmsnap plan`` and ``llmsnap why``."""

import json

import pytest
import requests

from llmsnap.commands import decisions, load
from llmsnap.errors import CommandFailed
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
        with pytest.raises(CommandFailed, match="no swap since"):
            server.run(decisions.why)
        server.run(load.main, "a")
        (swap,) = server.service.telemetry.last_swaps()
        said = server.run(decisions.why, str(swap["id"]))
        assert said.startswith(f"Swap {swap['id']} loaded a by hand.\n")
        assert "Nothing was evicted." in said
        assert server.run(decisions.why) == said
        assert json.loads(server.run(decisions.why, str(swap["id"]), "--json"))["target"] == "a"


def test_a_request_is_found_by_its_id_or_the_number_of_its_record() -> None:
    with running(MATRIX) as server:
        address = f"{server.url}/v1/chat/completions"
        body, headers = {"model": "a", "messages": []}, {"X-Request-Id": "r-9"}
        requests.post(address, json=body, headers=headers, timeout=9).raise_for_status()
        server.service.deferred.flush()
        (record,) = server.service.records()
        for what in (["r-9"], [str(record.id), "--request"]):
            said = server.run(decisions.why, *what)
            assert said.startswith("Request r-9 waited ")
            assert f"Its place was 1 of 1.\nSwap {record.swap_id} loaded a for a request.\n" in said
            assert "Asked for by r-9.\nDecided at once: no model had to leave.\n" in said
        assert json.loads(server.run(decisions.why, "r-9", "--json"))["request"]["id"] == record.id
        with pytest.raises(CommandFailed, match="no request of this id is in flight"):
            server.run(decisions.why, "nothing")
