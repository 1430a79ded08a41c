from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.e2e.harness import DEFAULT_DOOR, SIM, Running, children_with
from tests.e2e.losses import losses, table
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


GONE_S = 5.0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if losses:
        terminalreporter.section("what was lost")
        for line in table():
            terminalreporter.write_line(line)


def running_models(ports: list[int]) -> list[int]:
    """The processes of models with ports from these on."""
    return [
        pid for port in ports for n in range(10) for pid in children_with(f"--port {port + n} ")
    ]


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
    left = running_models(ports)
    with contextlib.suppress(gevent.Timeout), gevent.Timeout(GONE_S):
        while left := running_models(ports):  # one whose server was killed has its grace
            gevent.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a model outlived its server"


@pytest.fixture
def server(start: Callable[..., Running]) -> Running:
    return start()
