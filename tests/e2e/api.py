"""What the tests of the HTTP surface share: servers for a whole module, peers, raw requests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from gevent import socket, subprocess

from tests.e2e.harness import DEFAULT_DOOR, SIM, Installed, Running, children_with
from tests.fakes.ports import free_port, free_ports


@contextlib.contextmanager
def serving(
    folder: Path,
    text: str,
    *options: str,
    door: str = DEFAULT_DOOR,
    installed: Installed | None = None,
    **more: Any,
):
    """A running llmsnap with a config text, in which {sim}, {port} and *more* are filled in."""
    port = free_ports(40)
    config = folder / f"config{port}.yaml"
    config.write_text(text.format(sim=SIM, port=port, **more))
    server = Running(door, config, *options, installed=installed)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop(signal.SIGTERM)
        left = [pid for n in range(10) for pid in children_with(f"--port {port + n} ")]
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
