"""Each way to run llmsnap serves, swaps, and leaves no process behind."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent import monkey, subprocess

from llmsnap.installation import identify
from tests.e2e.harness import ROOT, STOP_LIMIT_S, text_of, wait_until_it_answers
from tests.fakes.ports import free_port

pytestmark = pytest.mark.e2e

close_now = monkey.get_original("os", "close")

DOORS = ["llmsnap", "gunicorn", "gunicorn without conf", "flask"]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_serves_swaps_and_leaves_nothing(start, door: str) -> None:
    server = start(door=door)
    server.wait_output(re.escape(identify().short))
    assert server.chat("alpha").json()["choices"][0]["message"]["content"]
    assert server.running() == {"alpha": "ready"}
    assert "You said: hi" in text_of(server.chat("beta", stream=True))
    assert server.running() == {"beta": "ready"}
    server.stop(signal.SIGTERM)


@pytest.mark.parametrize(
    ("door", "options", "own"),
    [
        ("llmsnap", ("--listen", "0.0.0.0:0"), ()),
        ("gunicorn", (), ("-b", "0.0.0.0:0")),
        ("flask", (), ("--host", "0.0.0.0")),
    ],
)
def test_a_door_that_others_reach_without_keys_says_so(start, door: str, options, own) -> None:
    server = start("logToStdout: proxy\n", *options, door=door, own=own, ready=door != "llmsnap")
    assert server.wait_output(r"no apiKeys: every client that reaches 0\.0\.0\.0:\d+ may use")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_all_models_with_it(start, number: int) -> None:
    server = start()
    server.chat("alpha")
    assert server.stop(number) == 0


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start llmsnap with an output that nothing reads."""
    good, broken = tmp_path / "good.yaml", tmp_path / "broken.yaml"
    good.write_text("models: {}\n")
    broken.write_text("models: 3\ngroups: 4\n")
    files = {"GOOD": str(good), "BROKEN": str(broken)}
    started: list[subprocess.Popen] = []

    def start(*args: str) -> subprocess.Popen:
        reader, writer = os.pipe()
        close_now(reader)  # gevent's may wait for the next pass of the event loop
        words = [files.get(word, word) for word in args]
        env = {**os.environ, "LLMSNAP_STATE_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "llmsnap", *words]
        started.append(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=writer, stderr=subprocess.PIPE)
        )
        os.close(writer)
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["--version"], 141),
        (["--config", "BROKEN"], 141),
        (["--config", "/no/such/file.yaml"], 141),
        (["--config", "GOOD", "--listen", "192.0.2.1:1"], 141),
        (["check", "BROKEN"], 141),
    ],
)
def test_what_only_prints_ends_quietly_when_nothing_reads_it(
    unread, args: list[str], code: int
) -> None:
    process = unread(*args)
    _, said = process.communicate(timeout=STOP_LIMIT_S)
    assert (process.returncode, said) == (code, b"")


def test_a_server_serves_when_nothing_reads_its_output(unread) -> None:
    port = free_port()
    process = unread("--config", "GOOD", "--listen", f"127.0.0.1:{port}")
    wait_until_it_answers(f"http://127.0.0.1:{port}", process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=STOP_LIMIT_S)
    assert (process.returncode, said) == (0, b"")
