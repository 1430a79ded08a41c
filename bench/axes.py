"""The axes of ``growth.py``, and the setup of an instance of a given size."""

from __future__ import annotations

import http.client
import json
import selectors
import shlex
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread

from cost import RECV_BYTES, chat_request, connect, receive
from processes import BenchFailed, Running
from targets import CONCURRENCY, UPSTREAM, USUAL, Setup

NEVER = "znever"
FOR_EVER_S = 36_000
FOR_EVER_MS = 1000 * FOR_EVER_S
STREAM = f"?chunks=9&interval_ms={FOR_EVER_MS}"
QUEUED_LIMIT_S = 30.0
POLL_S = 0.05
EVENTS = b"GET /api/events?format=both HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PACES_S = 0.25
"""Events are sent in batches; after this long every reader has them."""

Prepare = Callable[[Running, int, ExitStack], None]


def _nothing(_running: Running, _size: int, _stack: ExitStack) -> None:
    """All is in the settings."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis. *filed* is the number of requests before the first batch."""

    title: str
    sizes: tuple[int, ...]
    setup: Callable[[int], Setup] = lambda _: USUAL
    prepare: Prepare = _nothing
    filed: Callable[[int], int] = lambda _: 0
    rest_s: float = 0.0
    """Time after each batch that belongs to it."""


def _with_waiting(_size: int) -> Setup:
    command = f"{shlex.join(UPSTREAM)} --port ${{PORT}} --ready-after {FOR_EVER_S}"
    never = {"cmd": command, "concurrencyLimit": CONCURRENCY, "queueLimit": CONCURRENCY}
    both = {"both": {"swap": False, "exclusive": False, "members": ["m", NEVER]}}
    settings = {"models": {NEVER: never}, "groups": both, "healthCheckTimeout": FOR_EVER_S}
    return Setup(settings=settings)


def _wait_for_a_model(running: Running, size: int, stack: ExitStack) -> None:
    """Make *size* requests wait for a model that never becomes ready."""
    for _ in range(size):
        sock = connect(running.port)
        stack.callback(sock.close)
        sock.sendall(chat_request(running.port, NEVER))
    end = time.monotonic() + QUEUED_LIMIT_S
    while (seen := _waiting(running.port)) != size:
        if time.monotonic() > end:
            raise BenchFailed(f"{seen} of {size} requests wait")
        time.sleep(POLL_S)


def _waiting(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=QUEUED_LIMIT_S)
    connection.request("GET", "/api/inflight")
    requests = json.loads(connection.getresponse().read())["requests"]
    connection.close()
    return len(requests)


def _open_streams(running: Running, size: int, stack: ExitStack) -> None:
    """Open streams whose second token is far away."""
    request = chat_request(running.port, query=STREAM)
    for _ in range(size):
        sock = connect(running.port)
        stack.callback(sock.close)
        sock.sendall(request)
        receive(sock, stream=True)


class Drain:
    """Reads and discards the input of connections, in a thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        self._thread = Thread(target=self._run, daemon=True)

    def add(self, sock: socket.socket) -> None:
        """Read *sock* too. Before ``open`` only."""
        self._selector.register(sock, selectors.EVENT_READ)

    def open(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End. Blocks for a moment."""
        self._is_over = True
        self._thread.join()
        self._selector.close()

    def _run(self) -> None:
        while not self._is_over:
            for key, _events in self._selector.select(POLL_S):
                sock = key.fileobj
                if isinstance(sock, socket.socket) and not sock.recv(RECV_BYTES):
                    self._selector.unregister(sock)


def _subscribe(running: Running, size: int, stack: ExitStack) -> None:
    """Make *size* clients read the events, and discard them."""
    drain = Drain()
    for _ in range(size):
        sock = connect(running.port)
        stack.callback(sock.close)
        sock.sendall(EVENTS)
        receive(sock, stream=True)
        drain.add(sock)
    if size:
        drain.open()
        stack.callback(drain.close)


AXES = {
    "models": Axis("models configured", (10, 30, 100, 300, 1000), Setup),
    "waiters": Axis("requests waiting", (0, 1, 10, 100, 1000), _with_waiting, _wait_for_a_model),
    "subscribers": Axis(
        "readers of /api/events", (0, 1, 5, 15, 50), prepare=_subscribe, rest_s=PACES_S
    ),
    "streams": Axis("open streams", (0, 1, 10, 100, 1000), prepare=_open_streams),
    "rows": Axis(
        "requests on record",
        (100, 1000, 10_000, 100_000),
        lambda size: Setup(settings={"metricsMaxInMemory": size}),
        filed=lambda size: size,
    ),
}
