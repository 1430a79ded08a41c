"""Applies to every test: a deadline, and a check that no greenlet outlives it."""

import atexit
import gc
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket

import llmsnap
from llmsnap.event_loop import watch_loop
from tests.fakes.wire import WireServer

gc.disable()  # until all is collected: a quarter of that time went to looks for garbage

UNIT_LIMIT_S = 60 if {"LLMSNAP_RAY", "LLMSNAP_SLURM"} & os.environ.keys() else 20
"""Seconds that no test needs: a stop for those that hang, on a busy machine too."""
E2E_LIMIT_S = 180


class TestDeadline(BaseException):
    """A test ran longer than its limit."""

    __test__ = False


class Progress:
    """Counts finished tests in a file, for scripts/side_by_side.py."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.done = self.total = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = len(session.items)

    def pytest_runtest_logfinish(self) -> None:
        self.done += 1
        self.path.write_text(f"{self.done} {self.total}")


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.pop("LLMSNAP_TEST_PROGRESS", ""):
        config.pluginmanager.register(Progress(path))
    # As if the environment were activated: a "python3" that is a shim of pyenv takes 60 ms.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Code that blocks the event loop shows its stack in the output of the test.
    watch_loop(within=str(Path(llmsnap.__file__).parent))
    atexit.register(gc.freeze)  # Python would look through all modules three times before its end


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    gevent.get_hub().periodic_monitoring_thread.kill()


_started: weakref.WeakSet[gevent.Greenlet] = weakref.WeakSet()
gevent.Greenlet.add_spawn_callback(_started.add)


def live_greenlets() -> list[gevent.Greenlet]:
    return [greenlet for greenlet in _started if not greenlet.dead]


@pytest.fixture
def limit_s(request: pytest.FixtureRequest) -> float:
    e2e = request.node.get_closest_marker("e2e")
    return e2e.kwargs.get("limit_s", E2E_LIMIT_S) if e2e else UNIT_LIMIT_S


@pytest.fixture(autouse=True)
def limits(limit_s: float) -> Iterator[None]:
    """End a test that takes longer than *limit_s*, and fail one that leaves greenlets behind.

    One fixture: each costs every test 0.1 ms.
    """
    before = {id(g) for g in live_greenlets()}
    with gevent.Timeout(limit_s, TestDeadline(f"test took longer than {limit_s} s")):
        yield
    if any(id(g) not in before for g in live_greenlets()):
        gevent.idle()  # those that are about to end
    left = [g for g in live_greenlets() if id(g) not in before]
    gevent.killall(left)
    assert not left, f"greenlets left behind: {left}"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two sockets that are connected to each other."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def wire() -> Iterator[WireServer]:
    server = WireServer()
    server.start()
    yield server
    server.stop()
