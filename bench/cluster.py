"""Measures models on real clusters of Ray and Slurm beside the same ones on this machine.

    bench/cluster.py [--rounds N] [--engines ray,slurm] [--lag S]

Needs what `make e2e-cluster` needs, and its `build/ray`. `start`, `swap`, `stop`: a request for a
model of 270M while nothing runs, one for another while that is idle, and an unload; here and on
each cluster in turns. `memory`: what runs beside the server for it, as proportional set size.
`lag`: the time of a `GET /health` every 5 ms for S seconds, while two models on this machine, and
two on the two machines of a cluster, each answer four streams and print 100 lines a second. Prints
medians as Markdown.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from processes import ROOT, Running, chat, free_ports, post

sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT))
os.environ.setdefault("LLMSNAP_RAY", str(ROOT / "build" / "ray"))
os.environ.setdefault("LLMSNAP_SLURM", "1")

import demo

from tests.launchers.clusters import cluster_of

HERE = "local"
Rows = dict[str, dict[str, list[float]]]
"""Figures by place and name."""
LLAMA = (
    "{server} --model {model} --host ${{HOST}} --port ${{PORT}} --threads 1 --no-repack --no-ui"
    " --ctx-size 512 --predict 4"
)
NOISY = (
    "sh -c 'while sleep 0.01; do echo a line of output; done &"
    f" exec {sys.executable} -m llmsnap.simulator --silent --host ${{HOST}} --port ${{PORT}}'"
)
ENGINES = ("raylet", "slurmd", "slurmctld", "systemd", "init")
"""Where the processes of one model end, upwards."""
STREAMS = 4
LAG_ROUNDS = 1
TOKENS_PER_S = 25
POLL_S = 0.005
MEMORY = "memory beside the server (MB)"
REST_S = 1.0
"""Between two measurements: a cluster and an unload have work to finish."""


def config_of(port: int, launchers: dict[str, str], llama: str) -> str:
    """Return the configuration: two models of each kind here and on each cluster."""
    lines = [f"startPort: {port + 1}", "logToStdout: none", "launchers:"]
    lines += [f"  {name}: {{{settings}}}" for name, settings in launchers.items()]
    lines += ["models:"]
    groups = ["groups:"]
    for where in (HERE, *launchers):
        for number in (1, 2):
            for kind, command in (("swap", llama), ("noisy", NOISY)):
                lines += [f"  {where}-{kind}-{number}:", f"    cmd: {json.dumps(command)}"]
                if where != HERE:
                    lines += [f"    launcher: {where}", "    resources: {gpus: 2}"]
        groups += [f"  {where}: {{members: [{where}-swap-1, {where}-swap-2]}}"]
        members = f"{{swap: false, exclusive: false, members: [{where}-noisy-1, {where}-noisy-2]}}"
        groups += [f"  {where}-noisy: {members}"]
    return "\n".join(lines + groups) + "\n"


def launcher_of(name: str, cluster: Any, log_port: int) -> str:
    settings = f"type: {name}, address: {cluster.url!r}, token: {cluster.token!r}"
    if name == "slurm":
        settings += f", user: {cluster.user}, logAddress: '127.0.0.1:{log_port}'"
    return settings


def round_of(port: int, where: str) -> dict[str, float]:
    """Return the seconds of a start, a swap and a stop."""
    first, second = f"{where}-swap-1", f"{where}-swap-2"
    started = chat(port, first)
    time.sleep(REST_S)
    beside = overhead_bytes() / 1e6 if where != HERE else 0.0
    swapped = chat(port, second)
    time.sleep(REST_S)
    stopped = post(port, f"/api/models/unload/{second}")
    time.sleep(REST_S)
    return {
        "start": started,
        "swap": swapped,
        "stop": stopped,
        **phases(port, second),
        MEMORY: beside,
    }


def phases(port: int, model: str) -> dict[str, float]:
    """Return the seconds of the phases of the last swap to *model*."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/swaps") as answer:
        swaps = [each for each in json.load(answer)["swaps"] if each["target"] == model]
    return {f"swap: {one['name']}": one["ms"] / 1000 for one in swaps[-1]["phases"]}


