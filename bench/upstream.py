"""An inference server of minimal cost: canned responses out of one selector loop.

    bench/upstream.py --port N [--ready-after S]

The query selects the response, so that no body is parsed: ``?chunks=50&interval_ms=20`` is a stream
of 50 tokens, ``chunks=2000&batch=16`` one without pauses, 16 tokens in a write; without a query it
is a JSON document. Every token contains a ``~`` and the time at which it was sent
(``time.monotonic_ns``, which processes of one machine share). Needs nothing but Python, and starts
fast with ``python -S -E``.
"""

from __future__ import annotations

import argparse
import heapq
import re
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
RECV_BYTES = 1 << 18
BATCHES_PER_TURN = 8
"""Writes of an unpaced stream before other connections are served."""

USAGE = b'"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}'
DOCUMENT = (
    b'{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"xxxxxxxxxxxxxxxx"},"finish_reason":"stop"}],%b}' % USAGE
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(DOCUMENT),
    DOCUMENT,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"~%020d"}}]}\n\n'
LAST_EVENTS = b'data: {"choices":[],%b}\n\ndata: [DONE]\n\n' % USAGE
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def framed(data: bytes) -> bytes:
    """Return *data* as a chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


STAMPED = framed(EVENT % 0).replace(b"%020d" % 0, b"%020d")
STREAM_END = framed(LAST_EVENTS) + b"0\r\n\r\n"


class Plan(NamedTuple):
    """The response that a request selects."""

    chunks: int = 0
    """0: a JSON document."""
    interval_ms: int = 0
    batch: int = 1


@cache
def plan_of(request_line: bytes) -> Plan:
    """Return the response that the query of *request_line* selects."""
    query = request_line.split(b" ")[1].partition(b"?")[2].decode()
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return Plan(**{name: int(value) for name, _, value in pairs if name in Plan._fields})


class Loop:
    """Sockets and times to wait for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def watch(self, sock: socket.socket, events: int, call: Callable[[int], None]) -> None:
        """Call *call* with the events for which *sock* is ready."""
        self._selector.register(sock, events, call)

    def change(self, sock: socket.socket, events: int, call: Callable[[int], None]) -> None:
        """Wait for other *events* of a watched socket."""
        self._selector.modify(sock, events, call)

    def forget(self, sock: socket.socket) -> None:
        """Stop watching *sock*."""
        self._selector.unregister(sock)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call *call* at a time of the monotonic clock, or as soon as possible."""
        heapq.heappush(self._due, (when, next(self._numbers), call))

    def run(self) -> None:
        """Serve for ever."""
        while True:
            limit = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, events in self._selector.select(limit):
                key.data(events)
            now = time.monotonic()
            ready = []
            while self._due and self._due[0][0] <= now:
                ready.append(heapq.heappop(self._due)[2])
            for call in ready:
                call()


class Connection:
    """Answers the requests of one client, one after another."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._head = b""
        self._body_left = 0
        self._unsent = b""
        self._plan = Plan()
        self._chunks_left = 0
        self._due = 0.0
        self._closed = False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.watch(sock, READ, self._on_ready)

    def _on_ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
            if events & READ:
                self._read(self._sock.recv(RECV_BYTES))
        except BlockingIOError:
            return  # spurious wake-up
        except OSError:
            self._close()

    def _read(self, data: bytes) -> None:
        if not data:
            self._close()
        elif self._body_left:
            self._body_left -= len(data)
            if not self._body_left:
                self._answer()
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end >= 0:
                self._take_head(end)

    def _take_head(self, end: int) -> None:
        head, self._head = self._head, b""
        self._plan = plan_of(head[: head.index(b"\r\n")])
        length = LENGTH.search(head, 0, end + 2)
        self._body_left = (int(length[1]) if length else 0) - (len(head) - end - 4)
        if not self._body_left:
            self._answer()

    def _answer(self) -> None:
        if not self._plan.chunks:
            self._send(ANSWER)
            return
        self._chunks_left = self._plan.chunks
        self._due = time.monotonic()
        if self._plan.interval_ms:
            self._send_token(STREAM_HEAD)
        else:
            self._send(STREAM_HEAD)
            self._pump()

    def _send_token(self, before: bytes = b"") -> None:
        """Send a token, and schedule the next one an interval later."""
        self._chunks_left -= 1
        token = before + STAMPED % time.monotonic_ns()
        self._send(token if self._chunks_left else token + STREAM_END)
        if self._chunks_left:
            self._due += self._plan.interval_ms / 1000
            self._loop.at(self._due, self._tick)

    def _tick(self) -> None:
        if self._closed:
            return
        try:
            self._send_token()
        except OSError:
            self._close()

    def _pump(self) -> None:
        """Write tokens without pause, until the socket's buffer is full."""
        if self._closed:
            return
        try:
            for _ in range(BATCHES_PER_TURN):
                if self._unsent or not self._chunks_left:
                    return
                tokens = min(self._plan.batch, self._chunks_left)
                self._chunks_left -= tokens
                data = STAMPED % 0 * tokens
                self._send(data if self._chunks_left else data + STREAM_END)
        except OSError:
            self._close()
            return
        if not self._unsent:
            self._loop.at(0.0, self._pump)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.change(self._sock, READ | WRITE, self._on_ready)

    def _flush(self) -> None:
        sent = self._sock.send(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.change(self._sock, READ, self._on_ready)
            if self._chunks_left and not self._plan.interval_ms:
                self._pump()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._sock)
            self._sock.close()


def serve(port: int) -> None:
    """Serve on the loopback interface until killed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    loop = Loop()

    def accept(_events: int) -> None:
        try:
            sock, _address = listener.accept()
        except OSError:  # the client has left already
            return
        Connection(loop, sock)

    loop.watch(listener, READ, accept)
    loop.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--ready-after", type=float, default=0.0, metavar="S", help="time until the port opens"
    )
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # What Python took to start is part of the time to be ready, as it is with a real server.
    time.sleep(max(0.0, options.ready_after - time.process_time()))
    serve(options.port)


if __name__ == "__main__":
    main()
