"""What the browser looks at: the real command with simulated models, or the made-up world."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import gevent

from tests.fakes.ports import free_port, free_ports

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60
HELD_S = 240
"""A test may have a request wait for a model as long as it lasts."""

CONFIG = """\
startPort: {port}
healthCheckTimeout: 600
macros:
  base: "{python} -m llmsnap.simulator --host 127.0.0.1 --port ${{PORT}} --model ${{MODEL_ID}}"
  quick: ${{base}} --load-time 0.1 --tokens-per-second
models:
  alpha: {{name: Alpha, description: Everyday <b>chat</b>, cmd: "${{quick}} 200", ttl: 600}}
  beta: {{name: Beta, cmd: "${{quick}} 8", ttl: 600}}
  sleeper: {{name: Sleeper, cmd: "${{quick}} 200", ttl: 600, sleepMode: enable,
    sleepEndpoints: [{{endpoint: /sleep}}], wakeEndpoints: [{{endpoint: /wake_up}}]}}
  slow: {{name: Slow, cmd: "${{base}} --load-time 600", ttl: 600}}
  talker: {{name: Talker, cmd: "${{quick}} 8 --tokens 10000", ttl: 600}}
  broken:
    cmd: >-
      sh -c "test -e {mended} && exec ${{base}};
      echo loading; echo cudaMalloc failed, out of memory; exit 3"
  embed: {{name: Embed, cmd: "${{quick}} 200", ttl: 600, unlisted: true}}
groups:
  always-there: {{swap: false, exclusive: false, persistent: true, members: [embed]}}
"""
"""Models of the simulator: they swap, sleep, load for ever, talk for ever, are unlisted.

"broken" cannot be loaded until the file *mended* is there.
"""


def until(fact: Callable[[], Any]) -> Any:
    """Wait until *fact* is true, and return it."""
    with gevent.Timeout(PATIENCE_S):
        while not (found := fact()):
            gevent.sleep(0.05)
        return found


class Server:
    """A program that serves the interface, in a process of its own."""

    def __init__(
        self, command: list[str], port: int, log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self._command, self._log, self._env = command, log, os.environ | (env or {})
        self._child: subprocess.Popen[bytes] | None = None
        self.config = Path()

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
        until(self._answers)

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(PATIENCE_S)
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str) -> Any:
        """The JSON under *path*."""
        with urllib.request.urlopen(self.base + path, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any = None) -> bytes:
        """The answer to a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers)
        with urllib.request.urlopen(request, timeout=HELD_S) as answer:
            return bytes(answer.read())

    def set(self, **some: Any) -> None:
        """Set attributes of the made-up world."""
        self.post("/fake/set", some)

    def sent(self) -> str:
        """What the request that ended last asked for; empty before the first."""
        records = self.get("/api/activity?limit=1")["records"]
        if not records or not records[0]["has_capture"]:
            return ""
        capture = self.get(f"/api/captures/{records[0]['id']}")
        return base64.b64decode(capture["req_body"]).decode()

    def states(self) -> dict[str, str]:
        """What /running says: model id -> state."""
        return {each["model"]: each["state"] for each in self.get("/running")["running"]}

    def ask(self, model: str, text: str = "hello") -> bytes:
        """The answer of a model to a message, streamed."""
        message = {"role": "user", "content": text}
        return self.post("/v1/chat/completions", {"model": model, "messages": [message]})

    def configure(self, text: str) -> None:
        """Put *text* in place of the configuration file, at once."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.config)

    @contextmanager
    def configured(self, text: str) -> Iterator[None]:
        """Have the server read *text* in place of its configuration, for a while."""

        def standing() -> tuple[str, int]:
            status = self.get("/api/config/status")
            return status["hash"], len(status["errors"])

        good, before = self.config.read_text(), standing()
        try:
            self.configure(text)
            until(lambda: standing() != before)
            yield
        finally:
            self.configure(good)
            until(lambda: standing() == before)

    def _answers(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, self._log.read_text()
        try:
            urllib.request.urlopen(self.base + "/ui/", timeout=5).close()
        except urllib.error.HTTPError:
            return True  # a refusal is an answer, too
        except (urllib.error.URLError, ConnectionError):
            return False
        return True


def real(folder: Path) -> Server:
    """The real command; its configuration is ``folder / "config.yaml"``."""
    given = {"port": free_ports(40), "mended": folder / "mended", "python": sys.executable}
    return serving(folder, CONFIG.format(**given))


def demo(folder: Path, variables: dict[str, str]) -> Server:
    """The real command on conf/demo.yaml, with ports of its own."""
    text = (ROOT / "conf" / "demo.yaml").read_text()
    ports = f"startPort: {free_ports(40)}"
    return serving(folder, text.replace("startPort: 18650", ports), variables)


def serving(
    folder: Path, text: str, env: dict[str, str] | None = None, host: str = "127.0.0.1"
) -> Server:
    """The real command with the configuration *text*."""
    port = free_port()
    file = folder / "config.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "llmsnap", "--config", str(file), "--watch-config"]
    command += ["--listen", f"{host}:{port}", "--state-dir", str(folder / "state")]
    server = Server(command, port, folder / "server.log", env)
    server.config = file
    return server


def fake(folder: Path, *flags: str) -> Server:
    """The made-up world."""
    port = free_port()
    command = [sys.executable, "-m", "tests.ui.fake_api", "--port", str(port), *flags]
    return Server(command, port, folder / "fake.log")
