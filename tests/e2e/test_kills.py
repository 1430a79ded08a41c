"""llmsnap is killed, at any moment of its life: nothing that it started is left.

``make kills`` does it 200 times. The models ignore SIGTERM, fork, leave their session, and clear
their environment.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gevent
import psutil
import pytest

from llmsnap.launchers.local import guardian
from tests.e2e.api import serving
from tests.e2e.harness import Running, children_with, guardians_below, pids_below

pytestmark = pytest.mark.e2e

KILLS = int(os.environ.get("LLMSNAP_KILLS", "10"))
GRACE_S = 1
LIMIT_S = 40
"""Far beyond what is promised, a second and the grace: a busy machine is no failure."""
PORTS = 10
CONFIG = """\
startPort: {port}
unloadTimeout: {grace}
macros:
  sim: {sim}
  hides: "env -i setsid sh -c 'sleep 4242{port} & exit'"
models:
  plain: {{cmd: "${{sim}}"}}
  stubborn: {{cmd: "${{sim}} --ignore-sigterm"}}
  wrapped: {{cmd: "sh -c '${{sim}} --ignore-sigterm; true'"}}
  forking: {{cmd: "${{sim}} --fork-grandchild --grandchild-new-session"}}
  hiding: {{cmd: 'sh -c "${{hides}} & exec ${{sim}}"'}}
  slow: {{cmd: "${{sim}} --ignore-sigterm --load-time 300"}}
  sleeper:
    cmd: "${{sim}} --ignore-sigterm --sleep-time 0.5"
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  tidy:
    cmd: "${{sim}} --ignore-sigterm"
    cmdStop: "sh -c 'trap : TERM; sleep 4242{port}; sleep 4242{port}'"
