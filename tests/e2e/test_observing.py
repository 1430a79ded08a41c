"""What only looks at a model's server loads none, takes no slot and keeps none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.e2e.api import serving
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

OBSERVED = ["/metrics", "/props", "/slots", "/tools", "/v1/models", "/site.webmanifest"]
CONFIG = """\
startPort: {port}
models:
  alpha:
    cmd: {sim}
    concurrencyLimit: 1
    ttl: 600
  beta:
    cmd: {sim} --sleep-time 0.01 --wake-time 0.01
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("observing"), CONFIG) as running:
        yield running


@pytest.fixture
def server(running: Running) -> Running:
    """The running server, with no model loaded."""
    assert running.get("/unload").text == "OK"
    return running


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stopped_model_is_not_loaded_and_no_other_leaves(server: Running, method: str) -> None:
    server.chat("alpha")
    for path in OBSERVED:
        answer = requests.request(method, f"{server.url}/upstream/beta{path}", timeout=20)
        assert answer.status_code == 409, path
    assert server.running() == {"alpha": "ready"}
    assert server.get("/upstream/beta/health").status_code == 200  # known tools load by it
    assert server.running() == {"beta": "ready"}


def test_a_sleeping_model_is_not_woken(server: Running) -> None:
    server.chat("beta")
    assert server.post("/api/models/sleep/beta").status_code == 200
    for row in server.get("/running").json()["running"]:  # as tools do that count loaded models
        assert server.get(f"/upstream/{row['model']}/v1/models").status_code == 409
    assert server.running() == {"beta": "asleep"}
    assert server.chat("beta").status_code == 200
    assert server.running() == {"beta": "ready"}


def test_a_busy_model_is_looked_at_without_a_slot(server: Running) -> None:
    stream = server.chat("alpha", stream=True, sim_tokens=10_000, sim_tps=5)
    with contextlib.closing(stream), contextlib.closing(stream.iter_lines()) as lines:
        assert next(lines)
        assert server.chat("alpha").status_code == 429
        for path in ["/health", "/v1/models", "/props"]:
            assert server.get(f"/upstream/alpha{path}").status_code == 200, path


def test_looking_renews_no_ttl(server: Running) -> None:
    server.chat("alpha")

    def rest_at() -> float:
        (row,) = server.get("/running").json()["running"]
        return float(row["idle_in_s"])

    renewed = rest_at()
    server.wait_for(lambda: rest_at() < renewed - 0.5)  # time goes by
    before = rest_at()
    for path in ["/health", "/v1/models", "/props"]:
        assert server.get(f"/upstream/alpha{path}").status_code == 200
    assert rest_at() <= before
    server.get("/upstream/alpha/sim/state")  # anything else does
    server.wait_for(lambda: rest_at() > before)


def test_the_list_is_the_users(start: Callable[..., Running]) -> None:
    server = start(CONFIG + "upstream:\n  observePaths: [^/health$]\n")
    assert server.get("/upstream/alpha/health").status_code == 409
    assert server.get("/upstream/alpha/v1/models").status_code == 200
    assert server.running() == {"alpha": "ready"}
