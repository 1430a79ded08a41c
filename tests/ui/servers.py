"""What the browser looks at: the real command with simulated models, or the made-up world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import gevent

from tests.fakes.ports import free_port, free_ports

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30

MODEL = """
  {name}:
    name: "{title}"
    description: "{about}"
    cmd: >-
      {python} -m llmsnap.simulator --host 127.0.0.1 --port ${{PORT}} --model {name}
      --load-time {load} --tokens-per-second {speed} --tokens {length}
    checkEndpoint: /health
    ttl: 600
"""
BREAKS = """
  broken:
    cmd: >-
      sh -c "test -e {mended} && exec {python} -m llmsnap.simulator --host 127.0.0.1
      --port ${{PORT}} --model broken; echo loading; echo cudaMalloc failed, out of memory; exit 3"
    checkEndpoint: /health
"""
SLEEPS = """    sleepMode: enable
    sleepEndpoints: [{endpoint: /sleep}]
    wakeEndpoints: [{endpoint: /wake_up}]
"""


def config(start_port: int, mended: Path) -> str:
    """Models of the simulator: they swap, sleep, load slowly, talk for ever, are unlisted.

    "broken" cannot be loaded until the file *mended* is there.
    """
    make = lambda name, **more: MODEL.format(  # noqa: E731
        **{"name": name, "title": name.title(), "about": "", "load": 0.1, "speed": 200, "length": 0}
        | more
        | {"python": sys.executable}
    )
    return "".join(
        [
            f"startPort: {start_port}\nhealthCheckTimeout: 20\nmodels:\n",
            make("alpha", about="Everyday <b>chat</b>"),
            make("beta", speed=8),
            make("sleeper"),
            SLEEPS,
            make("slow", load=15),
            make("talker", speed=8, length=10_000),
            BREAKS.format(python=sys.executable, mended=mended),
            make("embed"),
            "    unlisted: true\n",
            "groups:\n  always-there:\n    swap: false\n    exclusive: false\n"
            "    persistent: true\n    members: [embed]\n",
        ]
    )


class Server:
    """A program that serves the interface, in a process of its own."""

    def __init__(
        self, command: list[str], port: int, log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self._command, self._log, self._env = command, log, os.environ | (env or {})
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        with gevent.Timeout(PATIENCE_S):
            while not self._answers():
                assert self._child.poll() is None, self._log.read_text()
                gevent.sleep(0.05)

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(PATIENCE_S)
            self._child = None

    def get(self, path: str) -> Any:
        """The JSON under *path*."""
        with urllib.request.urlopen(self.base + path, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any = None) -> bytes:
        """The answer to a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return bytes(answer.read())

    def states(self) -> dict[str, str]:
        """What /running says: model id -> state."""
        return {each["model"]: each["state"] for each in self.get("/running")["running"]}

    def ask(self, model: str, text: str = "hello") -> bytes:
        """The answer of a model to a message, streamed."""
        message = {"role": "user", "content": text}
        return self.post("/v1/chat/completions", {"model": model, "messages": [message]})

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.base + "/ui/", timeout=5).close()
        except urllib.error.HTTPError:
            return True  # a refusal is an answer, too
        except (urllib.error.URLError, ConnectionError):
            return False
        return True


def real(folder: Path) -> Server:
    """The real command; its configuration is ``folder / "config.yaml"``."""
    return serving(folder, config(free_ports(40), folder / "mended"))


def demo(folder: Path, variables: dict[str, str]) -> Server:
    """The real command on conf/demo.yaml, with ports of its own."""
    text = (ROOT / "conf" / "demo.yaml").read_text()
    ports = f"startPort: {free_ports(40)}"
    return serving(folder, text.replace("startPort: 18650", ports), variables)


def serving(folder: Path, text: str, env: dict[str, str] | None = None) -> Server:
    """The real command with the configuration *text*."""
    port = free_port()
    file = folder / "config.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "llmsnap", "--config", str(file), "--watch-config"]
    command += ["--listen", f"127.0.0.1:{port}", "--state-dir", str(folder / "state")]
    return Server(command, port, folder / "server.log", env)


def fake(folder: Path, *flags: str) -> Server:
    """The made-up world."""
    port = free_port()
    command = [sys.executable, "-m", "tests.ui.fake_api", "--port", str(port), *flags]
    return Server(command, port, folder / "fake.log")
