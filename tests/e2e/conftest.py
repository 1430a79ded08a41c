from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import DEFAULT_DOOR, SIM, Running, children_with
from tests.fakes.ports import free_ports

TWO_MODELS = """\
startPort: {port}
macros:
  sim: {sim}
models:
  alpha:
    cmd: ${{sim}}
    aliases: [first]
  beta:
    cmd: ${{sim}}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start llmsnap with a config text, in which {sim} and {port} are filled in."""
    servers: list[Running] = []
    ports: list[int] = []

    def run(
        text: str = TWO_MODELS,
        *options: str,
        door: str = DEFAULT_DOOR,
        own: tuple[str, ...] = (),
        ready: bool = True,
    ) -> Running:
        config = tmp_path / f"config{len(servers)}.yaml"
        port = free_ports(40)
        ports.append(port)
        config.write_text(text.format(sim=SIM, port=port))
        server = Running(door, config, *options, own=own)
        servers.append(server)
        if ready:
            server.wait_ready()
        return server

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.stop(signal.SIGTERM)
    left = [
        pid for port in ports for n in range(10) for pid in children_with(f"--port {port + n} ")
    ]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a model outlived its server"


@pytest.fixture
def server(start: Callable[..., Running]) -> Running:
    return start()
