"""llmsnap with models on a cluster: Ray and Slurm, played, or real with LLMSNAP_RAY and _SLURM."""

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
from tests.launchers.fake_slurm import FakeSlurm
from tests.launchers.real_ray import RealRay, kill, ray_cluster
from tests.launchers.real_slurm import RealSlurm, slurm_cluster

pytestmark = pytest.mark.e2e(limit_s=120)
SIM = f"{sys.executable} -m llmsnap.simulator --host ${{HOST}} --port ${{PORT}} --echo-requests"
MODELS = """\
startPort: PORT0
launchers:
  farm: {{LAUNCHER, placementTimeout: 20, MORE}}
macros: {{far: SIM}}
models:
  a: {{cmd: "${{far}} --model a", launcher: farm, resources: {{gpus: 1}}, unloadTimeout: 2}}
  b: {{cmd: "${{far}} --model b", launcher: farm, resources: {{gpus: 1}}, unloadTimeout: 2}}
  here: {{cmd: "${{far}} --model here"}}
groups: {{pair: {{members: [a, b]}}}}
"""
GONE_S = 10.0
CLUSTERS = {"ray": ray_cluster, "slurm": slurm_cluster}
really = pytest.mark.usefixtures("real")
on_ray = pytest.mark.parametrize("cluster", ["ray"], indirect=True)
on_slurm = pytest.mark.parametrize("cluster", ["slurm"], indirect=True)


@pytest.fixture
def real(cluster: Any) -> None:
    if isinstance(cluster, FakeRay):
        pytest.skip("needs a real cluster: make e2e-cluster")


@pytest.fixture(params=list(CLUSTERS))
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    cluster = CLUSTERS[request.param]()
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
def run(cluster: Any, start: Callable[..., Running]) -> Callable[..., Running]:
    port = free_ports(10)
    settings = launcher(cluster, port + 9)

    def started(more: str = "", *options: str) -> Running:
        text = MODELS.replace("LAUNCHER", settings).replace("MORE", more).replace("SIM", SIM_TEXT)
        return start(text.replace("PORT0", str(port)), *options)

    return started


def launcher(cluster: Any, log_port: int) -> str:
    """The settings of a launcher that uses *cluster*."""
    text = f'address: "{cluster.url}", token: {cluster.token}, '
    if isinstance(cluster, (FakeSlurm, RealSlurm)):
        text += f'type: slurm, user: {cluster.user}, logAddress: "127.0.0.1:{log_port}"'
    else:
        text += "type: ray"
    return text


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
    assert found["node"]
    assert key not in str(server.get("/running").json()) + server.output
    (record,) = server.wait_for(lambda: server.get("/api/metrics").json())
    headers = server.get(f"/api/captures/{record['id']}").json()["req_headers"]
    assert headers["Authorization"] == "[REDACTED]"


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
@on_ray
def test_a_lost_node_costs_the_requests_on_it_and_no_other(
    run: Callable[..., Running], cluster: RealRay
) -> None:
    ray = cluster
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
@on_ray
def test_a_head_that_dies_costs_nothing_but_starts(
    run: Callable[..., Running], cluster: RealRay
) -> None:
    ray = cluster
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
@on_slurm
def test_a_controller_that_is_killed_costs_nothing_but_starts(
    run: Callable[..., Running], cluster: RealSlurm
) -> None:
    server = run("lostAfter: 120")
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    cluster.wait_saved()
    kill(cluster.controller)
    server.wait_for(lambda: entry(server, "a")["engine"])
    assert server.chat("a").status_code == 200, "requests do not need the engine"
    cluster.controller = cluster.start_controller()
    cluster.wait_for(lambda: cluster.call("ping"))
    assert server.chat("b").status_code == 200, "and it is stopped for another one"
    assert not is_alive(pid)


@really
@on_slurm
def test_a_daemon_of_a_node_that_is_killed_costs_nothing(
    run: Callable[..., Running], cluster: RealSlurm
) -> None:
    server = run()
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    node = entry(server, "a")["node"]
    kill(cluster.daemons[node])
    assert server.chat("a").status_code == 200
    cluster.daemons[node] = cluster.start_daemon(node)
    cluster.wait_for(lambda: "down" not in cluster.run("sinfo", "-h", "-N"))
    assert servers() == [pid]
    assert server.chat("b").status_code == 200
    assert not is_alive(pid)


@really
@on_slurm
def test_a_job_that_is_preempted_or_cancelled_is_started_again(
    run: Callable[..., Running], cluster: RealSlurm
) -> None:
    server = run()
    answer = server.chat("a")
    assert answer.status_code == 200, answer.text + server.output
    (pid,) = servers()
    options = ["-p", "high", "--gpus-per-node=2", "-N2", "--exclusive", "-o", "/dev/null"]
    cluster.run("sbatch", *options, "--wrap", "sleep 600")
    server.wait_for(lambda: not entry(server, "a"))
    assert not is_alive(pid)
    assert "preempted" in server.output
    cluster.run("scancel", "--me", "-p", "high")
    cluster.wait_for(lambda: not cluster.run("squeue", "-h"))
    answer = server.chat("a")
    assert answer.status_code == 200, answer.text + server.output
    cluster.run("scancel", "--me")
    server.wait_for(lambda: not entry(server, "a"))
    server.wait_for(lambda: server.chat("a").status_code == 200)  # after a back-off


@really
@pytest.mark.e2e(limit_s=300)
def test_a_real_model_is_swapped_on_the_cluster_as_on_this_machine(
    start: Callable[..., Running], cluster: Any
) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "demo.py"), "env"]
    found = json.loads(subprocess.run(script, capture_output=True, check=True).stdout)
    if found["why_simulated"]:
        pytest.skip(f"no real model: {found['why_simulated']}")
    command = (
        f"{found['LLMSNAP_DEMO_SERVER']} --model '{found['LLMSNAP_DEMO_MODEL']}'"
        " --host ${HOST} --port ${PORT} --threads 1 --no-repack --no-ui --ctx-size 512 --predict 4"
    )
    names = ("near-1", "near-2", "far-1", "far-2")
    port = free_ports(10)
    text = f"startPort: {port}\nlaunchers:\n  farm: {{{launcher(cluster, port + 9)}}}\nmodels:\n"
    for name in names:
        text += f'  {name}:\n    cmd: "{command}"\n'
        if name.startswith("far"):
            text += "    launcher: farm\n    resources: {gpus: 2}\n"  # a whole node
    text += "groups:\n  far: {members: [far-1, far-2]}\n  near: {members: [near-1, near-2]}\n"
    server = start(text.replace("{", "{{").replace("}", "}}"))
    seconds: dict[str, list[float]] = {"near": [], "far": []}
    for name in names * 2:
        began = time.monotonic()
        assert server.chat(name, max_tokens=2).status_code == 200, server.output
        seconds[name.partition("-")[0]].append(time.monotonic() - began)
    print({where: [round(each, 2) for each in found] for where, found in seconds.items()})
