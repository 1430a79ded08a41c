"""What happens around a swap when memory is short: on a pretend card that servers report to.

A server that ends may leave what it held to another process (``--keep-memory``), as a driver that
gives memory back late; one that takes more than it says runs out of memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from llmsnap.memory.processes import started
from tests.e2e.api import error_of, serving
from tests.e2e.harness import Running

GIB = 1024**3
CONFIG = """\
startPort: {port}
queueTimeout: 30
memory: {{gpu0: 16GiB, releaseTimeout: 10}}
models:
  idle: {{cmd: "{sim} --memory gpu0=8GiB", memory: {{gpu0: 8GiB}}}}
  late: {{cmd: "{sim} --memory gpu0=8GiB --keep-memory 1", memory: {{gpu0: 8GiB}}}}
  stuck: {{cmd: "{sim} --memory gpu0=8GiB --keep-memory 60", memory: {{gpu0: 8GiB}}}}
  large: {{cmd: "{sim} --memory gpu0=12GiB", memory: {{gpu0: 12GiB}}}}
  more: {{cmd: "{sim} --memory gpu0=8.5GiB", memory: {{gpu0: 8GiB}}}}
  most: {{cmd: "{sim} --memory gpu0=17GiB", memory: {{gpu0: 14GiB}}}}
"""


class Card:
    """The pretend card of the server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(json.dumps({"gpu0": {"capacity": 16 * GIB}}))

    def take(self, gib: int) -> None:
        """Have this process hold *gib* of the card, as a program that llmsnap did not start."""
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = json.loads(self.path.read_text())
            me = f"{os.getpid()}.{started(os.getpid())}"
            document["gpu0"].setdefault("used", {})[me] = gib * GIB
            new = self.path.with_name("taken")
            new.write_text(json.dumps(document))
            new.replace(self.path)

    def kill_holders(self) -> None:
        """End the processes that models left their memory to."""
        for process in json.loads(self.path.read_text())["gpu0"].get("used", {}):
            pid = int(process.partition(".")[0])
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"time.sleep" in command.read_bytes():
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    made = Card(tmp_path / "devices.json")
    monkeypatch.setenv("LLMSNAP_DEVICES", f"file:{made.path}")
    yield made
    made.kill_holders()


@pytest.fixture
def server(card: Card, tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, CONFIG) as running:
        yield running


def swaps_to(server: Running, model: str) -> list[dict]:
    found = server.get("/api/swaps").json()["swaps"]
    return sorted((each for each in found if each["target"] == model), key=lambda one: one["id"])


def configure(server: Running, tmp_path: Path, rules: str) -> None:
    """Replace the rules beside the devices by *rules*."""
    (path,) = tmp_path.glob("config*.yaml")
    lines = path.read_text().splitlines()
    shown = [f"memory: {{gpu0: 16GiB, {rules}}}" if "memory: {gpu0: 16" in x else x for x in lines]
    path.write_text("\n".join(shown) + "\n")
    assert server.post("/api/config/reload").status_code == 200


@pytest.mark.e2e(limit_s=120)
def test_a_load_waits_for_memory_that_comes_back_late_or_as_long_as_it_may(
    server: Running, card: Card, tmp_path: Path
) -> None:
    assert server.chat("late").status_code == 200
    assert server.chat("large").status_code == 200
    phases = [each["name"] for each in swaps_to(server, "large")[-1]["phases"]]
    assert phases[-3:] == ["evict", "barrier", "load"]
    assert 'llmsnap_swap_phase_seconds_sum{model="large",phase="barrier"}' in (
        server.get("/metrics").text
    )

    configure(server, tmp_path, "releaseTimeout: 0.5, onStuck: fail")
    assert server.chat("stuck").status_code == 200
    failed = server.chat("large")
    assert (failed.status_code, error_of(failed)["code"]) == (503, "memory_held")
    assert "holds 8192 MiB" in failed.text
    card.kill_holders()

    configure(server, tmp_path, "releaseTimeout: 0.5, onStuck: wait")
    assert server.chat("stuck").status_code == 200
    waiting = gevent.spawn(server.chat, "large")
    why = server.wait_for(lambda: why_of(server, "large"))
    assert "gpu0 has 8.0 GiB free of 12.0 GiB" in why
    assert "holds 8192 MiB" in why
    card.kill_holders()
    assert waiting.get(timeout=30).status_code == 200

    configure(server, tmp_path, "releaseTimeout: 0.5, onStuck: load")
    assert server.chat("stuck").status_code == 200
    beside = server.chat("large")
    assert beside.status_code == 502
    assert "(cudaMalloc failed): ended with exit code 1; gpu0 has 8.0 GiB free" in beside.text
    outcomes = [each["outcome"] for each in swaps_to(server, "large")]
    assert outcomes == ["done", "failed", "done", "failed"], "the last one teaches nothing"
    server.wait_output(r"loaded although memory is not free: gpu0 has 8.0 GiB free.*MiB")


