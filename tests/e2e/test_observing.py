"""What only looks at a model's server loads none, takes no slot and keeps none."""

import contextlib
from collections.abc import Callable

import gevent
import pytest
import requests

from tests.e2e.harness import Running

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("unloaded")]

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

    def renews(path: str) -> bool:
        """Whether its idle time ends later after a request than before it."""
        before = server.view("alpha")["rest_in_s"]
        assert server.get(f"/upstream/alpha{path}").status_code == 200
        return server.view("alpha")["rest_in_s"] > before

    assert not any(map(renews, ["/health", "/v1/models", "/props"]))
    # Anything else does, which shows once it was idle for longer than requests take.
    pauses_s = iter([0.2, 0.5, 1, 2, 4, 8])
    server.wait_for(lambda: gevent.sleep(next(pauses_s)) or renews("/sim/state"))


def test_the_list_is_the_users(start: Callable[..., Running]) -> None:
    server = start(CONFIG + "upstream:\n  observePaths: [^/health$]\n")
    assert server.get("/upstream/alpha/health").status_code == 409
    assert server.get("/upstream/alpha/v1/models").status_code == 200
    assert server.running() == {"alpha": "ready"}
