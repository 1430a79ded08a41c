"""Swaps under load, hostile servers, crashes: no request lost, no process left."""

import os
import random
import signal

import gevent
import pytest

from tests.e2e.harness import STOP_LIMIT_S, children_with

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

CONFIG = """\
startPort: {port}
unloadTimeout: 1
macros:
  sim: {sim}
models:
  good:
    cmd: ${{sim}} --tokens-per-second 20
  stubborn:
    cmd: ${{sim}} --ignore-sigterm
  forking:
    cmd: ${{sim}} --fork-grandchild --grandchild-new-session
  flooding:
    cmd: ${{sim}} --flood 50000000
  slow:
    cmd: ${{sim}} --load-time 300
  downloading:
    cmd: sh -c 'for x in a b c d e f g h i j k l; do echo $x; sleep 0.6; done; exec ${{sim}}'
    healthCheckTimeout: 3
  endless:
    cmd: sh -c 'while :; do head -c 2000000 /dev/zero >/dev/null; sleep 0.2; done' ${{PORT}}
    healthCheckTimeout: 3
    loadTimeout: 6.5
  mortal:
    cmd: ${{sim}} --exit-after-requests 1 --exit-code 9
groups:
  patient: {{swap: false, exclusive: false, members: [downloading, endless]}}
"""


def test_fifty_clients_of_two_models_all_succeed_without_thrashing(start) -> None:
    server = start(SWAPPING)

    def client(number: int) -> list[int]:
        chance = random.Random(number)
        models = [chance.choice(["alpha", "beta"]) for _ in range(4)]
        return [server.chat(model).status_code for model in models]

    clients = [gevent.spawn(client, number) for number in range(50)]
    assert {status for one in clients for status in one.get()} == {200}
    done = server.swaps()
    assert len(done) <= 200 / 10
    assert all(swap["outcome"] == "done" for swap in done)


def test_a_running_stream_is_never_cut_by_another_model(start) -> None:
    server = start(SWAPPING)
    stream = server.chat("alpha", stream=True, sim_tokens=20, sim_tps=20)
    other = gevent.spawn(server.chat, "beta")
    assert b"data: [DONE]" in stream.content
    assert other.get().status_code == 200
    assert server.running() == {"beta": "ready"}


def test_a_request_outlives_the_server_of_the_first_target(start) -> None:
    server = start(
        SWAPPING.replace("0.5", "0 --hang", 1)
        + "groups: {{all: {{swap: false, members: [alpha, beta]}}}}\n"
        + "selectors: {{either: {{strategy: failover, targets: [alpha, beta]}}}}\n"
    )
    assert server.chat("beta").status_code == 200
    asked = gevent.spawn(server.chat, "either")
    state = lambda: server.get("/upstream/alpha/sim/state").json()  # noqa: E731
    server.wait_for(lambda: state()["in_flight"])
    os.kill(state()["pid"], signal.SIGKILL)
    answer = asked.get()
    assert (answer.status_code, answer.headers["X-Served-By"]) == (200, "beta")


def test_unload_during_a_load_does_not_wait_for_it(unloaded) -> None:
    server = unloaded
    load = gevent.spawn(server.chat, "slow")
    server.wait_for(lambda: server.running() == {"slow": "starting"})
    assert server.get("/unload").text == "OK"
    answer = load.get()
    assert answer.status_code == 503
    assert "unloaded" in answer.json()["error"]["message"]
    assert server.running() == {}


@pytest.mark.parametrize("model", ["stubborn", "forking", "flooding"])
def test_a_server_that_behaves_badly_still_goes(unloaded, model: str) -> None:
    server = unloaded
    answer = server.chat(model)
    assert answer.status_code == 200, answer.text
    assert server.chat("good", sim_tokens=1).status_code == 200, "it was swapped out"
    assert server.running() == {"good": "ready"}
    assert not children_with(f"--model {model}")


def test_a_load_may_go_on_as_long_as_it_makes_progress(unloaded) -> None:
    server = unloaded
    beside = gevent.spawn(server.chat, "endless")
    assert server.chat("downloading").status_code == 200, "after twice its healthCheckTimeout"
    answer = beside.get()
    assert answer.status_code == 502
    assert "not healthy within 6.5 s" in answer.json()["error"]["message"]
    assert server.running() == {"downloading": "ready"}


def test_a_server_that_dies_is_started_anew_and_a_crash_loop_is_slowed_down(unloaded) -> None:
    server, served = unloaded, 0
    while (answer := server.chat("mortal")).status_code == 200:  # the pauses grow
        served += 1
        server.wait_for(lambda: server.running() == {})
    server.wait_output("<mortal> mortal: ended with exit code 9")
    assert served >= 2, "one failure is forgiven"
    assert answer.status_code == 502
    assert answer.headers["X-Should-Retry"] == "false"
    assert "exit code 9" in answer.json()["error"]["message"]


def test_shutdown_gives_requests_in_flight_their_time(start) -> None:
    server = start(CONFIG, "--drain-timeout", "30")
    stream = server.chat("good", stream=True, sim_tokens=15)
    server.process.send_signal(signal.SIGTERM)
    assert b"data: [DONE]" in stream.content
    assert server.process.wait(STOP_LIMIT_S) == 0


def test_a_second_instance_says_who_holds_the_state(start, tmp_path) -> None:
    state = str(tmp_path / "state")
    first = start(CONFIG, "--state-dir", state, door="llmsnap")
    second = start(CONFIG, "--state-dir", state, door="llmsnap", ready=False)
    assert second.process.wait(STOP_LIMIT_S) == 1
    second.wait_output(f"pid {first.process.pid}")