def overhead_bytes() -> int:
    """Return the memory of what runs above the one server on a cluster, up to the engine."""
    above = set()
    for one in psutil.process_iter(["cmdline"]):
        if {"--no-repack", "0.0.0.0"} <= set(one.info["cmdline"] or []):
            for parent in one.parents():
                if parent.pid == 1 or parent.name().startswith(ENGINES):
                    break
                above.add(parent)
    return sum(each.memory_full_info().pss for each in above)


def lag_of(port: int, where: str, seconds: float) -> dict[str, float]:
    """Return the median and the 99th percentile of ``GET /health`` under the load, in seconds."""
    models = [f"{where}-noisy-{number}" for number in (1, 2)]
    for model in models:
        chat(port, model)
    tokens = int(TOKENS_PER_S * (seconds + 1))
    document = {"stream": True, "sim_tokens": tokens, "sim_tps": TOKENS_PER_S,
                "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
    busy = [
        threading.Thread(
            target=post, args=(port, "/v1/chat/completions", {**document, "model": model})
        )
        for model in models * STREAMS
    ]
    for each in busy:
        each.start()
    time.sleep(0.5)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
        time.sleep(POLL_S)
    connection.close()
    for each in busy:
        each.join()
    for model in models:
        post(port, f"/api/models/unload/{model}")
    quantiles = statistics.quantiles(took, n=100)
    return {"median": quantiles[49], "p99": quantiles[98]}


def table(rows: Rows, places: list[str]) -> None:
    """Print medians, a row for each figure and a column for each place."""
    print(f"| | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    for name in dict.fromkeys(name for place in places for name in rows[place]):
        cells = [rows[place].get(name, []) for place in places]
        shown = [f"{statistics.median(each):.2f}" if each else "" for each in cells]
        print(f"| {name} | {' | '.join(shown)} |")


def start(stack: ExitStack, clusters: dict[str, Any]) -> int:
    """Start llmsnap with the models on *clusters* and here; return its port."""
    found = demo.find_demo(os.environ)
    if found.why_simulated:
        raise SystemExit(f"no real model: {found.why_simulated}")
    given = found.environ()
    llama = LLAMA.format(server=given["LLMSNAP_DEMO_SERVER"], model=given["LLMSNAP_DEMO_MODEL"])
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    port = free_ports(40)
    launchers = {name: launcher_of(name, one, port + 39) for name, one in clusters.items()}
    config = folder / "config.yaml"
    config.write_text(config_of(port, launchers, llama))
    argv = [sys.executable, "-m", "llmsnap", "--config", str(config), "--listen"]
    argv += [f"127.0.0.1:{port}", "--state-dir", str(folder / "state")]
    stack.enter_context(Running("llmsnap", argv, {}, port, folder / "log"))
    return port


def measure(port: int, places: list[str], options: argparse.Namespace) -> Rows:
    """Return all figures. The first round fills caches, and is not counted."""
    rows: Rows = {place: defaultdict(list) for place in places}
    for number in range(options.rounds + 1):
        turn = number % len(places)
        for place in places[turn:] + places[:turn]:
            figures = round_of(port, place)
            print(number, place, {k: round(v, 2) for k, v in figures.items()}, file=sys.stderr)
            for name, took_s in figures.items() if number else ():
                rows[place][name].append(took_s)
    for place in places * LAG_ROUNDS:
        for name, took_s in lag_of(port, place, options.lag).items():
            rows[place][f"/health, {name} (ms)"].append(took_s * 1000)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", default="ray,slurm")
    parser.add_argument("--lag", type=float, default=8.0, metavar="S")
    options = parser.parse_args()
    engines = options.engines.split(",")
    with ExitStack() as stack:
        port = start(stack, {name: cluster_of(name) for name in engines})
        places = [HERE, *engines]
        table(measure(port, places, options), places)


if __name__ == "__main__":
    main()
