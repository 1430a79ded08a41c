"""What happens around a swap when memory is short: on a pretend card that servers report to.

A server that ends may leave what it held to another process (``--keep-memory``), as a driver that
gives memory back late; one that takes more than it says runs out of memory.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.e2e.api import error_of
from tests.e2e.harness import Running
from tests.fakes.card import GIB, Card

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
memory: {{gpu0: 16GiB, releaseTimeout: 60}}
models:
  idle: {{cmd: "{sim} --memory gpu0=8GiB", memory: {{gpu0: 8GiB}}}}
  stuck: {{cmd: "{sim} --memory gpu0=8GiB --keep-memory 300", memory: {{gpu0: 8GiB}}}}
  large: {{cmd: "{sim} --memory gpu0=12GiB", memory: {{gpu0: 12GiB}}}}
  more: {{cmd: "{sim} --memory gpu0=8.5GiB", memory: {{gpu0: 8GiB}}}}
  most: {{cmd: "{sim} --memory gpu0=17GiB", memory: {{gpu0: 14GiB}}}}
"""


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    made = Card(tmp_path / "devices.json", monkeypatch)
    yield made
    made.kill_holders()


@pytest.fixture
def server(card: Card, start: Any) -> Running:
    return start(CONFIG)


def swaps_to(server: Running, model: str) -> list[dict]:
    found = [each for each in server.swaps() if each["target"] == model]
    return sorted(found, key=lambda one: one["id"])


def configure(server: Running, rules: str) -> None:
    """Replace the rules beside the devices by *rules*."""
    text = re.sub("gpu0: 16GiB, .*", f"gpu0: 16GiB, {rules}}}", server.config.read_text())
    server.config.write_text(text)
    assert server.post("/api/config/reload").status_code == 200


def test_a_load_waits_for_memory_that_comes_back_late_or_as_long_as_it_may(
    server: Running, card: Card
) -> None:
    load_when_stuck_is_gone(server, card)
    phases = [each["name"] for each in swaps_to(server, "large")[-1]["phases"]]
    assert phases[-3:] == ["evict", "barrier", "load"]
    assert 'llmsnap_swap_phase_seconds_sum{model="large",phase="barrier"}' in (
        server.get("/metrics").text
    )

    configure(server, "releaseTimeout: 0.5, onStuck: fail")
    assert server.chat("stuck").status_code == 200
    failed = server.chat("large")
    assert (failed.status_code, error_of(failed)["code"]) == (503, "memory_held")
    assert "holds 8192 MiB" in failed.text
    card.kill_holders()

    configure(server, "releaseTimeout: 0.5, onStuck: wait")
    why = load_when_stuck_is_gone(server, card)
    assert "gpu0 has 8.0 GiB free of 12.0 GiB" in why
    assert "holds 8192 MiB" in why

    configure(server, "releaseTimeout: 0.5, onStuck: load")
    assert server.chat("stuck").status_code == 200
    beside = server.chat("large")
    assert beside.status_code == 502
    assert "(cudaMalloc failed): ended with exit code 1; gpu0 has 8.0 GiB free" in beside.text
    outcomes = [each["outcome"] for each in swaps_to(server, "large")]
    assert outcomes == ["done", "failed", "done", "failed"], "the last one teaches nothing"
    server.wait_output(r"loaded although memory is not free: gpu0 has 8.0 GiB free.*MiB")


def load_when_stuck_is_gone(server: Running, card: Card) -> str:
    """Free the memory of *stuck* once *large* waits for it; return what *large* waits for."""
    assert server.chat("stuck").status_code == 200
    waiting = gevent.spawn(server.chat, "large")
    server.wait_for(lambda: "waits for memory" in server.view("large")["why"])
    why: str = server.view("large")["why"]
    card.kill_holders()
    assert waiting.get().status_code == 200
    return why


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
memory: {{gpu0: {{capacity: 16GiB, reserve: 1GiB}}, yield: true}}
models:
  idle: {{cmd: "{sim} --memory gpu0=8GiB", memory: {{gpu0: 8GiB}}}}
  tiny: {{cmd: "{sim} --memory gpu0=1GiB", memory: {{gpu0: 1GiB}}, evictCost: 1000}}
  large: {{cmd: "{sim} --memory gpu0=12GiB", memory: {{gpu0: 12GiB}}}}
"""


def test_idle_models_yield_to_other_programs_and_others_wait_for_them(
    card: Card, start: Any
) -> None:
    server = start(OUTSIDERS)
    assert server.chat("idle").status_code == 200
    card.take(7)
    assert server.chat("tiny").status_code == 200  # something happens: devices are read
    server.wait_output(rf"<idle> leaves: other programs took.* gpu0: .*\({os.getpid()}\) 7168")
    server.wait_for(lambda: set(server.running()) == {"tiny"})
    bars = server.get("/api/timeline").json()["states"]["idle"]
    reasons = [bar["reason"] for bar in bars if "reason" in bar]
    assert reasons == ["other programs took the memory of gpu0"]

    device = lambda: server.get("/api/memory").json()["devices"][0]  # noqa: E731
    server.wait_for(lambda: device()["others"]["bytes"] == 7 * GIB)
    waiting = gevent.spawn(server.chat, "large")
    why = "large needs 12.0 GiB on gpu0; other programs hold 7.0 GiB of gpu0"
    server.wait_for(lambda: why in server.view("large")["why"])
    card.take(0)
    assert waiting.get().status_code == 200
