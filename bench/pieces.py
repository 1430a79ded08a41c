"""The pieces of the hot path, each alone, as batches that return their CPU time.

Sockets are fakes, so that only the piece itself is measured; ``system_calls`` and ``waits`` use
real ones, over the loopback interface.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import micro_observer
import micro_scheduler
import micro_wire

from llmsnap.http.headers import RequestRule, from_environ, request_headers, response_headers
from llmsnap.logs import LogHandler, LogHub, StdoutWriter
from llmsnap.models import parse_address
from llmsnap.proxy import (
    ConnectionPool,
    Exchange,
    RequestContext,
    UpstreamRequest,
    UpstreamTimeouts,
)
from llmsnap.proxy.jsonbody import parse_json
from llmsnap.proxy.pool import UpstreamConnection, key_of
from llmsnap.server import ConnectionHandler, HttpServer, open_listener
from llmsnap.telemetry import ResponseObserver
from llmsnap.telemetry.captures import MIB
from llmsnap.web import accesslog

RECV_BYTES = 65536
BATCH = 100
CHUNKS = 100
"""Of the streams from which the cost of one is taken."""
REQUEST_BODY = json.dumps(micro_wire.SMALL).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: OpenAI/Python 1\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(REQUEST_BODY), REQUEST_BODY)
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(micro_observer.ANSWER),
    micro_observer.ANSWER,
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\n" + (
    b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
CHUNK = b"%x\r\n%b\r\n" % (len(micro_observer.FRAME), micro_observer.FRAME)
STREAM = [STREAM_HEAD, *[CHUNK] * CHUNKS, b"0\r\n\r\n"]

Batch = Callable[[], float]
"""Runs the measured piece BATCH times, and returns the seconds of CPU it took."""


def timed(call: Callable[[], object], count: int = BATCH) -> Batch:
    """Return the batch of a *call* that needs no preparation."""

    def run() -> float:
        began = time.process_time()
        for _ in range(count):
            call()
        return time.process_time() - began

    return run


class FakeSocket:
    """A socket that returns given bytes, piece by piece, and discards all that is sent."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd
        self.coming: list[bytes] = []

    def recv(self, _size: int) -> bytes:
        return self.coming.pop() if self.coming else b""

    def send(self, data: bytes) -> int:
        return len(data)

    def fileno(self) -> int:
        return self._fd

    def settimeout(self, limit_s: float | None) -> None:
        """Nothing waits here."""

    def shutdown(self, how: int) -> None:
        """There is no reader."""

    def close(self) -> None:
        """Nothing is open."""


class Unwatched(ConnectionHandler):
    """A handler of a connection that never waits."""

    def _watch_client(self) -> None:
        """Return at once: the input is already there."""


