"""llmsnap with models on a cluster: a Ray that is played, or with LLMSNAP_RAY a real one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest

from tests.e2e.harness import ROOT, Running, is_alive
from tests.fakes.ports import free_ports
from tests.launchers.fake_ray import FakeRay
from tests.launchers.real_ray import RealRay, is_real, ray_cluster

pytestmark = pytest.mark.e2e(limit_s=120)
SIM = f"{sys.executable} -m llmsnap.simulator --host ${{HOST}} --port ${{PORT}} --echo-requests"
MODELS = """\
startPort: PORT0
launchers:
  farm: {{type: ray, address: "URL", token: t0ken, placementTimeout: 20, MORE}}
macros: {{far: SIM}}
models:
  a: {{cmd: "${{far}} --model a", launcher: farm, resources: {{gpus: 1}}, unloadTimeout: 2}}
  b: {{cmd: "${{far}} --model b", launcher: farm, resources: {{gpus: 1}}, unloadTimeout: 2}}
  here: {{cmd: "${{far}} --model here"}}
groups: {{pair: {{members: [a, b]}}}}
"""
GONE_S = 10.0
really = pytest.mark.skipif(not is_real(), reason="needs a real cluster: make e2e-cluster")


@pytest.fixture
def ray() -> Iterator[FakeRay | RealRay]:
    cluster = ray_cluster()
    yield cluster
    deadline = time.monotonic() + GONE_S
    while servers() and time.monotonic() < deadline:
        gevent.sleep(0.1)
    left = servers()
    cluster.close()
    assert not left, "a server outlived its llmsnap"


def servers() -> list[int]:
    """The processes of models on the cluster."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "llmsnap.simulator" in words and "0.0.0.0" in words and is_alive(process.pid):
            found.append(process.pid)
    return found


@pytest.fixture
def run(ray: FakeRay | RealRay, start: Callable[..., Running]) -> Callable[..., Running]:
    port = str(free_ports(10))

    def started(more: str = "", *options: str) -> Running:
        text = MODELS.replace("URL", ray.url).replace("MORE", more).replace("SIM", SIM_TEXT)
        return start(text.replace("PORT0", port), *options)

    return started


SIM_TEXT = '"' + SIM.replace("{", "{{").replace("}", "}}") + '"'


def entry(server: Running, model: str) -> dict[str, Any]:
    return next(
        (one for one in server.get("/running").json()["running"] if one["model"] == model), {}
    )


def test_a_model_on_a_cluster_answers_with_its_own_key_and_shows_where_it_runs(
    run: Callable[..., Running],
) -> None:
    server = run()
    answer = server.post(
        "/v1/chat/completions",
        {"model": "a", "messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": "Bearer of-the-client"},
    )
    assert answer.status_code == 200, answer.text + server.output
    seen = answer.text
    assert "of-the-client" not in seen
    key = seen.partition("Bearer ")[2].partition('"')[0]
    assert len(key) == 64
    found = entry(server, "a")
    assert (found["launcher"], found["phase"], found["engine"]) == ("farm", "", "")
    assert found["node"].startswith("127.0.0.")
    assert key not in str(server.get("/running").json()) + server.output
    assert key not in server.get("/api/captures/0").text


def test_a_swap_on_the_cluster_leaves_this_machine_alone(run: Callable[..., Running]) -> None:
    server = run()
    for model in ("here", "a", "b", "a"):
        assert server.chat(model).status_code == 200, server.output
    assert server.running() == {"a": "ready", "here": "ready"}


@really
def test_a_server_that_dies_is_started_again(run: Callable[..., Running]) -> None:
    server = run()
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    os.kill(pid, signal.SIGKILL)
    server.wait_for(lambda: not entry(server, "a"))
    assert server.chat("a").status_code == 200
    assert servers() != [pid]


@really
def test_a_runner_that_dies_takes_its_server_along(run: Callable[..., Running]) -> None:
    server = run()
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    server.wait_for(lambda: not entry(server, "a"))
    assert not is_alive(pid)


def test_an_llmsnap_that_is_killed_finds_its_server_again(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    server = run("", *state)
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    server.stop(signal.SIGKILL)
    again = run("", *state)
    again.wait_for(lambda: again.running().get("a") == "ready")
    assert again.chat("a").status_code == 200
    assert servers() == [pid]
    assert "adopted" in again.output


@really
def test_servers_stay_when_llmsnap_ends_if_the_settings_say_so(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    server = run("onExit: keep", *state)
    assert server.chat("a").status_code == 200
    pids = servers()
    assert server.stop() == 0
    assert servers() == pids
    again = run("", *state)  # the settings of the launcher are no part of what was started
    again.wait_for(lambda: again.running().get("a") == "ready")
    assert servers() == pids


@really
def test_a_lost_node_costs_the_requests_on_it_and_no_other(
    run: Callable[..., Running], ray: RealRay
) -> None:
    server = run()
    assert server.chat("a").status_code == 200
    host = entry(server, "a")["node"]
    node = next(each for each in ray.nodes if each.host == host)
    ray.lose(node)
    server.wait_for(lambda: not entry(server, "a"))
    assert server.chat("a").status_code == 200
    assert entry(server, "a")["node"] != host
    server.stop()
    ray.restore(node)


@really
def test_a_head_that_dies_costs_nothing_but_starts(
    run: Callable[..., Running], ray: RealRay
) -> None:
    if ray.redis is None:
        pytest.skip("needs redis-server")
    server = run("lostAfter: 120")
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    ray.lose(ray.head)
    server.wait_for(lambda: entry(server, "a")["engine"])
    assert server.chat("a").status_code == 200, "requests do not need the engine"
    ray.head = ray.start_head()
    server.wait_for(lambda: not entry(server, "a")["engine"])
    assert server.chat("b").status_code == 200, "and it is stopped for another one"
    assert not is_alive(pid)


@really
def test_a_real_model_is_swapped_on_the_cluster_as_on_this_machine(
    start: Callable[..., Running], ray: RealRay
) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "demo.py"), "env"]
    found = json.loads(subprocess.run(script, capture_output=True, check=True).stdout)
    if found["why_simulated"]:
        pytest.skip(f"no real model: {found['why_simulated']}")
    command = (
        f"{found['LLMSNAP_DEMO_SERVER']} --model '{found['LLMSNAP_DEMO_MODEL']}' --port ${{PORT}}"
        " --threads 1 --no-repack --no-ui --ctx-size 512 --predict 4"
    )
    names = ("near-1", "near-2", "far-1", "far-2")
    text = f"startPort: {free_ports(10)}\nlaunchers:\n  farm:\n    type: ray\n"
    text += f"    address: {ray.url}\n    token: t0ken\nmodels:\n"
    for name in names:
        text += f'  {name}:\n    cmd: "{command}"\n'
        if name.startswith("far"):
            text += "    launcher: farm\n    resources: {gpus: 2}\n"  # a whole node
    text += "groups:\n  far: {members: [far-1, far-2]}\n  near: {members: [near-1, near-2]}\n"
    server = start(text.replace("{", "{{").replace("}", "}}"))
    seconds: dict[str, list[float]] = {"near": [], "far": []}
    for name in names * 3:
        began = time.monotonic()
        assert server.chat(name, max_tokens=2).status_code == 200, server.output
        seconds[name.partition("-")[0]].append(time.monotonic() - began)
    swaps = {where: sorted(found[1:])[len(found) // 2] for where, found in seconds.items()}
    print(f"median seconds of a swap: {swaps}")
