"""A memory budget with real processes on pretend cards, which refuse what is too much."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running, children_with, real_model
from tests.fakes.card import GIB, Card

pytestmark = pytest.mark.e2e

SIZES = (2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 12, 16)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(tmp_path / "devices.json", monkeypatch, count=2)


CONFIG = """\
startPort: {port}
routing: {{router: {{use: memory}}}}
models:
  huge: {{cmd: "true ${{PORT}}", memory: {{any: 17GiB}}}}
"""


MODELS = "".join(
    f"  m{number}: {{{{cmd: '{{sim}} --memory any={size}GiB', memory: {{{{any: {size}GiB}}}}}}}}\n"
    for number, size in enumerate(SIZES)
)
REQUESTS, AT_ONCE = 500, 125


@pytest.mark.usefixtures("card")
def test_two_cards_are_never_overbooked_and_no_model_leaves_without_need(start: Any) -> None:
    server = start(CONFIG + MODELS)

    def client(number: int) -> list[str]:
        chance = random.Random(number)
        models = [f"m{chance.randrange(len(SIZES))}" for _ in range(REQUESTS // AT_ONCE)]
        answers = [server.chat(model) for model in models]
        return [each.text for each in answers if each.status_code != 200]

    tasks = [gevent.spawn(client, number) for number in range(AT_ONCE)]
    gevent.joinall(tasks, raise_error=True)
    assert [text for task in tasks for text in task.value] == []  # none ran out of memory
    swaps = server.swaps()
    for plan in (each["plan"] for each in swaps if each["evicted"]):
        for frees in plan["frees"].values():
            spared = [plan["left"][name] - size for name, size in frees.items()]
            assert min(spared) < 0, "without this victim there was room"
    records = [each for each in server.records("limit=1000") if each["status"] == 200]
    assert len(records) == REQUESTS
    refused = server.chat("huge")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_does_not_fit")
    assert refused.headers["x-should-retry"] == "false"
    server.get("/unload")
    together = ("m10", "m6", "m7", "m4")  # 12 + 3 on one card, 8 + 6 on the other
    for model in together:
        assert server.chat(model).status_code == 200
    assert set(server.running()) == set(together)
    assert server.chat("m5").status_code == 200  # 7: one of them is enough
    assert len(server.running()) == 4


LEARNING = """\
startPort: {port}
routing: {{router: {{use: memory}}}}
memory: {{gpu0: {{reserve: 1GiB}}, gpu1: 2GiB}}
models:
  small: {{cmd: "{sim} --memory gpu0=6GiB", memory: {{gpu0: 4GiB}}}}
  new: {{cmd: "{sim} --memory gpu0=5GiB --asleep-memory gpu0=1GiB", sleepMode: enable,
    sleepEndpoints: [{{endpoint: /sleep}}], wakeEndpoints: [{{endpoint: /wake_up}}]}}
"""


def wait_for(server: Running, fact: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the memory once *fact* is true of it."""
    read = lambda: server.get("/api/memory").json()  # noqa: E731
    return server.wait_for(lambda: fact(found := read()) and found)


def of(rows: list[dict[str, Any]], name: str, key: str = "model") -> dict[str, Any]:
    return next((row for row in rows if row[key] == name), {})


def test_what_models_and_others_hold_is_measured_and_remembered(tmp_path: Path, card: Card) -> None:
    state = "--state-dir", str(tmp_path / "state")
    with serving(tmp_path, LEARNING, *state) as server:
        found = server.get("/api/memory").json()
        shown = {row["name"]: (row["capacity"], row["reserve"]) for row in found["devices"]}
        assert shown["gpu0"] == (16 * GIB, GIB)
        assert shown["gpu1"] == (2 * GIB, 0)
        assert of(found["models"], "new")["source"] == "unknown"
        assert server.chat("small").status_code == 200
        found = wait_for(
            server, lambda now: of(now["devices"][0]["residents"], "small").get("bytes") == 6 * GIB
        )
        assert found["devices"][0]["others"]["bytes"] == 0
        assert of(found["devices"][0]["residents"], "small")["source"] == "measured now"
        # Nothing is known of the other one: it gets the card alone, and is measured.
        assert server.chat("new").status_code == 200
        assert server.running() == {"new": "ready"}
        found = wait_for(
            server, lambda now: of(now["models"], "new")["source"].startswith("measured 20")
        )
        assert of(found["models"], "new")["need"] == {"gpu0": 5 * GIB}
        assert server.chat("small").status_code == 200
        assert set(server.running()) == {"new", "small"}
        card.take(3)
        server.post("/api/models/sleep/new")
        found = wait_for(server, lambda now: now["devices"][0]["others"]["bytes"] == 3 * GIB)
        assert f"({os.getpid()}) 3072 MiB" in found["devices"][0]["others"]["holders"]
        wait_for(server, lambda now: of(now["models"], "new")["asleep"] == {"gpu0": GIB})
    with serving(tmp_path, LEARNING, *state) as server:
        known = of(server.get("/api/memory").json()["models"], "new")
        assert known["source"].startswith("measured 20")
        assert (known["need"], known["asleep"]) == ({"gpu0": 5 * GIB}, {"gpu0": GIB})


# --- a real server --------------------------------------------------------------------------------

REAL = """\
startPort: {port}
memory: {{ram: 600MiB}}
macros:
  server: >-
    {LLMSNAP_DEMO_SERVER} --model '{LLMSNAP_DEMO_MODEL}' --host 127.0.0.1 --port ${{PORT}}
    --threads 2 --no-repack --no-ui --parallel 1 --predict 4 --temp 0
models:
  short: {{cmd: "${{server}} --ctx-size 2304"}}
  long: {{cmd: "${{server}} --ctx-size 8192"}}
"""


def resident(pid: int, model: str) -> int:
    """A process's share of anonymous memory, and all it maps of *model*, as psutil reads it."""
    maps = psutil.Process(pid).memory_maps(grouped=False)
    own = sum(each.pss for each in maps if each.path in ("[anon]", "[heap]", "[stack]"))
    return own + sum(each.rss for each in maps if each.path == model)


def test_a_real_server_is_measured_and_leaves_for_another(tmp_path: Path) -> None:
    places = real_model()
    model = places["LLMSNAP_DEMO_MODEL"]
    state = "--state-dir", str(tmp_path / "state")
    with serving(tmp_path, REAL, *state, **places) as server:
        rows = server.get("/api/memory").json()["models"]
        assert {row["source"] for row in rows} == {"estimated"}
        estimated = {row["model"]: row["need"]["ram"] for row in rows}
        assert server.chat("short").status_code == 200
        rows = wait_for(
            server, lambda now: of(now["models"], "short")["source"].startswith("measured 20")
        )["models"]
        measured = of(rows, "short")["need"]["ram"]
        (pid,) = children_with("--ctx-size 2304")
        assert measured == pytest.approx(resident(pid, os.path.realpath(model)), rel=0.1)
        assert measured <= estimated["short"] < 1.2 * measured
        assert server.chat("long").status_code == 200
        assert server.running() == {"long": "ready"}, "both together need more"
    with serving(tmp_path, REAL, *state, **places) as server:
        known = of(server.get("/api/memory").json()["models"], "short")
        assert known["source"].startswith("measured 20")
        assert known["need"]["ram"] >= measured
