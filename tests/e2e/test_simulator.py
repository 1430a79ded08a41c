"""The simulator as a command of its own."""

import http.client
import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "llmsnap.simulator", "--port", "0"]


@pytest.fixture
def start():
    running = []

    def start(*options):
        process = subprocess.Popen(
            [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def line_with(process, words):
    return next(line for line in process.stdout if words in line)


def port_of(process):
    return int(line_with(process, "listening on").rsplit(":", 1)[1])


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_ends_it_with_0(start, number):
    process = start("--model", "m")
    assert get(port_of(process), "/test") == "hi"
    process.send_signal(number)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("options", "words"), [("--load-time 3600", "loading"), ("--flood 100000000", "noise")]
)
def test_a_signal_ends_it_while_it_loads_or_its_log_is_not_read(start, options, words):
    process = start(*options.split())
    line_with(process, words)
    process.terminate()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ("--exit-at-start 3", "cannot be loaded", 3),
        ("--load-time 3600 --exit-after 0.001 --exit-code 9", "loading", 9),
        ("--nonsense", "unrecognized arguments: --nonsense", 2),
    ],
)
def test_it_ends_by_itself(start, options, words, code):
    process = start(*options.split())
    assert words in process.stdout.read()
    assert process.wait() == code


def test_it_can_ignore_a_request_to_end(start):
    process = start("--ignore-sigterm")
    port = port_of(process)
    process.terminate()
    assert get(port, "/test") == "hi"
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_grandchild_outlives_it_and_holds_its_log(start):
    process = start("--grandchild-new-session")
    pid = int(line_with(process, "grandchild").split()[1])
    port_of(process)
    process.terminate()
    assert process.wait() == 0
    os.kill(pid, signal.SIGKILL)
    assert process.stdout.read() is not None
