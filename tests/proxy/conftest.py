from __future__ import annotations

from collections.abc import Iterator

import pytest
from gevent import socket

from llmsnap.proxy.pool import ConnectionPool


@pytest.fixture
def pool() -> Iterator[ConnectionPool]:
    made = ConnectionPool()
    yield made
    made.close()


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine whose listener accepts nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        yield listener.getsockname()[1]
