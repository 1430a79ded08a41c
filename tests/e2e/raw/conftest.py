"""One server per door, its model loaded; raw sockets do the talking."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

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
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(RawClient(("127.0.0.1", server.port))))
