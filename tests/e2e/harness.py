"""The real command with real children, on each of its HTTP servers."""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
import requests
from gevent import subprocess
from gevent.event import Event

from llmsnap.launchers.local import guardian
from tests.fakes.ports import free_port

ROOT = Path(__file__).parent.parent.parent
START_LIMIT_S = 40
STOP_LIMIT_S = 40
SIM = f"{sys.executable} -m llmsnap.simulator --port ${{PORT}} --model ${{MODEL_ID}}"


DEFAULT_DOOR = os.environ.get("LLMSNAP_TEST_SERVER", "llmsnap")
"""The server of tests that do not name one: ``make e2e-gunicorn`` sets it."""
FEW_FILES = "llmsnap with 400 files"


def command_of(
    door: str, config: Path | None, port: int, options: tuple[str, ...], own: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return command line and environment that run llmsnap on the server *door*.

    *options* are those of the ``llmsnap`` command, *own* those of this server alone. Without
    *config* they name a directory of files.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    python = [sys.executable, "-m"]
    if door in {"llmsnap", FEW_FILES}:
        listen = f"127.0.0.1:{port}"
        file = ["--config", str(config)] if config is not None else []
        given = [*file, "--listen", listen, *options]
        limit = ["sh", "-c", 'ulimit -n 400; exec "$@"', "-"] if door == FEW_FILES else []
        return [*limit, *python, "llmsnap", *given], env
    env |= {"LLMSNAP_CONFIG": str(config), **_variables(options)}
    if door == "flask":
        flask = [*python, "flask", "--app", "llmsnap.wsgi", "run", "--debug"]
        return [*flask, "--port", str(port), *own], env
    conf = {"gunicorn": ["-c", str(ROOT / "conf/gunicorn.conf.py")], "gunicorn without conf": []}
    gunicorn = [*python, "gunicorn", *conf[door], "-k", "gevent", "-w", "1"]
    return [*gunicorn, "-b", f"127.0.0.1:{port}", *own, "llmsnap.wsgi:app"], env


def _variables(options: tuple[str, ...]) -> dict[str, str]:
    """Return ``--watch-config --log-format json`` as the environment of a WSGI server."""
    found: dict[str, str] = {}
    name = ""
    for word in options:
        if word.startswith("--"):
            name = "LLMSNAP_" + word[2:].upper().replace("-", "_")
            found[name] = "true"
        else:
            found[name] = word
    return found


@dataclass(frozen=True)
class Installed:
    """The command of an ``llmsnap`` outside the checkout."""

    program: Path
    environ: dict[str, str]
    cwd: Path


class Running:
    """One running llmsnap. ``get`` and ``post`` send requests, ``output`` is what it has said."""

    def __init__(
        self,
        door: str,
        config: Path | None,
        *options: str,
        own: tuple[str, ...] = (),
        installed: Installed | None = None,
        reads: bool = True,
    ) -> None:
        self.door = door
        self.config = config
        self.gate = config and config.with_suffix(".gate")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = ""
        self._came = Event()
        command, env = command_of(door, config, self.port, options, own)
        if installed is not None:
            command = [str(installed.program), *command[command.index("--config") :]]
            env = installed.environ
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=installed.cwd if installed else ROOT,
            start_new_session=True,
        )
        self._unread: list[requests.Response] = []
        self._reader = gevent.spawn(self._read) if reads else None

    def _read(self) -> None:
        for line in self.process.stdout:
            self.output += line.decode(errors="replace")
            self._came.set()

    def wait_ready(self) -> None:
        wait_until_it_answers(self.url, self.process, lambda: self.output)

    def wait_output(self, pattern: str) -> re.Match[str]:
        with gevent.Timeout(START_LIMIT_S, RuntimeError(f"no {pattern!r} in: {self.output}")):
            while not (found := re.search(pattern, self.output)):
                self._came.clear()
                self._came.wait(0.1)
        return found

    def wait_for(self, fact: Any) -> Any:
        """Poll *fact* until it is true, and return its value."""
        with gevent.Timeout(START_LIMIT_S, RuntimeError(f"never so: {fact}, {self.output}")):
            while not (value := fact()):
                gevent.sleep(0.02)
        return value

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self._keep(requests.get(self.url + path, timeout=START_LIMIT_S, **kwargs))

    def post(self, path: str, document: Any = None, **kwargs: Any) -> requests.Response:
        url = self.url + path
        return self._keep(requests.post(url, json=document, timeout=START_LIMIT_S, **kwargs))

    def _keep(self, answer: requests.Response) -> requests.Response:
        # An unread response would keep its socket until garbage collection.
        if not answer.raw.closed:
            self._unread.append(answer)
        return answer

    def chat(self, model: str, text: str = "hi", **members: Any) -> requests.Response:
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, **members}
        return self.post("/v1/chat/completions", body, stream=bool(members.get("stream")))

    def running(self) -> dict[str, str]:
        return {one["model"]: one["state"] for one in self.get("/running").json()["running"]}

    def view(self, model: str) -> dict[str, Any]:
        """How a model stands, also a stopped one: ``in_flight``, ``waiting``, ``why``."""
        models = self.get("/api/overview").json()["models"]
        return next(each for each in models if each["model_id"] == model)

    def swaps(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return self.get("/api/swaps").json()["swaps"]

    def records(self, query: str = "") -> list[dict[str, Any]]:
        """The newest first."""
        return self.get(f"/api/activity?{query}").json()["records"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        for answer in self._unread:
            answer.close()
        if self._reader is not None:
            self._reader.join(2)
            self._reader.kill()
        self.process.stdout.close()
        return code


def wait_until_it_answers(
    url: str, process: subprocess.Popen, output: Callable[[], str] = str
) -> None:
    """Wait until the llmsnap at *url* serves; *output* is what it said."""
    with gevent.Timeout(START_LIMIT_S, RuntimeError(f"{url} never answered")):
        while True:
            with contextlib.suppress(OSError, requests.RequestException):
                if requests.get(f"{url}/health", timeout=START_LIMIT_S).status_code == 200:
                    return
            assert process.poll() is None, output()
            gevent.sleep(0.02)


def real_model() -> dict[str, str]:
    """The variables of conf/demo.yaml for a real llama-server; without one the test is skipped."""
    script = ROOT / "scripts" / "demo.py"
    found: dict[str, str] = json.loads(subprocess.check_output([sys.executable, script, "env"]))
    if why := found.pop("why_simulated"):
        pytest.skip(f"no real model: {why}")
    return found


def events(response: requests.Response) -> Iterator[dict[str, Any]]:
    """Return the JSON documents of a stream, without its [DONE]."""
    for line in response.iter_lines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def text_of(response: requests.Response) -> str:
    """Return the text of a streamed chat."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in events(response)
        for choice in event.get("choices", [])
    )


def children_with(*texts: str) -> list[int]:
    """Return the pids of running processes whose command line contains one of *texts*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if any(text in line for text in texts) and state != "Z" and "pytest" not in line:
                    found.append(int(entry.name))
    return found


def pids_below(pid: int) -> list[int]:
    """Return all descendants of a process."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def guardians_below(pid: int) -> list[int]:
    """The guardians among them."""
    name = guardian.__file__.encode()
    return [each for each in pids_below(pid) if name in (guardian.read(each, "cmdline") or b"")]


def models_below(pid: int) -> set[int]:
    """The others."""
    return set(pids_below(pid)) - set(guardians_below(pid))


def is_alive(pid: int) -> bool:
    """Whether the process exists and runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
