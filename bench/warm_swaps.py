"""Measures what warm swaps save and cost: two instances take turns, with everything on and off.

python bench/warm_swaps.py [--rounds N] [--size MIB] [--drain S] [--swaps N]

`read ahead`: a model whose file of SIZE MiB is not in memory is requested while another one answers
for DRAIN seconds; the load time, and the time until the answer. `swap`, `wake`: a model that gains
nothing takes the place of another one, or wakes. Figures are medians in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from processes import Running, chat, free_ports, post

MIB = 1024**2
SIM = f"{sys.executable} -m llmsnap.simulator --silent --port ${{PORT}}"
CONFIG = """\
startPort: {port}
logToStdout: none
readAhead: {on}
models:
  resident: {{cmd: "{sim}"}}
  weighty: {{cmd: "{sim} --read-model --model {file}"}}
  light: {{cmd: "{sim}"}}
  sleepy:
    cmd: "{sim}"
    wakeCheck: {on}
    failuresBeforeRestart: {failures}
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
"""
DISK = "/var/tmp"
SETTLE_S = 1.6
"""Until a model that has just loaded was asked for what its answers are checked against."""


def forget(path: Path) -> None:
    """Have the page cache forget a file."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def last_swap(port: int) -> dict[str, Any]:
    """Return the record of the last swap, with its phases by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/swaps") as answer:
        swap: dict[str, Any] = json.load(answer)["swaps"][-1]
    return {**swap, "phases": {one["name"]: one["ms"] for one in swap["phases"]}}


def read_ahead(port: int, file: Path, drain_s: float) -> dict[str, float]:
    """Request the model with the large file while another one answers."""
    chat(port, "resident")
    forget(file)
    document = {"model": "resident", "stream": True, "sim_tokens": 20, "sim_tps": 20 / drain_s,
                "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
    busy = threading.Thread(target=post, args=(port, "/v1/chat/completions", document))
    busy.start()
    time.sleep(0.1)
    took = chat(port, "weighty")
    busy.join()
    return {"read ahead, load": last_swap(port)["phases"]["load"], "read ahead, all": took * 1000}


def swap(port: int, target: str, name: str) -> dict[str, float]:
    """Request *target* while the resident is idle."""
    chat(port, "resident")
    return {name: chat(port, target) * 1000}


def start(stack: ExitStack, folder: Path, file: Path, *, on: bool) -> Running:
    """Start an instance with everything on or off, which has learned what it can."""
    name, port = ("on" if on else "off"), free_ports(8)
    config = folder / f"{name}.yaml"
    flag = str(on).lower()
    config.write_text(CONFIG.format(port=port + 1, on=flag, failures=5 * on, sim=SIM, file=file))
    argv = [sys.executable, "-m", "llmsnap", "--config", str(config), "--listen"]
    argv += [f"127.0.0.1:{port}", "--state-dir", str(folder / f"state-{name}")]
    running = stack.enter_context(Running(name, argv, {}, port, folder / f"{name}.log"))
    chat(port, "sleepy")
    time.sleep(SETTLE_S)
    return running


def measure(port: int, file: Path, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Yield the figures of one round."""
    yield read_ahead(port, file, options.drain)
    for _ in range(options.swaps):
        yield swap(port, "light", "swap")
        yield swap(port, "sleepy", "wake")


def write_file(path: Path, size_mib: int) -> None:
    with path.open("wb") as out:
        for _ in range(size_mib):
            out.write(os.urandom(MIB))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--drain", type=float, default=2.0, metavar="S")
    parser.add_argument("--swaps", type=int, default=5, metavar="N", help="of each kind in a round")
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=DISK)))
        file = folder / "weights.gguf"
        write_file(file, options.size)
        instances = [start(stack, folder, file, on=on) for on in (False, True)]
        for number in range(options.rounds):
            for instance in instances[:: -1 if number % 2 else 1]:
                for figures in measure(instance.port, file, options):
                    for key, value in figures.items():
                        found[key][instance.name].append(value)
    print(f"{'':18}{'off':>9}{'on':>9}{'difference':>12}")
    for key, values in found.items():
        off, on = (statistics.median(values[name]) for name in ("off", "on"))
        print(f"{key:18}{off:9.1f}{on:9.1f}{on - off:+12.1f}")


if __name__ == "__main__":
    main()
