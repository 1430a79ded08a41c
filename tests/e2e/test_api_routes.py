"""Every route that answers without a model, and what goes wrong on all of them."""

from itertools import product

import pytest
import requests

from tests.e2e.api import error_of, raw
from tests.e2e.harness import Running
from tests.parity import parity

CONFIG = """\
startPort: {port}
macros:
  sim: {sim}
models:
  zeta:
    cmd: ${{sim}} --n-ctx 8192
  alpha:
    cmd: env HF_TOKEN=hf_not_for_you ${{sim}}
    aliases: [first]
    name: " Alpha "
    description: the first
  author/model:
    cmd: ${{sim}}
  author:
    cmd: ${{sim}}
  sleeper:
    cmd: ${{sim}}
    ttl: 600
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
peers:
  box2:
    proxy: http://127.0.0.1:1
    models: [m-remote]
"""
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("unloaded")]


def test_head_is_where_get_is(server: Running) -> None:
    for path in ("/health", "/v1/models", "/running", "/api/version", "/logs"):
        got = server.get(path)
        status, headers, body = raw(server, f"HEAD {path} HTTP/1.1")
        assert (status, body) == (200, b"")
        assert headers["content-type"] == got.headers["Content-Type"]


# --- lists --------------------------------------------------------------------------------------


def listed(server: Running, path: str = "/v1/models") -> dict[str, dict]:
    return {record["id"]: record for record in server.get(path).json()["data"]}


def test_a_loaded_model_says_so_and_how_long_its_context_is(server: Running) -> None:
    server.chat("zeta")
    assert listed(server)["zeta"]["status"] == {"value": "loaded"}
    assert server.wait_for(lambda: listed(server)["zeta"].get("context_length")) == 8192
    server.get("/unload")
    zeta = listed(server)["zeta"]
    assert (zeta["status"]["value"], zeta["context_length"]) == ("unloaded", 8192)
    assert zeta["meta"]["llamaswap"]["context_source"] == "remembered"
    assert "context_length" not in listed(server)["author"]


def test_running_lists_all_that_is_not_stopped(server: Running) -> None:
    empty = server.get("/running")
    assert empty.headers["Content-Type"] == "application/json"
    assert empty.json() == {"running": []}
    server.chat("alpha")
    (one,) = server.get("/running").json()["running"]
    assert one["since"] > 1_600_000_000
    assert one["durations"]["load"]["count"] >= 1
    assert one["durations"]["load"]["p50_s"] > 0
    assert one["durations"]["wake"] == {"count": 0, "last_s": None, "p50_s": None, "p90_s": None}
    assert "HF_TOKEN=[REDACTED]" in one["cmd"]
    assert "hf_not_for_you" not in str(one)
    facts = ("model", "state", "name", "description", "ttl", "in_flight", "waiting")
    assert [one[fact] for fact in facts] == ["alpha", "ready", " Alpha ", "the first", 0, 0, 0]


def test_a_model_that_can_sleep_does_and_is_shown(server: Running) -> None:
    answer = server.post("/api/models/sleep/alpha")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "sleep_not_configured")
    assert server.post("/api/models/sleep/sleeper").text == "OK", "it is stopped"
    assert server.running() == {}
    server.post("/api/models/load/sleeper")
    assert server.post("/api/models/sleep/sleeper").text == "OK"
    (one,) = server.get("/running").json()["running"]
    assert (one["state"], one["ttl"]) == ("asleep", 600)
    assert one["durations"]["sleep"]["count"] == 1
    assert 0 < one["idle_in_s"] <= 600


# --- load, sleep, unload ------------------------------------------------------------------------


def test_load_without_waiting(server: Running) -> None:
    answer = server.post("/api/models/load/author%2Fmodel?wait=0")
    assert (answer.status_code, answer.json()) == (202, {"msg": "loading"})
    server.wait_for(lambda: server.running() == {"author/model": "ready"})


def test_unload_of_all(server: Running) -> None:
    server.chat("alpha")
    assert server.post("/api/models/unload").json() == {"msg": "ok"}
    assert server.running() == {}
    server.chat("alpha")
    answer = server.get("/unload")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert server.running() == {}


def test_only_models_of_our_own_are_acted_on(server: Running) -> None:
    server.chat("alpha")
    for act, name in product(["load", "unload", "sleep"], ["nope", "a%3Fb", "box2/m-remote"]):
        answer = server.post(f"/api/models/{act}/{name}")
        assert answer.status_code == 404
        assert error_of(answer)["message"].startswith("model not found: ")
    for path in ("unload/", "sleep/", "load"):
        assert server.post(f"/api/models/{path}").status_code == 404, path
    assert server.running() == {"alpha": "ready"}


# --- /props -------------------------------------------------------------------------------------


@parity(
    "`/props`",
    "`GET /props?model=` loads the model",
    "the properties of its last load, or what is known of it; `autoload=1` loads it",
)
def test_props_of_a_model_are_remembered_and_never_load_it(server: Running) -> None:
    loaded = server.get("/props?model=zeta&autoload=1").json()
    assert loaded["default_generation_settings"]["n_ctx"] == 8192
    assert server.get("/props?model=zeta").json() == loaded, "a ready model answers itself"
    server.wait_for(lambda: "context_length" in listed(server)["zeta"])
    server.get("/unload")
    for more in ("", "&autoload=0", "&autoload=false"):
        answer = server.get(f"/props?model=zeta{more}")
        assert (answer.status_code, answer.json()) == (200, {**loaded, "loaded": False})
    assert requests.head(f"{server.url}/props?model=zeta", timeout=20).status_code == 200
    assert server.running() == {}
