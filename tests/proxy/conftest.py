from collections.abc import Iterator

import pytest

from tests.fakes.wire import WireServer


@pytest.fixture
def wire() -> Iterator[WireServer]:
    server = WireServer()
    server.start()
    yield server
    server.stop()
