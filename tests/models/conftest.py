from collections.abc import Iterator

import pytest

from tests.fakes.launcher import FakeLauncher
from tests.fakes.upstream import FakeUpstream


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.stop()


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher()
