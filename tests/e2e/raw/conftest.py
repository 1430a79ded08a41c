"""One server per door, its model loaded; raw sockets do the talking."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.api import serving
from tests.e2e.harness import Running
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
    with serving(tmp_path_factory.mktemp("raw"), CONFIG, door=request.param) as running:
        assert running.chat("alpha").status_code == 200
        yield running


@pytest.fixture
def connect(server) -> Iterator[Callable[[], RawClient]]:
    clients: list[RawClient] = []

    def open_one() -> RawClient:
        clients.append(RawClient(("127.0.0.1", server.port)))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()
