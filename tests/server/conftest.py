from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
        client = RawClient(self.address)
        self.clients.append(client)
        return client

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
