"""Runs the real llama-server behind llmsnap, with a month's failures in a few minutes.

    python -m tests.soak [--minutes 10] [--seed N] [--simulated]

Clients send requests back to back, on every kind of route, while each core has other work. Others
disconnect in mid-response, servers are killed, configurations reloaded, models swapped. At the end
descriptors, tasks, memory and processes must be back at their initial values. Exits with 1 if they
are not, or if a request failed whose model was not killed meanwhile; with 2 without a llama-server.
"""

# isort: off
import llmsnap._monkey  # noqa: F401 - before all else
# isort: on

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import gevent
from gevent.event import Event

from tests.e2e.harness import ROOT, Running
from tests.fakes.ports import free_ports
from tests.soak.clients import KINDS, LIMIT_S, Client, Outcome, any_kind
from tests.soak.figures import Figures, figures, is_back, servers, table

sys.path.insert(0, str(ROOT / "scripts"))
import demo

CLIENTS = 4
SETTLE_S = 90
CALM_S = 5
OLD_ENOUGH_S = 15
"""A server that exits sooner after its start, in seconds, counts as one that cannot be started."""
SHOWN = 20


class Soak:
    """One run: the clients, the disturbances, and the results."""

    def __init__(self, server: Running, config: Path, seed: int) -> None:
        self.server = server
        self.over = Event()
        self.outcomes: list[Outcome] = []
        self.kills: list[tuple[float, str]] = []
        self.counts: Counter[str] = Counter()
        self._reloads = count()
        self._config = config
        self._text = config.read_text()
        self._chance = random.Random(seed)

    def warm_up(self) -> None:
        """Do everything once: modules and caches loaded on first use are no leak."""
        client = Client(self.server.url, self._chance)
        for kind in KINDS:
            for _ in range(3):
                self.outcomes.append(client.ask(kind))
            client.leave(kind)
        client.close()
        self.reload()
        self.kill(0)

    def run(self, minutes: float) -> None:
        tasks = [
            *(
                gevent.spawn(self._ask_on, random.Random(self._chance.random()))
                for _ in range(CLIENTS)
            ),
            gevent.spawn(self._repeat, self.leave, 0.5, 2),
            gevent.spawn(self._repeat, self.reload, 10, 20),
            gevent.spawn(self._repeat, self.kill, 20, 40),
            gevent.spawn(self._repeat, self.watch, 2, 5),
        ]
        gevent.joinall(tasks, timeout=minutes * 60, raise_error=True)
        self.over.set()
        gevent.joinall(tasks, timeout=2 * LIMIT_S, raise_error=True)
        assert all(task.dead for task in tasks), "a client does not come to an end"

    def settled(self, start: Figures | None = None) -> Figures:
        """Return the figures without a model, once they equal *start* or stop changing."""
        self.server.post("/api/models/unload").close()
        until = time.monotonic() + SETTLE_S
        before, same_since = None, time.monotonic()
        while True:
            now = figures(self.server.process.pid, self.server.url)
            if before is None or now[:-1] != before[:-1]:
                before, same_since = now, time.monotonic()
            calm = time.monotonic() - same_since > CALM_S
            good = all(is_back(start, now)) if start else not now.in_flight
            if (calm and good) or time.monotonic() > until:
                return now
            gevent.sleep(1)

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            Client(self.server.url, self._chance).leave(any_kind(self._chance))

    def kill(self, old_enough_s: float = OLD_ENOUGH_S) -> None:
        """Kill one of the model servers."""
        old = [
            (pid, model)
            for pid, (model, age_s) in servers(self.server.process.pid).items()
            if age_s >= old_enough_s
        ]
        if old:
            pid, model = self._chance.choice(old)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills.append((time.monotonic(), model))

    def reload(self) -> None:
        """Change a setting that applies at once, or else gemma's command."""
        number = next(self._reloads)
        text = self._text.replace("ttl: 300", f"ttl: {300 + number % 2}")
        if number % 3 == 0:
            text = text.replace("--ctx-size 2048 --parallel 2", "--ctx-size 1984 --parallel 2")
        self._config.write_text(text)
        if number % 2:
            self.server.process.send_signal(signal.SIGHUP)
        else:
            answer = self.server.post("/api/config/reload")
            assert answer.status_code == 200, answer.text

    def watch(self) -> None:
        """Read the events for a while."""
        with (
            gevent.Timeout(self._chance.uniform(0.5, 10), False),
            self.server.get("/api/events", stream=True) as answer,
        ):
            for _ in answer.iter_lines():
                pass

    def _ask_on(self, chance: random.Random) -> None:
        client = Client(self.server.url, chance)
        while not self.over.is_set():
            self.outcomes.append(client.ask(any_kind(chance)))
        client.close()

    def _repeat(self, act: Callable[[], None], least_s: float, most_s: float) -> None:
        while not self.over.wait(self._chance.uniform(least_s, most_s)):
            act()
            self.counts[act.__name__] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--hogs", type=int, default=os.cpu_count() or 1, help="busy processes")
    parser.add_argument("--simulated", action="store_true", help="also without a llama-server")
    options = parser.parse_args()
    found = demo.find_demo(os.environ)
    if found.why_simulated and not options.simulated:
        print(f"no llama-server: {found.why_simulated}", file=sys.stderr)
        return 2
    print(f"seed {options.seed}, {options.minutes:g} minutes, {found.server}", flush=True)
    os.environ.update(found.environ())
    gevent.signal_handler(signal.SIGTERM, sys.exit, 1)
    with (
        tempfile.TemporaryDirectory(prefix="llmsnap-soak-") as folder,
        started(Path(folder), options.seed) as soak,
    ):
        return judged(soak, options.minutes, options.hogs)


