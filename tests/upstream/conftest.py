import os
from collections.abc import Iterator

import pytest

from llmsnap.upstream import guardian
from tests.fakes.launcher import FakeLauncher
from tests.fakes.upstream import FakeUpstream


@pytest.fixture(autouse=True)
def world(monkeypatch) -> None:
    """Marks of these tests mean nothing to an llmsnap that starts beside them, nor its to them."""
    monkeypatch.setattr(guardian, "_world", os.getpid)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.stop()


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher()
