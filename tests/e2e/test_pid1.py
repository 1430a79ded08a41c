"""As the first process of a container, llmsnap looks after what others leave behind."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gevent import subprocess

from llmsnap.launchers.local import orphans
from tests.e2e.harness import ROOT, SIM, Installed, Running, pids_below
from tests.fakes.ports import free_ports

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
models:
  alpha: {{cmd: "{sim}"}}
  broken: {{cmd: "{sim} --exit-at-start 3"}}
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(scope="module")
def unshare() -> list[str]:
    """The command that runs another one as PID 1."""
    for command in (UNSHARE, [*UNSHARE, "--user", "--map-root-user"]):
        done = subprocess.run([*command, "true"], capture_output=True, text=True)
        if done.returncode == 0:
            return command
    pytest.skip(f"nothing can be run as PID 1 here: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def server(unshare: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("pid1")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(port=free_ports(40), sim=SIM))
    program = folder / "llmsnap"
    python = f"{sys.executable} -m llmsnap"
    program.write_text(f'#!/bin/sh\nexec {" ".join(unshare)} {python} "$@"\n')
    program.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    running = Running("llmsnap", config, installed=Installed(program, environ, ROOT))
    running.wait_ready()
    yield running
    os.kill(first(running).pid, signal.SIGTERM)
    assert running.process.wait(20) == 0
    running.stop()


def first(server: Running) -> psutil.Process:
    """llmsnap itself: PID 1 in there, the child of unshare out here."""
    (child,) = psutil.Process(server.process.pid).children()
    return child


def orphan(server: Running, command: str) -> None:
    """Run a command whose parent is gone at once, in the world of *server*."""
    where = ["nsenter", "-t", str(first(server).pid), "-p"]
    made = f"({command}) >/dev/null 2>&1 & exec true"
    subprocess.run([*where, "sh", "-c", made], check=True)


def zombies(server: Running) -> list[int]:
    found = first(server).children()
    return [one.pid for one in found if one.status() == psutil.STATUS_ZOMBIE]


def test_it_is_the_first_process(server: Running) -> None:
    status = Path(f"/proc/{first(server).pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    assert line.split()[-1] == "1"


def test_orphans_are_reaped_before_any_model_was_started(server: Running) -> None:
    assert server.running() == {}
    for _ in range(3):
        orphan(server, "sleep 0.1")
    server.wait_for(lambda: not first(server).children())


def test_nobody_loses_the_exit_status_of_a_model(server: Running) -> None:
    for number in range(5):
        orphan(server, f"sleep 0.0{number}; exit 7")
    answer = server.chat("broken")
    assert answer.status_code == 502
    assert "exit code 3" in answer.json()["error"]["message"]
    assert server.chat("alpha").status_code == 200
    assert server.running() == {"alpha": "ready"}
    assert server.post("/api/models/unload/alpha").text == "OK"
    assert server.running() == {}
    server.wait_for(lambda: not zombies(server))


def test_outside_its_models_are_not_taken_for_what_a_dead_llmsnap_left(server: Running) -> None:
    """Their owner has process id 1, which out here is another program, of another age."""
    assert server.chat("alpha").status_code == 200
    found = {each.pid for each in orphans.list_debris("another instance")}
    assert not found & set(pids_below(first(server).pid))
