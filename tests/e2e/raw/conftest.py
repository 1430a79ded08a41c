"""One server per door, its model loaded; raw sockets do the talking."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.harness import SIM, Running
from tests.fakes.ports import free_ports
from tests.server.raw import RawClient

CONFIG = """\
startPort: {port}
models:
  alpha:
    cmd: {sim}
"""
DOORS = ("llmsnap", "gunicorn", "gunicorn without conf")


@pytest.fixture(scope="session", params=DOORS)
def server(request, tmp_path_factory) -> Iterator[Running]:
    config = tmp_path_factory.mktemp("raw") / "config.yaml"
    config.write_text(CONFIG.format(sim=SIM, port=free_ports(20)))
    running = Running(request.param, config)
    try:
        running.wait_ready()
        assert running.chat("alpha").status_code == 200
        yield running
    finally:
        running.stop(signal.SIGTERM)


@pytest.fixture
def connect(server) -> Iterator[Callable[[], RawClient]]:
    clients: list[RawClient] = []

    def open_one() -> RawClient:
        clients.append(RawClient(("127.0.0.1", server.port)))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()
