from collections.abc import Iterator

import pytest
from gevent.event import Event

from llmsnap.errors import ChildExited
from llmsnap.models.transition import Interrupt
from llmsnap.tasks import TaskGroup
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


@pytest.fixture
def tasks() -> TaskGroup:
    return TaskGroup("test")


@pytest.fixture
def exited() -> Event:
    return Event()


@pytest.fixture
def aborted() -> Event:
    return Event()


@pytest.fixture
def interrupt(exited: Event, aborted: Event, tasks: TaskGroup) -> Interrupt:
    return Interrupt(exited, aborted, lambda: ChildExited("gone"), tasks)
