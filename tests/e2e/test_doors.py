"""Each way to run llmsnap serves, swaps, and leaves no process behind."""

import signal

import pytest

from tests.e2e.harness import is_alive, pids_below, text_of

pytestmark = pytest.mark.e2e

DOORS = ["llmsnap", "gunicorn", "gunicorn without conf"]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_serves_swaps_and_leaves_nothing(start, door: str) -> None:
    server = start(door=door)
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
def test_a_signal_ends_it_with_0_and_all_models_with_it(server, number: int) -> None:
    server.chat("alpha")
    assert server.stop(number) == 0


def test_a_killed_server_takes_its_models_along(server) -> None:
    server.chat("alpha")
    models = pids_below(server.process.pid)
    assert models
    server.stop(signal.SIGKILL)
    server.wait_for(lambda: not any(map(is_alive, models)))


def test_the_version_and_wrong_flags_need_no_server(start) -> None:
    from gevent import subprocess

    from tests.e2e.harness import ROOT, sys

    def run(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmsnap", *args], cwd=ROOT, capture_output=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    code, text = run("-version")
    assert (code, text.split()[0]) == (0, "llmsnap")
    code, text = run("--no-such-flag")
    assert code == 2
    assert "unrecognized arguments: --no-such-flag" in text
    code, text = run("--config", "/no/such/file.yaml")
    assert code == 1
    assert text.startswith("Error loading config")
    assert "/no/such/file.yaml" in text
