"""Measures a server's cost of one request: CPU time and latency, over persistent connections.

Many short batches; a comparison alternates between the servers after each batch, and uses the cheap
batches: other load of the machine only ever adds.
"""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from client import is_complete
from loads import PATH
from processes import BenchFailed, Running, cpu_s

ANSWER_LIMIT_S = 60.0
RECV_BYTES = 65536


def chat_request(port: int, model: str = "m", query: str = "") -> bytes:
    """Return the bytes of a short chat, or of a stream with a *query* for bench/upstream.py."""
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": model, "stream": bool(query), "messages": messages})
    return (
        f"POST {PATH}{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def connect(port: int) -> socket.socket:
    """Return a connection. Raises: BenchFailed."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT_S)
    except OSError as error:
        raise BenchFailed(f"port {port}: {error}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def receive(sock: socket.socket, *, stream: bool = False) -> bytes:
    """Return a response, of a *stream* the part up to the first bytes of its body.

    Raises: BenchFailed.
    """
    data = b""
    try:
        while not (stream and _has_body(data)) and not is_complete(data):
            piece = sock.recv(RECV_BYTES)
            if not piece:
                raise BenchFailed(f"the connection ended after {data[:300]!r}")
            data += piece
    except OSError as error:
        raise BenchFailed(f"no answer: {error}") from error
    if not data.startswith(b"HTTP/1.1 200"):
        raise BenchFailed(f"not a 200: {data[:300]!r}")
    return data


def _has_body(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    return bool(head and body)


@dataclass(slots=True)
class Costs:
    """The costs of batches, each in microseconds per request."""

    cpu_us: list[float] = field(default_factory=list)
    latency_us: list[float] = field(default_factory=list)

    def low_quartile_us(self) -> float:
        """Return the CPU time of a request in an undisturbed batch."""
        return low_quartile(self.cpu_us)


def low_quartile(values: Sequence[float]) -> float:
    """Return the lower quartile of *values*."""
    if len(values) == 1:
        return values[0]
    # The default guesses beyond what was measured, below zero even, when values are few.
    return statistics.quantiles(values, n=4, method="inclusive")[0]


class Asker:
    """Sends to one server over some connections: all at once, again after all responses."""

    def __init__(self, running: Running, connections: int = 1) -> None:
        self._pids = running.pids()
        self._request = chat_request(running.port)
        self._socks = [connect(running.port) for _ in range(connections)]
        self.costs = Costs()

    def ask(self, requests: int) -> list[float]:
        """Return the latencies in us. Blocks. Raises: BenchFailed."""
        took = []
        for _ in range(max(1, requests // len(self._socks))):
            began = time.perf_counter()
            for sock in self._socks:
                sock.sendall(self._request)
            for sock in self._socks:
                receive(sock)
                took.append((time.perf_counter() - began) * 1e6)
        return took

    def measure(self, requests: int, rest_s: float = 0.0) -> None:
        """Record the cost of a batch, including deferred work in *rest_s* after it. Blocks."""
        used = cpu_s(self._pids)
        took = self.ask(requests)
        time.sleep(rest_s)
        self.costs.cpu_us.append((cpu_s(self._pids) - used) / len(took) * 1e6)
        self.costs.latency_us += took

    def close(self) -> None:
        """Leave."""
        for sock in self._socks:
            sock.close()
