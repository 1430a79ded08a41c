"""llmsnap with models on a cluster: Ray and Slurm, played, or real with LLMSNAP_RAY and _SLURM."""

import contextlib
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
import requests

from tests.e2e.harness import DEFAULT_DOOR, ROOT, Running, is_alive
from tests.e2e.losses import Loss, losses
from tests.fakes.ports import free_ports
from tests.launchers.clusters import CLUSTERS, boot, cluster_of
from tests.launchers.fake_ray import FakeRay
from tests.launchers.fake_slurm import FakeSlurm
from tests.launchers.real_slurm import RealSlurm, kill

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
ON_NODES = """\
startPort: PORT0
launchers:
  farm: {{LAUNCHER, placementTimeout: 20, MORE}}
macros: {{far: SIM}}
models:
  free: {{cmd: "${{far}} --model free", launcher: farm, resources: {{gpus: 1}}, unloadTimeout: 2}}
  z1:
    cmd: "${{far}} --model z1"
    launcher: farm
    resources: {{gpus: 1, labels: {{zone: z1}}}}
  z2:
    cmd: "${{far}} --model z2"
    launcher: farm
    resources: {{gpus: 1, labels: {{zone: z2}}}}
  late: {{cmd: "${{far}} --model late", launcher: farm, resources: {{gpus: 1}}}}
  here: {{cmd: "${{far}} --model here"}}
"""
FULL = """\
startPort: PORT0
launchers:
  farm: {{LAUNCHER, placementTimeout: 30, MORE}}
macros: {{far: SIM}}
models:
  a: {{cmd: "${{far}} --model a", launcher: farm, resources: {{gpus: 2}}, unloadTimeout: 2}}
  b: {{cmd: "${{far}} --model b", launcher: farm, resources: {{gpus: 2}}, unloadTimeout: 2}}
  c: {{cmd: "${{far}} --model c --load-time 2", launcher: farm, resources: {{gpus: 2}}}}
  here: {{cmd: "${{far}} --model here"}}
"""
GONE_S = 10.0
JOBS_GONE_S = 60.0
"""Until an engine counts the jobs of a machine that is lost as ended."""
SERVED_LIMIT_S = 90.0
STREAM_TOKENS = 100
really = pytest.mark.usefixtures("real")
on_slurm = pytest.mark.parametrize("cluster", ["slurm"], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def booted() -> None:
    """Real clusters, if they are wanted, start outside the time limit of a test."""
    boot()


@pytest.fixture
def real(cluster: Any) -> None:
    if isinstance(cluster, FakeRay):
        pytest.skip("needs a real cluster: make e2e-cluster")


@pytest.fixture(params=list(CLUSTERS))
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    cluster = cluster_of(request.param)
    yield cluster
    try:
        wait_until(lambda: not processes())
    finally:
        cluster.close()


def wait_until(fact: Callable[[], Any], limit_s: float = GONE_S) -> None:
    with gevent.Timeout(limit_s, RuntimeError(f"not so within {limit_s:g} s: {processes()}")):
        while not fact():
            gevent.sleep(0.1)


def processes() -> dict[int, list[str]]:
    """All processes of jobs of this test on the cluster, with their command lines."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if is_server(words) or (words and is_in_job(process.pid)):
            found[process.pid] = words
    return found


def is_server(words: list[str]) -> bool:
    return words[:1] == [sys.executable] and {"llmsnap.simulator", "0.0.0.0"} <= set(words)


def is_in_job(pid: int) -> bool:
    """Whether it has the variables of a job: a runner, or what the engine puts before it."""
    with contextlib.suppress(OSError):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        return b"LLMSNAP_RUN=" in environ and f'"{sys.executable}"'.encode() in environ
    return False


def servers() -> list[int]:
    """The processes of models on the cluster."""
    return [pid for pid, words in processes().items() if is_server(words)]


def pid_of(model: str) -> int:
    (pid,) = [pid for pid, words in processes().items() if is_server(words) and model in words]
    return pid


@pytest.fixture
def run(cluster: Any, start: Callable[..., Running]) -> Callable[..., Running]:
    port = free_ports(10)
    settings = launcher(cluster, port + 9)

    def started(
        more: str = "", *options: str, models: str = MODELS, door: str = DEFAULT_DOOR
    ) -> Running:
        text = models.replace("LAUNCHER", settings).replace("MORE", more).replace("SIM", SIM_TEXT)
        return start(text.replace("PORT0", str(port)), *options, door=door)

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


def test_an_idle_model_leaves_a_cluster_that_is_full(run: Callable[..., Running]) -> None:
    server = run(models=FULL)
    for model in ("here", "a", "b"):
        assert server.chat(model).status_code == 200, server.output
    wait_until(lambda: all(node["free"] == 0 for node in nodes(server)))
    for _ in range(2):
        ((target,),) = [{"a", "b", "c"} - server.running().keys()]
        assert server.chat(target).status_code == 200, server.output
        (swap,) = server.get("/api/swaps").json()["swaps"][-1:]
        assert (swap["target"], swap["outcome"], len(swap["evicted"])) == (target, "done", 1)
        assert "placing" in [phase["name"] for phase in swap["phases"]]
        assert server.running().keys() == {"a", "b", "c", "here"} - {*swap["evicted"]}


def nodes(server: Running) -> list[dict[str, Any]]:
    """The machines of the cluster that have GPUs, once they are known."""
    found = server.get("/api/memory").json()["nodes"]
    return [node for node in found if node["gpus"]] or [{"free": None}]


@pytest.mark.parametrize("door", ["llmsnap", "gunicorn"])
def test_an_llmsnap_that_is_killed_finds_its_server_again(
    run: Callable[..., Running], tmp_path: Path, door: str
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    server = run("", *state, door=door)
    assert server.chat("a").status_code == 200
    (pid,) = servers()
    for _ in range(3):  # later ones end while they take over, or just after
        os.killpg(server.process.pid, signal.SIGKILL)  # a worker outlives its master
        server.process.wait()
        server = run("", *state, door=door)
    server.wait_for(lambda: server.running().get("a") == "ready")
    assert server.chat("a").status_code == 200
    assert servers() == [pid]
    assert "adopted" in server.output


def test_an_llmsnap_that_is_killed_during_a_swap_on_a_full_cluster_swaps_again(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    server = run("", *state, models=FULL, door="llmsnap")
    for model in ("a", "b"):
        assert server.chat(model).status_code == 200, server.output
    server.post("/api/models/load/c?wait=0")
    server.wait_for(lambda: server.running().get("c") == "starting" and len(servers()) == 2)
    server.stop(signal.SIGKILL)
    again = run("", *state, models=FULL)
    for model in ("a", "b", "c"):
        assert again.chat(model).status_code == 200, again.output
    assert len(servers()) == 2


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


class Streams:
    """Two long answers of one model, each read in a greenlet."""

    def __init__(self, server: Running, model: str) -> None:
        self.ends: list[bytes] = []
        """The last line of each."""
        self._begun = 0
        self._greenlets = [gevent.Greenlet(self._read, server, model) for _ in range(2)]
        for each in self._greenlets:
            each.start()
        server.wait_for(lambda: self._begun == len(self._greenlets))

    def _read(self, server: Running, model: str) -> None:
        end = b""
        with contextlib.suppress(requests.RequestException):
            answer = server.chat(model, stream=True, sim_tokens=STREAM_TOKENS, sim_tps=10)
            for line in filter(None, answer.iter_lines()):
                self._begun += not end
                end = line
        self.ends.append(end)

    def lost(self) -> int:
        """Wait for all ends, and return how many answers are not whole."""
        gevent.joinall(self._greenlets)
        return sum(end != b"data: [DONE]" for end in self.ends)


class Scene:
    """Models on both machines of a cluster and on this one, all with requests in flight.

    Each method ``lose_...`` takes a part away, and mends what llmsnap cannot.
    """

    def __init__(self, run: Callable[..., Running], cluster: Any, folder: Path) -> None:
        self.cluster = cluster
        self.is_node_killed = False
        self._start = lambda: run("", "--state-dir", str(folder), models=ON_NODES)
        self.server = self._start()
        for model in ("free", "z1", "z2", "here"):
            self.answers(model)
        self.node, self.pid = entry(self.server, "free")["node"], pid_of("free")
        zones = {model: entry(self.server, model)["node"] for model in ("z1", "z2")}
        (self.far,) = [model for model, node in zones.items() if node != self.node]
        self.on_it = Streams(self.server, "free")
        self.others = [Streams(self.server, self.far), Streams(self.server, "here")]

    def answers(self, model: str) -> None:
        answer = self.server.chat(model)
        assert answer.status_code == 200, answer.text + self.server.output

    def lose_server(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(self.pid))

    def lose_runner(self) -> None:
        os.kill(psutil.Process(self.pid).ppid(), signal.SIGKILL)
        wait_until(lambda: not is_alive(self.pid))

    def lose_node(self) -> None:
        self.is_node_killed = True
        self.cluster.kill_node(self.node)
        wait_until(lambda: not is_alive(self.pid))

    def lose_head(self) -> None:
        self.cluster.kill_head()
        self.server.wait_for(lambda: entry(self.server, "free")["engine"])
        self.answers("free")  # requests do not need the engine
        self.cluster.restore_head()
        self.server.wait_for(lambda: not entry(self.server, "free")["engine"])
        self.answers("late")

    def lose_replies(self) -> None:
        until = time.monotonic() + HANGS_S
        self.cluster.freeze_head()
        try:
            self.server.wait_for(lambda: entry(self.server, "free")["engine"])
            self.answers("free")
            refusal = self.server.chat("late")
            assert refusal.status_code == 503, refusal.text
            gevent.sleep(max(0.0, until - time.monotonic()))  # so long it hangs
            self.answers(self.far)
        finally:
            self.cluster.thaw_head()
        self.server.wait_for(lambda: not entry(self.server, "free")["engine"])
        self.answers("late")

    def lose_llmsnap(self) -> None:
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        self.server = self._start()

    def until_served(self) -> int:
        """Ask for the model until it answers, and return how often it did not."""
        refused = 0
        with gevent.Timeout(SERVED_LIMIT_S, RuntimeError(self.server.output)):
            while (answer := self.server.chat("free")).status_code != 200:
                print(answer.status_code, answer.text)
                refused += 1
                self.answers(self.far)
                self.answers("here")
        return refused

    def mend(self) -> None:
        """Start the machine again that was killed."""
        if self.is_node_killed:
            self.is_node_killed = False
            self.cluster.restore_node(self.node)

    def stop(self) -> tuple[int, int]:
        """Stop llmsnap, and return how many processes and jobs of it are left."""
        self.server.stop()
        wait_until(lambda: not processes())
        self.mend()
        wait_until(lambda: not self.cluster.active_jobs(), JOBS_GONE_S)
        return len(processes()), len(self.cluster.active_jobs())


HEADS = {"ray": "head, with Redis, and restarted", "slurm": "controller, and restarted"}
HANGS_S = 30.0
HUNG = {"ray": "head that hangs for 30 s", "slurm": "controller that hangs for 30 s"}
IN_FLIGHT = {"server": 2, "runner": 2, "node": 2, "head": 0, "replies": 0, "llmsnap": 6}
"""The requests that are lost with each part: those that it has."""


@really
@pytest.mark.e2e(limit_s=300)
@pytest.mark.parametrize("part", IN_FLIGHT)
def test_a_part_that_is_lost_costs_the_requests_in_flight_on_it_and_no_other(
    run: Callable[..., Running], cluster: Any, request: Any, tmp_path: Path, part: str
) -> None:
    scene = Scene(run, cluster, tmp_path / "state")
    request.addfinalizer(scene.mend)
    began = time.monotonic()
    getattr(scene, f"lose_{part}")()
    refused = scene.until_served()
    served_s = time.monotonic() - began
    lost, others_lost = scene.on_it.lost(), sum(each.lost() for each in scene.others)
    if part == "llmsnap":  # which all were in flight on
        lost, others_lost = lost + others_lost, 0
    assert others_lost == 0, [each.ends for each in scene.others]
    assert lost == IN_FLIGHT[part]
    assert scene.server.running().get("free") == "ready", scene.server.output
    assert (pid_of("free") == scene.pid) is (part in ("head", "replies", "llmsnap"))
    left = scene.stop()
    assert left == (0, 0)
    engine = "slurm" if isinstance(cluster, RealSlurm) else "ray"
    name = {"head": HEADS[engine], "replies": HUNG[engine]}.get(part, part)
    losses.append(Loss(engine, name, lost, others_lost, refused, *left, served_s))


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
    for name in (*names, "far-3"):
        text += f'  {name}:\n    cmd: "{command}"\n'
        if name.startswith("far"):
            text += "    launcher: farm\n    resources: {gpus: 2}\n"  # a whole node
    text += "groups:\n  far: {members: [far-1, far-2]}\n  near: {members: [near-1, near-2]}\n"
    server = start(text.replace("{", "{{").replace("}", "}}"))
    seconds: dict[str, list[float]] = {"near": [], "far": []}
    assert server.chat("far-3", max_tokens=2).status_code == 200, server.output
    for name in names * 2:
        began = time.monotonic()
        assert server.chat(name, max_tokens=2).status_code == 200, server.output
        seconds[name.partition("-")[0]].append(time.monotonic() - began)
    assert server.running() == {"far-2": "ready", "far-3": "ready", "near-2": "ready"}
    assert entry(server, "far-2")["node"] != entry(server, "far-3")["node"]
    print({where: [round(each, 2) for each in found] for where, found in seconds.items()})