class Listener:
    """The server's side of a connection, with an application that does nothing."""

    def __init__(self) -> None:
        self._answer: list[bytes] | Iterator[bytes] = [micro_observer.ANSWER]
        self._server = HttpServer(open_listener("127.0.0.1:0"), self._application)

    def _application(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return self._answer

    def requests(self) -> None:
        """Serve BATCH requests over one connection."""
        self._answer = [micro_observer.ANSWER]
        self._serve(BATCH)

    def stream(self) -> None:
        """Serve one request with a stream."""
        self._answer = iter([micro_observer.FRAME] * CHUNKS)
        self._serve(1)

    def _serve(self, requests: int) -> None:
        sock = FakeSocket()
        sock.coming = [REQUEST] * requests
        handler: Any = Unwatched
        handler(sock, ("127.0.0.1", 1), self._server).handle()


class Client:
    """The client's side of a reused connection to an inference server."""

    def __init__(self) -> None:
        self._address = parse_address("http://127.0.0.1:1")
        self._pool = ConnectionPool()
        self._real = socket.socketpair()  # the pool checks whether it is still open
        self._sock = FakeSocket(self._real[0].fileno())
        sock: Any = self._sock
        connection = UpstreamConnection(key_of(self._address), sock)
        connection._readiness = None  # noqa: SLF001 - what comes is there already
        self._pool.give_back(connection)
        self._limits = UpstreamTimeouts()
        headers = [("Host", "localhost:8080"), ("Content-Type", "application/json")]
        self._outgoing = UpstreamRequest("POST", "/v1/chat/completions", headers, REQUEST_BODY)

    def request(self) -> None:
        """Send a request and read a short answer."""
        self._exchange([ANSWER])

    def stream(self) -> None:
        """Send a request and read a stream, each chunk as it comes."""
        self._exchange(STREAM)

    def _exchange(self, pieces: list[bytes]) -> None:
        self._sock.coming = pieces[::-1]
        exchange = Exchange(self._pool, self._address, self._limits)
        exchange.send(self._outgoing)
        while exchange.read():
            pass
        exchange.close()


def parse_body() -> None:
    """Parse a short chat."""
    parse_json(REQUEST_BODY)


def headers() -> None:
    """Rewrite the headers of a request, and those of its response."""
    taken = from_environ(micro_wire.ENVIRON)
    request_headers(taken, RequestRule(limit_encodings=True), "127.0.0.1", 181)
    response_headers(micro_wire.ANSWER)


def scheduler() -> Batch:
    """A request granted at once, and its lease returned, with one other request running."""
    table = micro_scheduler.build(10, 0)

    def run() -> float:
        granted_us, returned_us = micro_scheduler.measure(table, BATCH, 1)
        return (granted_us + returned_us) * BATCH / 1e6

    return run


class Watched:
    """Requests that are observed with captures on, whose budget is full."""

    def __init__(self) -> None:
        self._recorder = micro_observer.recorder(5 * MIB)
        while not self._recorder.captures.used > 4.9 * MIB:
            self._watch().finish()

    def _watch(self) -> ResponseObserver:
        observer = micro_observer.begin(self._recorder, REQUEST_BODY)
        observer.context.granted = True
        observer.head(200, micro_observer.JSON)
        observer.feed(micro_observer.ANSWER)
        return observer

    def observers(self) -> float:
        """Return the cost of observation."""
        began = time.process_time()
        observers = [self._watch() for _ in range(BATCH)]
        took_s = time.process_time() - began
        for observer in observers:
            observer.finish()
        return took_s

    def files(self) -> float:
        """Return the cost of filing record and capture."""
        observers = [self._watch() for _ in range(BATCH)]
        began = time.process_time()
        for observer in observers:
            observer.finish()
        return time.process_time() - began


def fed() -> Batch:
    """A chunk seen in the middle of a stream, and kept for the capture."""
    watch = micro_observer.recorder(64 * MIB)

    def run() -> float:
        observer = micro_observer.begin(watch)
        observer.head(200, micro_observer.SSE)
        observer.feed(micro_observer.FRAME)
        took_s = timed(lambda: observer.feed(micro_observer.FRAME))()
        observer.finish()
        return took_s

    return run


@contextmanager
def access_log() -> Iterator[Batch]:
    """Log a line, its write included: to /dev/null, in batches."""
    with Path(os.devnull).open("wb") as file:
        hub = LogHub(stdout=StdoutWriter(file.fileno()))
        hub.open()
        journal = LogHandler(hub.proxy)
        context = RequestContext(micro_observer.usual_request())
        context.model_id, context.status = "llama", 200
        context.first_byte_at = context.request.received_at + 0.01

        def run() -> float:
            began = time.process_time()
            for _ in range(BATCH):
                accesslog.write(journal, context, 420)
            gevent.sleep(0.025)  # the writer's turn
            return time.process_time() - began

        yield run
        hub.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _address = listener.accept()
    for one in (ours, theirs):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


@contextmanager
def system_calls() -> Iterator[Batch]:
    """A send, and a recv of what is there already."""
    ours, theirs = _tcp_pair()
    with ours, theirs:
        yield timed(lambda: (ours.send(micro_observer.FRAME), theirs.recv(RECV_BYTES)))


@contextmanager
def waits() -> Iterator[Batch]:
    """Send and receive with a wait for each: two greenlets that answer each other."""
    ours, theirs = _tcp_pair()

    def echo() -> None:
        while data := theirs.recv(RECV_BYTES):
            theirs.send(data)

    def run() -> float:
        began = time.process_time()
        for _ in range(BATCH // 2):
            ours.send(micro_observer.FRAME)
            ours.recv(RECV_BYTES)
        return time.process_time() - began

    with ours, theirs:
        echoing = gevent.spawn(echo)
        try:
            yield run
        finally:
            echoing.kill()