@contextlib.contextmanager
def started(folder: Path, seed: int) -> Iterator[Soak]:
    """Run llmsnap on the demo's configuration, with ports of its own."""
    config = folder / "config.yaml"
    text = demo.CONFIG.read_text().replace("startPort: 18650", f"startPort: {free_ports(40)}")
    config.write_text(f"logToStdout: proxy\n{text}")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = Running("llmsnap", config, "--state-dir", str(folder / "state"))
    try:
        server.wait_ready()
        yield Soak(server, config, seed)
    finally:
        server.stop()


def judged(soak: Soak, minutes: float, hogs: int) -> int:
    """Run the soak, and print its results."""
    soak.warm_up()
    start = soak.settled()
    tell("warmed up")
    with busy(hogs):
        soak.run(minutes)
    tell("all have ended")
    end = soak.settled(start)
    tell("settled")
    failed = [one for one in soak.outcomes if one.error]
    lost = [one for one in failed if not one.was_cut_by(soak.kills)]
    print(report(soak))
    print(table(start, end))
    for one in lost[:SHOWN]:
        print(f"FAILED {one.kind} after {one.ended - one.sent:.1f} s: {one.error}")
    traces = "Traceback" in soak.server.output
    if traces:
        print(soak.server.output[-4000:])
    good = not lost and all(is_back(start, end)) and not traces
    print("all is back, and nothing was lost" if good else f"{len(lost)} requests lost")
    return int(not good)


def tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def report(soak: Soak) -> str:
    lines = [
        f"{'':<16}{'requests':>9}{'failed':>8}{'of killed':>11}{'median s':>10}{'longest s':>11}"
    ]
    for kind in KINDS:
        mine = [one for one in soak.outcomes if one.kind == kind]
        failed = [one for one in mine if one.error]
        cut = sum(one.was_cut_by(soak.kills) for one in failed)
        took = sorted(one.ended - one.sent for one in mine) or [0.0]
        lines.append(
            f"{kind:<16}{len(mine):>9}{len(failed) - cut:>8}{cut:>11}"
            f"{took[len(took) // 2]:>10.2f}{took[-1]:>11.2f}"
        )
    acts = ", ".join(f"{name} {n} times" for name, n in soak.counts.items())
    return "\n".join([*lines, f"{acts}; {len(soak.kills)} servers killed"])


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep that many cores busy."""
    command = [sys.executable, "-c", "while True: pass"]
    hogs = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


if __name__ == "__main__":
    sys.exit(main())
