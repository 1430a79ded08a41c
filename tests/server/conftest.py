from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from gevent.event import Event

from llmsnap.server import HttpServer, open_listener
from tests.server.raw import RawClient


class Serving:
    """A server on a port of its own, and clients of it."""

    def __init__(self, app: Any, listen: str, **options: Any) -> None:
        listener = open_listener(listen)
        self.address = listener.getsockname()
        self.server = HttpServer(listener, app, **options)
        self.server.start()
        self.clients: list[RawClient] = []

    def connect(self) -> RawClient:
        self.clients.append(RawClient(self.address))
        return self.clients[-1]

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.finish(0)


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    running: list[Serving] = []

    def start(app: Any, listen: str = "127.0.0.1:0", **options: Any) -> Serving:
        running.append(Serving(app, listen, **options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., RawClient]]:
    """Connects a client, which is closed with the test, to an address or with a socket."""
    with ExitStack() as stack:
        yield lambda *where: stack.enter_context(closing(RawClient(*where)))


class FakeService:
    """Notes what it is asked for; the test decides when it has drained."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closed, self.drained = Event(), Event()

    def open(self) -> None:
        self.calls.append("open")

    def end_feeds(self) -> None:
        self.calls.append("end feeds")

    def close(self, drain_timeout_s: float = 0) -> None:
        self.calls.append(f"close within {drain_timeout_s:g}")
        self.closed.set()
        self.drained.wait()

    def kill(self) -> None:
        self.calls.append("kill")


@pytest.fixture
def service() -> FakeService:
    return FakeService()