def why_of(server: Running, model: str) -> str:
    """What requests for *model* wait for, once its load waits for memory."""
    for entry in server.get("/running").json()["running"]:
        if entry["model"] == model and "waits for memory" in entry["why"]:
            return entry["why"]
    return ""


@pytest.mark.e2e(limit_s=120)
def test_a_load_that_runs_out_of_memory_is_tried_once_more_and_never_in_a_loop(
    server: Running,
) -> None:
    assert server.chat("idle").status_code == 200
    assert server.chat("more").status_code == 200
    first, second = swaps_to(server, "more")
    assert (first["outcome"], first["evicted"]) == ("failed", [])
    assert "it needs 8.0 GiB on gpu0, where 8.0 GiB was free" in first["error"]
    assert (second["outcome"], second["evicted"]) == ("done", ["idle"])
    assert list(server.running()) == ["more"]

    failed = server.chat("most")
    assert failed.status_code == 502
    what = "most: out of memory while loading (cudaMalloc failed): ended with exit code 1; it needs"
    assert what in failed.text
    assert len(swaps_to(server, "most")) == 2
    for _ in range(2):
        refused = server.chat("most")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "model_does_not_fit")
    assert len(swaps_to(server, "most")) == 2
    by_hand = server.post("/api/models/load/most")
    assert by_hand.status_code == 502, "its need is the declared one again"
    assert len(swaps_to(server, "most")) == 4
    assert server.get("/metrics").text.count('phase="barrier"') == 0, "nothing was late"


OUTSIDERS = """\
startPort: {port}
queueTimeout: 30
memory: {{gpu0: {{capacity: 16GiB, reserve: 1GiB}}, yield: true}}
models:
  idle: {{cmd: "{sim} --memory gpu0=8GiB", memory: {{gpu0: 8GiB}}}}
  tiny: {{cmd: "{sim} --memory gpu0=1GiB", memory: {{gpu0: 1GiB}}, evictCost: 1000}}
  large: {{cmd: "{sim} --memory gpu0=12GiB", memory: {{gpu0: 12GiB}}}}
"""


@pytest.mark.e2e(limit_s=60)
def test_idle_models_yield_to_other_programs_and_others_wait_for_them(
    card: Card, tmp_path: Path
) -> None:
    with serving(tmp_path, OUTSIDERS) as server:
        assert server.chat("idle").status_code == 200
        card.take(7)
        assert server.chat("tiny").status_code == 200  # something happens: devices are read
        server.wait_output(rf"<idle> leaves: other programs took.* gpu0: .*\({os.getpid()}\) 7168")
        server.wait_for(lambda: set(server.running()) == {"tiny"})
        bars = server.get("/api/timeline").json()["states"]["idle"]
        reasons = [bar["reason"] for bar in bars if "reason" in bar]
        assert reasons == ["other programs took the memory of gpu0"]

        server.wait_for(lambda: others(server) == 7 * GIB)
        waiting = gevent.spawn(server.chat, "large")
        why = server.wait_for(lambda: waits_for(server, "large"))
        assert "large needs 12.0 GiB on gpu0; other programs hold 7.0 GiB of gpu0" in why
        card.take(0)
        assert waiting.get(timeout=30).status_code == 200


def others(server: Running) -> int:
    """What other programs hold of the card, as measured."""
    return server.get("/api/memory").json()["devices"][0]["others"]["bytes"]


def waits_for(server: Running, model: str) -> str:
    """What requests for *model* wait for."""
    models = server.get("/api/overview").json()["models"]
    return next(each["why"] for each in models if each["model_id"] == model)