"""
SERVERS = ("plain", "stubborn", "wrapped", "forking", "hiding")


@dataclass
class Victim:
    """One llmsnap, and all that runs because of it."""

    server: Running
    port: int
    chance: random.Random
    tasks: list[gevent.Greenlet] = field(default_factory=list)

    def begin(self, call: Callable[..., object], *args: object) -> None:
        """Send a request without waiting for its answer."""
        self.tasks.append(gevent.spawn(_despite_errors, call, *args))

    def wait_state(self, model: str, *states: str) -> None:
        self.server.wait_for(lambda: self.server.running().get(model) in states)

    def pause(self, most_s: float) -> None:
        gevent.sleep(self.chance.uniform(0, most_s))  # the moment of the kill is what varies

    def load(self, *models: str) -> None:
        assert self.server.chat(self.chance.choice(models)).status_code == 200

    def kill(self, pid: int = 0) -> None:
        """Kill it, and wait until nothing is left."""
        pid = pid or self.server.process.pid
        below = {each: guardian.start_of(each) for each in pids_below(pid)}
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while (left := self._left(below)) and time.monotonic() - began < LIMIT_S:
            gevent.sleep(0.02)
        print(f"nothing left after {time.monotonic() - began:.2f} s")
        assert not left, [guardian.read(pid, "cmdline") for pid in left]

    def _left(self, below: dict[int, int | None]) -> list[int]:
        known = [pid for pid, start in below.items() if start and start == guardian.start_of(pid)]
        models = [f"--port {self.port + number} " for number in range(PORTS)]
        return [*known, *children_with(*models, f"sleep 4242{self.port}")]

    def hidden(self) -> list[int]:
        return children_with(f"sleep 4242{self.port}")

    def guardian(self) -> psutil.Process:
        (found,) = guardians_below(self.server.process.pid)
        return psutil.Process(found)

    def close(self) -> None:
        self.server.stop(signal.SIGKILL)
        gevent.joinall(self.tasks, timeout=LIMIT_S)  # a request that is killed leaves its socket
        gevent.killall(self.tasks)
        for pid in self.hidden():
            os.kill(pid, signal.SIGKILL)


def _despite_errors(call: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(OSError):  # it was killed meanwhile
        call(*args)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    with contextlib.ExitStack() as stack:

        def run(*options: str, door: str = "llmsnap", seed: int = 0) -> Victim:
            running = serving(tmp_path, CONFIG, *options, door=door, grace=GRACE_S)
            server = stack.enter_context(running)
            port = int(server.config.stem.removeprefix("config"))
            victim = Victim(server, port, random.Random(seed))
            stack.callback(victim.close)
            return victim

        yield run


def forks(victim: Victim) -> None:
    victim.begin(victim.server.chat, victim.chance.choice(SERVERS))
    victim.pause(0.1)


def loads(victim: Victim) -> None:
    victim.begin(victim.server.chat, "slow")
    victim.wait_state("slow", "starting")
    victim.pause(1)


def is_ready(victim: Victim) -> None:
    victim.load(*SERVERS)
    victim.pause(0.2)


def sleeps(victim: Victim) -> None:
    victim.load("sleeper")
    victim.begin(victim.server.post, "/api/models/sleep/sleeper")
    victim.wait_state("sleeper", "sleepPending", "asleep")
    victim.pause(1)


def stops(victim: Victim) -> None:
    victim.load(*SERVERS, "tidy")
    victim.begin(victim.server.post, "/api/models/unload")
    victim.pause(GRACE_S)


MOMENTS = (forks, loads, is_ready, sleeps, stops)


@pytest.mark.parametrize(
    "number", range(KILLS), ids=lambda n: f"{MOMENTS[n % len(MOMENTS)].__name__}-{n}"
)
def test_nothing_outlives_an_llmsnap_that_is_killed_when_it(start, number: int) -> None:
    victim = start(seed=number)
    MOMENTS[number % len(MOMENTS)](victim)
    victim.kill()


@pytest.mark.parametrize("model", ["stubborn", "hiding"])
@pytest.mark.parametrize("door", ["gunicorn", "gunicorn without conf", "flask"])
def test_behind_each_door(start, door: str, model: str) -> None:
    victim = start(door=door)
    victim.load(model)
    if door == "flask":  # its reloader, which is what people see and kill
        victim.kill()
    else:
        worker = victim.guardian().ppid()
        assert worker != victim.server.process.pid
        os.kill(victim.server.process.pid, signal.SIGSTOP)  # or it starts another worker
        victim.kill(worker)
        os.kill(victim.server.process.pid, signal.SIGCONT)


def test_the_guardian_is_replaced_when_it_is_killed(start) -> None:
    victim = start()
    victim.load("hiding")
    first = victim.guardian()
    first.kill()
    found = victim.server.wait_output(r"the guardian process \(pid (\d+)\) ended with signal SIG")
    assert int(found[1]) == first.pid
    victim.server.wait_output(r"another guardian process runs, pid")
    assert victim.guardian().pid != first.pid
    assert not first.is_running(), "no zombie is left"
    assert victim.server.running() == {"hiding": "ready"}
    assert victim.server.chat("hiding").status_code == 200
    victim.kill()


def test_the_guardian_waits_for_an_orderly_end_and_ends_with_it(start) -> None:
    victim = start()
    victim.load("hiding")
    guarding = victim.guardian()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        guarding.send_signal(number)  # as Ctrl-C and systemd do
    assert victim.server.stop(signal.SIGTERM) == 0
    assert not victim.hidden()
    victim.server.wait_for(lambda: not guarding.is_running())


def both_killed(victim: Victim) -> None:
    for pid in (victim.guardian().pid, victim.server.process.pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (victim.guardian().pid, victim.server.process.pid):
        os.kill(pid, signal.SIGKILL)
    victim.server.process.wait(LIMIT_S)


def test_the_next_start_of_any_configuration_stops_what_is_left(start, tmp_path: Path) -> None:
    dead, living = start(), start()
    for victim in (dead, living):
        victim.load("hiding")
    both_killed(dead)
    other = start("--state-dir", str(tmp_path / "other"))
    other.server.wait_for(lambda: not dead.hidden())  # one that starts beside us may be quicker
    assert living.hidden()
    assert living.server.chat("hiding").status_code == 200
    assert other.server.stop(signal.SIGTERM) == 0
    assert living.server.stop(signal.SIGTERM) == 0
