"""The runner, alone: what it starts, forwards, and leaves behind, which is nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from llmsnap.launchers.cluster import runner
from llmsnap.launchers.cluster.entrypoint import COMMAND, packed_runner
from tests.launchers import LIMIT_S, is_alive, until

pytestmark = pytest.mark.e2e  # starts programs

FAMILY = [sys.executable, "-S", str(Path(__file__).with_name("family.py"))]
"""A server with five kinds of children; each prints its pid when it is ready."""


class Run:
    """A runner as an engine starts it: by a shell, with its parameters in variables."""

    def __init__(self, argv: list[str], env: dict[str, str] | None = None, **changes: Any) -> None:
        run = {"argv": argv, "gen": "job-1", "bind": "127.0.0.1", "port": 0, "keep_env": False}
        run |= {"not_after": time.time() + 60, "grace": 0.5, "cap": 1 << 20}
        run |= {"log_to": "", "log_token": "", **changes}
        variables = {"LLMSNAP_RUN": json.dumps(run), "LLMSNAP_RUNNER": packed_runner()}
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        more["env"] = {**os.environ, **variables, **(env or {})}
        self.popen = subprocess.Popen(["/bin/sh", "-c", COMMAND], **more)

    def lines_until(self, word: str) -> list[str]:
        found = []
        for line in self.popen.stdout:
            found.append(line.decode().rstrip("\n"))
            if word in found[-1]:
                return found
        raise AssertionError(f"no {word} in {found}")

    def end(self) -> tuple[int, list[str]]:
        output, _ = self.popen.communicate(timeout=LIMIT_S)
        return self.popen.returncode, output.decode().splitlines()


def test_a_server_runs_with_its_key_between_two_lines_of_the_runner() -> None:
    cmd = "import os, sys; print(sys.argv[1], sorted(os.environ)); sys.exit(3)"
    env = {"LLMSNAP_KEY": "k3y", "RAY_AUTH_TOKEN": "t", "SLURM_JWT": "t"}
    env["CUDA_VISIBLE_DEVICES"] = "1"
    code, lines = Run([sys.executable, "-S", "-c", cmd, "--key=${UPSTREAM_KEY}"], env).end()
    assert code == 3
    assert lines[0].startswith("LLMSNAP1 gen=job-1 host=")
    assert lines[-1] == "LLMSNAP1 gen=job-1 exit=3"
    assert lines[1].startswith("--key=k3y")
    assert "'LLAMA_API_KEY'" in lines[1]
    assert "'CUDA_VISIBLE_DEVICES'" in lines[1]
    assert not [name for name in ("LLMSNAP_", "RAY_", "SLURM_") if name in lines[1]]


def test_engine_variables_stay_on_request_and_an_own_key_wins() -> None:
    env = runner.server_environment(
        {"RAY_ADDRESS": "a", "VLLM_API_KEY": "own", "LLMSNAP_X": "x"}, "k", keeps_engine=True
    )
    assert env == {"RAY_ADDRESS": "a", "VLLM_API_KEY": "own", "LLAMA_API_KEY": "k"}


def test_a_start_that_is_late_or_has_no_port_runs_nothing() -> None:
    late, lines = Run(["echo", "ran"], not_after=time.time() - 1).end()
    assert (late, "ran" in lines) == (runner.LATE, False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy, lines = Run(["echo", "ran"], port=taken.getsockname()[1]).end()
    assert (busy, "ran" in lines) == (runner.BUSY, False)


def test_a_command_that_is_not_found_is_told() -> None:
    code, lines = Run(["no-such-program-x"]).end()
    assert code == runner.NOT_FOUND
    assert "cannot run no-such-program-x: No such file or directory" in lines


@pytest.mark.parametrize("exits", [False, True])
def test_a_server_that_stops_or_exits_takes_every_kind_of_child_along(exits: bool) -> None:
    run = Run([*FAMILY, *["exit"] * exits], grace=0.1)
    pids = [int(line.split()[1]) for line in run.lines_until("ready") if "child " in line]
    assert len(pids) == 5
    if not exits:
        run.popen.send_signal(signal.SIGTERM)
    code = 3 if exits else 137  # it ignores SIGTERM
    found, lines = run.end()
    assert (found, lines[-1]) == (code, f"LLMSNAP1 gen=job-1 exit={code}")
    assert not any(map(is_alive, pids))


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    run = Run(FAMILY, grace=600)
    run.lines_until("ready")
    run.popen.send_signal(signal.SIGTERM)
    run.lines_until("asked to stop")
    run.popen.send_signal(signal.SIGTERM)
    assert run.end()[0] == 137


FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=lambda: (print("up", flush=True), time.sleep(60))).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_server_whose_first_thread_has_ended_is_waited_for() -> None:
    run = Run([sys.executable, "-S", "-c", FIRST_THREAD_ENDS])
    run.lines_until("up")
    run.popen.send_signal(signal.SIGTERM)
    assert run.end()[0] == 128 + signal.SIGTERM


def test_a_runner_that_is_killed_takes_the_server_along() -> None:
    run = Run(["sh", "-c", "echo up; exec sleep 60"])
    run.lines_until("up")
    (server,) = psutil.Process(run.popen.pid).children()
    run.popen.kill()
    run.popen.wait(LIMIT_S)
    until(lambda: not is_alive(server.pid))


def test_output_beyond_its_limit_is_dropped_and_that_is_told() -> None:
    _, lines = Run(["sh", "-c", "echo 12345; echo 67890; echo abc"], cap=8).end()
    assert lines[1] == "12345"
    assert "the log of this run is full" in "\n".join(lines)
    assert "abc" not in lines
    assert lines[-1] == "LLMSNAP1 gen=job-1 exit=0"


def test_a_receiver_that_cannot_be_reached_is_not_tried_again_at_once(monkeypatch) -> None:
    tries = []

    def refuse(address: tuple[str, int], limit_s: float) -> None:
        tries.append(limit_s)
        raise TimeoutError

    monkeypatch.setattr(runner.socket, "create_connection", refuse)
    now = iter([0.0, 5.0, 5.5, 7.5, 9.0])
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(now)))
    sink = runner.Sink("10.0.0.1:6819", b"hello\n", b"begin\n")
    for _ in range(3):  # the first attempt takes from 0 to 5
        sink.write(b"line\n")
    assert tries == [runner.CONNECT_LIMIT_S] * 2
    assert (sink.kept, sink.has_lost) == (b"line\n" * 3, False)
