"""The measured processes: starts, queries, measures and stops them with all descendants."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from llmsnap.limits import child_setup

ROOT = Path(__file__).parent.parent
SERVERS = ("upstream.py", "llmsnap.simulator")
"""Words in a command that identify an inference server."""
START_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
ANSWER_LIMIT_S = 60.0
POLL_S = 0.002
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOG_TAIL_CHARACTERS = 2000
CPUCLOCK_SCHED = 2
"""The kernel's name of the clock that counts a process's time to the nanosecond."""


class BenchFailed(Exception):
    """The measurement failed; the message gives the reason."""


def free_ports(count: int) -> int:
    """Return the first of *count* free ports in a row, out of reach of outgoing connections."""
    for _ in range(100):
        first = random.randrange(29_000, 32_000)  # below are those of tests
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", port))
            return first
    raise BenchFailed("no free ports between 29000 and 32000")


def post(port: int, path: str, document: Any = None) -> float:
    """Return the seconds until the response. Raises: BenchFailed unless it is a 200."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        body = json.dumps(document or {})
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchFailed(f"POST {path} to port {port}: {error!r}") from error
    finally:
        connection.close()
    took = time.perf_counter() - began
    if answer.status != 200:
        raise BenchFailed(f"POST {path} to port {port}: {answer.status} {text[:500]!r}")
    return took


def chat(port: int, model: str) -> float:
    """Return the seconds that a short chat with *model* took."""
    messages = [{"role": "user", "content": "hi"}]
    return post(port, "/v1/chat/completions", {"model": model, "messages": messages})


@contextmanager
def signals_held() -> Iterator[None]:
    """Block signals while a child is started, until its owner is registered.

    With a ``preexec_fn`` Python runs hooks of its own after the fork, and an exception that a
    signal raises in one of these is lost.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with_us() -> Callable[[], None]:
    """Return the ``preexec_fn`` of a child that the kernel ends when this process is killed."""
    set_up = child_setup()

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        set_up()

    return run


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU time that processes have used so far. Raises: OSError when one is gone."""
    if psutil.LINUX:  # psutil's is counted in ticks of 10 ms
        return sum(time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED) for pid in pids)
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def wake_ups(pids: Sequence[int]) -> dict[int, int]:
    """Return how often each thread of processes has gone to sleep so far, to be woken again."""
    if not psutil.LINUX:
        return {pid: psutil.Process(pid).num_ctx_switches().voluntary for pid in pids}
    found = {}
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has ended
                text = (thread / "status").read_text()
                found[int(thread.name)] = int(text.partition("\nvoluntary_ctxt_")[2].split()[1])
    return found


def wake_ups_since(before: Mapping[int, int], pids: Sequence[int]) -> int:
    """Return how often threads have been woken since ``wake_ups`` returned *before*."""
    return sum(count - before.get(thread, 0) for thread, count in wake_ups(pids).items())


def _clean_environment() -> dict[str, str]:
    """Return the environment without settings for another llmsnap."""
    return {name: text for name, text in os.environ.items() if not name.startswith("LLMSNAP_")}


def _is_server(process: psutil.Process) -> bool:
    return any(name in word for word in process.cmdline() for name in SERVERS)


class Running:
    """A process that serves on *port*. The constructor waits until ``/health`` answers."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], port: int, log: Path
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        began = time.perf_counter()
        with ExitStack() as stack, log.open("wb") as output:
            with signals_held():
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**_clean_environment(), **env},
                    cwd=ROOT,
                    start_new_session=True,  # the runner handles Ctrl-C and stops this process
                    preexec_fn=end_with_us(),  # noqa: PLW1509 - the runner has one thread
                )
                stack.callback(self.stop)
            self._wait_healthy(began + START_LIMIT_S)
            stack.pop_all()
        self.start_s = time.perf_counter() - began
        """Seconds from the start to the first response."""

    def __repr__(self) -> str:
        return f"<Running {self.name} on {self.port}, pid {self._process.pid}>"

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def rss_bytes(self) -> int:
        """Return the memory of the process and its workers, without inference servers."""
        return sum(one.memory_info().rss for one in self._own())

    def cpu_s(self) -> float:
        """Return the CPU time of the process and its workers so far, without servers."""
        return cpu_s(self.pids())

    def pids(self) -> list[int]:
        """Return the ids of the process and its workers, without servers."""
        return [one.pid for one in self._own()]

    def stop(self) -> None:
        """Stop the process, and its remaining children. Idempotent."""
        family = self._family()
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _own(self) -> list[psutil.Process]:
        """Return the process and its descendants, without inference servers."""
        family = self._family()
        return family[:1] + [one for one in family[1:] if not _is_server(one)]

    def _wait_healthy(self, end: float) -> None:
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                break
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            connection.close()
            time.sleep(POLL_S)
        text = self._log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
        raise BenchFailed(f"{self.name} did not start:\n{text}")
