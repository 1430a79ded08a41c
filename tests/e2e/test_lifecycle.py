"""Swaps under load, hostile servers, crashes: no request lost, no process left."""

import os
import random
import re
import signal
from collections.abc import Iterator

import gevent
import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running, children_with

pytestmark = pytest.mark.e2e

SWAPPING = """\
startPort: {port}
macros:
  sim: {sim}
models:
  alpha:
    cmd: ${{sim}} --load-time 0.5
  beta:
    cmd: ${{sim}} --load-time 0.5
routing:
  scheduler:
    settings:
      fair:
        maxHold: 5
"""

HOSTILE = """\
startPort: {port}
healthCheckTimeout: 15
unloadTimeout: 1
macros:
  sim: {sim}
models:
  good:
    cmd: ${{sim}} --tokens-per-second 20 --tokens 60
  stubborn:
    cmd: ${{sim}} --ignore-sigterm
  forking:
    cmd: ${{sim}} --fork-grandchild --grandchild-new-session
  flooding:
    cmd: ${{sim}} --flood 50000000
  slow:
    cmd: ${{sim}} --load-time 30
  never:
    cmd: ${{sim}} --never-healthy
    healthCheckTimeout: 1
  downloading:
    cmd: sh -c 'for x in a b c d e; do echo $x; sleep 0.4; done; exec ${{sim}} --port ${{PORT}}'
    healthCheckTimeout: 1
  endless:
    cmd: sh -c 'while :; do head -c 2000000 /dev/zero >/dev/null; sleep 0.2; done' ${{PORT}}
    healthCheckTimeout: 1
    loadTimeout: 2.5
  mortal:
    cmd: ${{sim}} --exit-after-requests 1 --exit-code 9
  sleeper:
    cmd: ${{sim}}
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  insomniac:
    cmd: ${{sim}} --fail-sleep
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  coma:
    cmd: ${{sim}} --fail-wake
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  dying:
    cmd: ${{sim}} --die-on-wake
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
"""


def swaps(server) -> list[dict]:
    return server.get("/api/swaps").json()["swaps"]


def together(calls) -> list[object]:
    tasks = [gevent.Greenlet(call) for call in calls]
    for task in tasks:
        task.start()
    gevent.joinall(tasks, raise_error=True)
    return [task.value for task in tasks]


@pytest.fixture(scope="module")
def swapping_all_along(tmp_path_factory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("swapping"), SWAPPING) as running:
        yield running


@pytest.fixture
def swapping(swapping_all_along: Running) -> Running:
    """The server of two models that swap, with none loaded."""
    assert swapping_all_along.get("/unload").text == "OK"
    return swapping_all_along


@pytest.mark.e2e(limit_s=120)
def test_fifty_clients_of_two_models_all_succeed_without_thrashing(swapping) -> None:
    server, before = swapping, len(swaps(swapping))

    def client(number: int) -> list[int]:
        chance = random.Random(number)
        models = [chance.choice(["alpha", "beta"]) for _ in range(4)]
        return [server.chat(model).status_code for model in models]

    answers = together([lambda n=n: client(n) for n in range(50)])
    assert {status for one in answers for status in one} == {200}
    done = swaps(server)[before:]
    assert len(done) <= 200 / 10
    assert all(swap["outcome"] == "done" for swap in done)


def test_a_running_stream_is_never_cut_by_another_model(swapping) -> None:
    server = swapping
    stream = server.chat("alpha", stream=True, sim_tokens=20, sim_tps=20)
    lines = stream.iter_lines()
    next(lines)
    other = gevent.Greenlet(server.chat, "beta")
    other.start()
    rest = list(lines)
    assert b"data: [DONE]" in rest
    other.join()
    assert other.value.status_code == 200
    assert server.running() == {"beta": "ready"}


def sent_to_alpha(server) -> dict | None:
    """The entry of alpha in the list of models that run, once it answers a request."""
    running = server.get("/running").json()["running"]
    return next((one for one in running if one["model"] == "alpha" and one["in_flight"]), None)


def test_a_request_outlives_the_server_of_the_first_target(start) -> None:
    server = start(
        SWAPPING
        + "groups: {{all: {{swap: false, members: [alpha, beta]}}}}\n"
        + "selectors: {{either: {{strategy: failover, targets: [alpha, beta]}}}}\n"
    )
    assert server.chat("beta").status_code == 200
    asked = gevent.Greenlet(server.chat, "either", sim_tokens=40, sim_tps=20)
    asked.start()
    entry = server.wait_for(lambda: sent_to_alpha(server))
    (pid,) = children_with(f"--port {entry['proxy'].rpartition(':')[2]} ")
    os.kill(pid, signal.SIGKILL)
    answer = asked.get(timeout=10)
    assert (answer.status_code, answer.headers["X-Served-By"]) == (200, "beta")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("hostile"), HOSTILE) as running:
        yield running


