from collections.abc import Iterator

import pytest
from gevent import socket

from llmsnap.proxy import dispatch
from llmsnap.proxy.pool import ConnectionPool


@pytest.fixture
def pool() -> Iterator[ConnectionPool]:
    made = ConnectionPool()
    yield made
    made.close()


@pytest.fixture
def soon(monkeypatch) -> None:
    """Comments come after 10 ms."""
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine whose listener accepts nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        yield listener.getsockname()[1]
