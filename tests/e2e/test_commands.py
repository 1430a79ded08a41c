"""Commands in processes of their own, against a real server: what only a process can show."""

import os
import signal
import sys

import gevent
import pytest
from gevent import subprocess

from tests.e2e.harness import ROOT, Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
logToStdout: none
models:
  slow: {{cmd: "{sim} --load-time 600"}}
  quick: {{cmd: "{gated}"}}
"""


def command(server: Running, *argv: str, stdout: int = subprocess.PIPE) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "llmsnap", *argv],
        cwd=ROOT,
        env={**os.environ, "LLMSNAP_URL": server.url, "TERM": "xterm", "COLUMNS": "80"},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(("argv", "first"), [("load slow", b"slow: starting\n"), ("logs -f", None)])
def test_an_interrupt_ends_a_command_without_a_word(
    server: Running, argv: str, first: bytes | None
) -> None:
    running = command(server, *argv.split())
    said = running.stdout.readline()
    assert first is None or said == first
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert (running.returncode, errors) == (130, b"")


def test_a_reader_that_leaves_ends_a_command_without_a_word(server: Running) -> None:
    running = command(server, "logs", "-f")
    running.stdout.readline()
    running.stdout.close()
    server.get("/v1/models/unheard-of")  # one more line of log
    assert running.wait() == 141
    assert running.stderr.read() == b""
    running.stderr.close()


def test_a_terminal_sees_a_load_go_on(server: Running) -> None:
    server.post("/api/models/unload/slow")
    server.gate.touch()
    server.post("/api/models/load/quick")
    server.post("/api/models/unload/quick")
    server.gate.unlink()
    ours, theirs = os.openpty()
    running = command(server, "load", "quick", stdout=theirs)
    seen = ""
    while "\r\x1b[Kquick: starting [" not in seen:
        gevent.socket.wait_read(ours, timeout=20)
        seen += os.read(ours, 65536).decode()
    server.gate.touch()
    _, errors = running.communicate()
    seen += os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert (running.returncode, errors) == (0, b"")
    assert seen.endswith(" s\r\n")
    assert "\x1b[32mready\x1b[0m after " in seen


IMPORTED_BEFORE_SERVING = """
import sys
import llmsnap._monkey
from llmsnap import cli
import llmsnap.server
seen = []
llmsnap.server.serve = lambda *_, **__: seen.append("flask" in sys.modules) or 0
assert cli.main(["--config", sys.argv[1], "--listen", "127.0.0.1:0"]) == 0
print(seen)
"""


def test_nothing_large_is_imported_while_streams_may_be_open(tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("models:\n  a:\n    cmd: server ${PORT}\n")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BEFORE_SERVING, str(config)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LLMSNAP_STATE_DIR": str(tmp_path)},
    )
    assert done.stdout == "[True]\n"
