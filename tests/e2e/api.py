"""What the tests of the HTTP surface share: servers for a whole module, peers, raw requests."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import requests
from gevent import socket, subprocess

from tests.e2e.harness import DEFAULT_DOOR, SIM, Installed, Running, children_with
from tests.fakes.ports import free_port, free_ports

GATED = "sh -c 'until test -e {gate}; do sleep 0.05; done; exec {sim} $*' -"
GONE_S = 20.0


@contextlib.contextmanager
def serving(
    folder: Path,
    text: str | Path,
    *options: str,
    door: str = DEFAULT_DOOR,
    own: tuple[str, ...] = (),
    installed: Installed | None = None,
    ready: bool = True,
    reads: bool = True,
    **places: Any,
) -> Iterator[Running]:
    """A running llmsnap with a config text, or the file that another one had.

    In the text {sim}, {port} and *places* are filled in, and {gated}: a simulator that starts once
    the file ``gate`` of the server is there.
    """
    if isinstance(text, Path):
        config, port = text, int(text.stem.removeprefix("config"))
    else:
        port = free_ports(40)
        config = folder / f"config{port}.yaml"
        gated = GATED.format(gate=config.with_suffix(".gate"), sim=SIM)
        config.write_text(text.format(sim=SIM, port=port, gated=gated, **places))
    server = Running(door, config, *options, own=own, installed=installed, reads=reads)
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        server.stop(signal.SIGTERM)
        assert_no_model_at(range(port, port + 10))


def assert_no_model_at(ports: Sequence[int]) -> None:
    """Wait until no model has one of *ports*: one whose server was killed has its grace."""
    left: list[int] = []
    with contextlib.suppress(gevent.Timeout), gevent.Timeout(GONE_S):
        while left := children_with(*(f"--port {port} " for port in ports)):
            gevent.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a model outlived its server"


@contextlib.contextmanager
def peer(*args: str) -> Iterator[str]:
    """The base URL of a simulated server that llmsnap did not start."""
    port = free_port()
    command = [sys.executable, "-m", "llmsnap.simulator", "--port", str(port), *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while b"http://" not in (line := process.stdout.readline()):
            assert line, "the peer did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def raw(server: Running, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are, and read the answer until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        text = head.replace("\n", "\r\n") + f"\r\nHost: 127.0.0.1:{server.port}"
        sock.sendall(f"{text}\r\nConnection: close\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    start, _, content = answer.partition(b"\r\n\r\n")
    first, *lines = start.decode().split("\r\n")
    headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}
    return int(first.split()[1]), headers, content


def error_of(answer: requests.Response) -> dict[str, Any]:
    """The error of a JSON answer, whichever API's shape it has."""
    assert answer.headers["Content-Type"].startswith("application/json"), answer.text
    return answer.json()["error"]


def arrived(answer: requests.Response) -> dict[str, Any]:
    """The request as the simulated server got it, header names in lower case."""
    document = answer.json()
    request = document.get("sim_request", document)
    request["headers"] = {name.lower(): value for name, value in request["headers"]}
    return request