@pytest.fixture
def server(hostile: Running) -> Running:
    """The server of all hostile models, with none loaded."""
    assert hostile.get("/unload").text == "OK"
    return hostile


def test_unload_during_a_load_does_not_wait_for_it(server) -> None:
    load = gevent.Greenlet(server.chat, "slow")
    load.start()
    server.wait_for(lambda: server.running() == {"slow": "starting"})
    assert server.get("/unload").text == "OK"
    load.join()
    assert load.value.status_code == 503
    assert "unloaded" in load.value.json()["error"]["message"]
    assert server.running() == {}


@pytest.mark.parametrize("model", ["stubborn", "forking", "flooding"])
def test_a_server_that_behaves_badly_still_goes(server, model: str) -> None:
    answer = server.chat(model)
    assert answer.status_code == 200, answer.text
    assert server.chat("good", sim_tokens=1).status_code == 200, "it was swapped out"
    assert server.running() == {"good": "ready"}
    assert not children_with(f"--model {model}")


def test_a_server_that_never_gets_healthy_is_explained_and_stopped(server) -> None:
    answer = server.chat("never")
    assert answer.status_code == 502
    assert re.search("(within|no progress for) 1 s", answer.json()["error"]["message"])
    assert server.running() == {}


def test_a_load_may_go_on_as_long_as_it_makes_progress(server) -> None:
    assert server.chat("downloading").status_code == 200, "after twice its healthCheckTimeout"
    answer = server.chat("endless")
    assert answer.status_code == 502
    assert "not healthy within 2.5 s" in answer.json()["error"]["message"]


def test_a_server_that_dies_is_started_anew_and_a_crash_loop_is_slowed_down(server) -> None:
    statuses = []
    for _ in range(4):
        answer = server.chat("mortal")
        statuses.append(answer.status_code)
        server.wait_for(lambda: server.running() == {})
        server.wait_output("<mortal> mortal: ended with exit code 9")
    assert statuses[:2] == [200, 200], "one failure is forgiven"
    assert statuses[-1] == 502
    assert answer.headers["X-Should-Retry"] == "false"
    assert "exit code 9" in answer.json()["error"]["message"]


def test_sleep_and_wake_by_requests_and_by_hand(server) -> None:
    server.chat("sleeper")
    server.chat("good", sim_tokens=1)
    assert server.running() == {"good": "ready", "sleeper": "asleep"}
    server.chat("sleeper")
    assert server.running() == {"sleeper": "ready"}
    assert swaps(server)[-1]["kind"] == "wake"
    assert server.post("/api/models/sleep/sleeper").text == "OK"
    assert server.post("/api/models/sleep/good").status_code == 409


def test_sleep_and_wake_that_fail(server) -> None:
    server.chat("insomniac")
    answer = server.post("/api/models/sleep/insomniac")
    assert answer.status_code == 502
    assert "stopped" in answer.json()["error"]["message"]
    assert server.running() == {}
    for model in ("coma", "dying"):
        server.chat(model)
        server.post(f"/api/models/sleep/{model}")
        assert server.chat(model).status_code == 200, "it was started anew"


def test_shutdown_gives_requests_in_flight_their_time(start) -> None:
    server = start(HOSTILE, "--drain-timeout", "5")
    stream = server.chat("good", stream=True, sim_tokens=15)
    lines = stream.iter_lines()
    next(lines)
    server.process.send_signal(signal.SIGTERM)
    assert b"data: [DONE]" in list(lines)
    assert server.process.wait(20) == 0


def test_a_second_instance_says_who_holds_the_state(start, tmp_path) -> None:
    state = str(tmp_path / "state")
    first = start(HOSTILE, "--state-dir", state, door="llmsnap")
    second = start(HOSTILE, "--state-dir", state, door="llmsnap", ready=False)
    assert second.process.wait(20) == 1
    second.wait_output(f"pid {first.process.pid}")


def test_wishes_of_a_request(swapping) -> None:
    server = swapping
    headers = {"X-Swap": "never"}
    body = {"model": "alpha", "messages": [{"role": "user", "content": "hi"}]}
    answer = server.post("/v1/chat/completions", body, headers=headers)
    assert answer.status_code == 409
    assert "alpha is stopped" in answer.json()["error"]["message"]
    stream = server.chat("beta", stream=True, sim_tokens=100, sim_tps=20)
    answer = server.post("/v1/chat/completions", body, headers={"X-Max-Wait": "0.3"})
    assert answer.status_code == 503
    assert "beta" in answer.json()["error"]["message"], "it says who was in the way"
    stream.close()
