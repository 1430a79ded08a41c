"""Swaps under load, hostile servers, crashes: no request lost, no process left."""

import json
import random
import signal

import gevent
import pytest

from tests.e2e.harness import children_with, text_of

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


@pytest.mark.e2e(limit_s=120)
def test_fifty_clients_of_two_models_all_succeed_without_thrashing(start) -> None:
    server = start(SWAPPING)

    def client(number: int) -> list[int]:
        chance = random.Random(number)
        models = [chance.choice(["alpha", "beta"]) for _ in range(8)]
        return [server.chat(model).status_code for model in models]

    answers = together([lambda n=n: client(n) for n in range(50)])
    assert {status for one in answers for status in one} == {200}
    assert len(swaps(server)) <= 400 / 10
    assert all(swap["outcome"] == "done" for swap in swaps(server))


def test_a_running_stream_is_never_cut_by_another_model(start) -> None:
    server = start(SWAPPING)
    stream = server.chat("alpha", stream=True, sim_tokens=60, sim_tps=20)
    lines = stream.iter_lines()
    next(lines)
    other = gevent.Greenlet(server.chat, "beta")
    other.start()
    rest = list(lines)
    assert b"data: [DONE]" in rest
    other.join()
    assert other.value.status_code == 200
    assert server.running() == {"beta": "ready"}


def test_unload_during_a_load_does_not_wait_for_it(start) -> None:
    server = start(HOSTILE)
    load = gevent.Greenlet(server.chat, "slow")
    load.start()
    server.wait_for(lambda: server.running() == {"slow": "starting"})
    assert server.get("/unload").text == "OK"
    load.join()
    assert load.value.status_code == 503
    assert "unloaded" in load.value.json()["error"]["message"]
    assert server.running() == {}


@pytest.mark.parametrize("model", ["stubborn", "forking", "flooding"])
def test_a_server_that_behaves_badly_still_goes(start, model: str) -> None:
    server = start(HOSTILE)
    answer = server.chat(model)
    assert answer.status_code == 200, answer.text
    assert server.chat("good").status_code == 200, "it was swapped out"
    assert server.running() == {"good": "ready"}
    assert not children_with(f"--model {model}")


def test_a_server_that_never_gets_healthy_is_explained_and_stopped(start) -> None:
    server = start(HOSTILE)
    answer = server.chat("never")
    assert answer.status_code == 502
    assert "not healthy within 1 s" in answer.json()["error"]["message"]
    assert server.running() == {}


def test_a_server_that_dies_is_started_for_the_next_request(start) -> None:
    server = start(HOSTILE)
    assert server.chat("mortal").status_code == 200
    server.wait_for(lambda: server.running() == {})
    server.wait_output("<mortal> mortal: ended with exit code 9")
    assert server.chat("mortal").status_code == 200


def test_a_crash_loop_is_slowed_down_and_said_so(start) -> None:
    server = start(HOSTILE)
    statuses = []
    for _ in range(4):
        answer = server.chat("mortal")
        statuses.append(answer.status_code)
        server.wait_for(lambda: server.running() == {})
    assert statuses[:2] == [200, 200], "one failure is forgiven"
    assert statuses[-1] == 502
    assert answer.headers["X-Should-Retry"] == "false"
    assert "exit code 9" in answer.json()["error"]["message"]


def test_sleep_and_wake_by_requests_and_by_hand(start) -> None:
    server = start(HOSTILE)
    server.chat("sleeper")
    server.chat("good")
    assert server.running() == {"good": "ready", "sleeper": "asleep"}
    server.chat("sleeper")
    assert server.running() == {"sleeper": "ready"}
    assert swaps(server)[-1]["kind"] == "wake"
    assert server.post("/api/models/sleep/sleeper").text == "OK"
    assert server.post("/api/models/sleep/good").status_code == 409


def test_sleep_and_wake_that_fail(start) -> None:
    server = start(HOSTILE)
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
    server.chat("good")
    stream = server.chat("good", stream=True)
    lines = stream.iter_lines()
    next(lines)
    server.process.send_signal(signal.SIGTERM)
    assert b"data: [DONE]" in list(lines)
    assert server.process.wait(20) == 0


@pytest.mark.e2e(limit_s=120)
def test_a_killed_server_leaves_neither_process_nor_port(start, tmp_path) -> None:
    chance = random.Random(7)
    for _ in range(4):
        server = start(HOSTILE, "--state-dir", str(tmp_path / "state"))
        for model in chance.sample(["good", "stubborn", "forking"], 2):
            gevent.Greenlet(server.chat, model).start()
        gevent.sleep(chance.random())  # the moment of the kill is what varies
        server.stop(signal.SIGKILL)
    last = start(HOSTILE, "--state-dir", str(tmp_path / "state"))
    assert last.chat("good").status_code == 200
    last.stop()


def test_a_second_instance_says_who_holds_the_state(start, tmp_path) -> None:
    state = str(tmp_path / "state")
    first = start(HOSTILE, "--state-dir", state, door="llmsnap")
    second = start(HOSTILE, "--state-dir", state, door="llmsnap", ready=False)
    assert second.process.wait(20) == 1
    second.wait_output(f"pid {first.process.pid}")


def test_loading_state_is_shown_and_ends_well_or_badly(start) -> None:
    server = start(SWAPPING.replace("models:", "sendLoadingState: true\nmodels:"))
    documents = [
        json.loads(line[6:])
        for line in server.chat("alpha", stream=True).iter_lines()
        if line.startswith(b"data: {")
    ]
    shown = "".join(d["choices"][0]["delta"].get("reasoning_content") or "" for d in documents)
    assert "llmsnap loading model: alpha" in shown
    assert "Done! (" in shown
    assert "You said" in "".join(
        d["choices"][0]["delta"].get("content") or "" for d in documents if d["choices"]
    )
    assert text_of(server.chat("alpha", stream=True)).startswith("You said"), "ready: no remarks"


def test_wishes_of_a_request(start) -> None:
    server = start(SWAPPING)
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
