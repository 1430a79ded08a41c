"""A load generator: keeps a number of connections busy for a time, and prints figures as JSON.

    bench/client.py --port N [--connections C] [--seconds S] [--stream --chunks N ...]

One selector loop over raw sockets. It parses no more than it needs: in bench/upstream.py's streams
each token is one ``~`` with the time at which it was sent. ``client_cpu`` is the share of a core
that this process used; near 1 it measures itself.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
RECV_BYTES = 1 << 18
CONNECT_LIMIT_S = 10.0
GRACE_S = 20.0
"""Seconds for responses in flight after the end."""
MAX_ERRORS = 50
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STAMP = re.compile(rb"~(\d{20})")
LAST_CHUNK = b"\r\n0\r\n\r\n"
CLOSES = re.compile(rb"\r\nconnection: *close\r", re.IGNORECASE)
OPEN = "open"
"""The line printed, on request, when every stream has had its first token."""
TAIL_BYTES = 200
"""Enough to contain the end of a stream: [DONE] and the last chunk."""


@dataclass(slots=True)
class Tally:
    """The results so far; times in ns. No request is sent after *end*."""

    end: int
    requests: int = 0
    chunks: int = 0
    errors: int = 0
    first_error: str = ""
    latencies: list[int] = field(default_factory=list)
    first_tokens: list[int] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Count an error."""
        self.errors += 1
        self.first_error = self.first_error or why

    def goes_on(self) -> bool:
        """Whether another request is to be sent."""
        return time.monotonic_ns() < self.end and self.errors < MAX_ERRORS


class Session:
    """One connection, which sends the next request as soon as it has a response."""

    def __init__(self, load: argparse.Namespace, request: bytes, tally: Tally) -> None:
        self._load = load
        self._request = request
        self._tally = tally
        self._unsent = memoryview(b"")
        self._received = b""
        self._chunks = 0
        self._began = 0
        self._sends = False
        self._closes = False
        self.busy = False

    def connect(self, selector: selectors.BaseSelector) -> None:
        """Connect; blocks for a moment. Raises: OSError."""
        self._selector = selector
        address = ("127.0.0.1", self._load.port)
        self._sock = socket.create_connection(address, timeout=CONNECT_LIMIT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        selector.register(self._sock, READ, self)
        self._sends = False

    def close(self) -> None:
        """Leave."""
        self._selector.unregister(self._sock)
        self._sock.close()
        self.busy = False

    def go_on(self, events: int) -> None:
        """Send or receive what *events* allow; 0 sends the first request.

        An error is counted, and a new connection made.
        """
        try:
            if not events:
                self._ask()
            if events & WRITE:
                self._send()
            if events & READ:
                self._receive(self._sock.recv(RECV_BYTES))
        except BlockingIOError:
            return  # spurious wake-up
        except (OSError, ValueError) as error:
            self._tally.fail(str(error))
            self.close()
            self.connect(self._selector)
            if self._tally.goes_on():
                self._ask()

    def _ask(self) -> None:
        self.busy = True
        self._received = b""
        self._chunks = 0
        self._began = time.monotonic_ns()
        self._unsent = memoryview(self._request)
        self._send()

    def _send(self) -> None:
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        if bool(self._unsent) != self._sends:
            self._sends = bool(self._unsent)
            events = READ | WRITE if self._sends else READ
            self._selector.modify(self._sock, events, self)

    def _receive(self, data: bytes) -> None:
        if not data:
            raise ValueError("the server closed the connection")
        if not self._received:
            if not data.startswith(b"HTTP/1.1 200"):
                raise ValueError(f"not a 200: {data[:300]!r}")
            self._closes = CLOSES.search(data) is not None
        if self._load.stream:
            self._take_tokens(data)
        else:
            self._received += data
            if is_complete(self._received):
                self._finish()

    def _take_tokens(self, data: bytes) -> None:
        now = time.monotonic_ns()
        tokens = data.count(b"~")
        if tokens and not self._chunks:
            self._tally.first_tokens.append(now - self._began)
        self._chunks += tokens
        if self._load.interval_ms:
            self._tally.lags += [now - int(sent) for sent in STAMP.findall(data)]
        self._received = (self._received + data)[-TAIL_BYTES:]
        if self._received.endswith(LAST_CHUNK):
            if b"[DONE]" not in self._received or self._chunks != self._load.chunks:
                wanted = self._load.chunks
                raise ValueError(f"a stream ended after {self._chunks} of {wanted} tokens")
            self._finish()

    def _finish(self) -> None:
        tally = self._tally
        tally.requests += 1
        tally.chunks += self._chunks
        tally.latencies.append(time.monotonic_ns() - self._began)
        self.busy = False
        if not tally.goes_on():
            return
        if self._closes:
            self.close()
            self.connect(self._selector)
        self._ask()


def is_complete(answer: bytes) -> bool:
    """Whether *answer* has head and body."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(answer, 0, end + 2)
    return len(answer) >= end + 4 + int(length[1]) if length else answer.endswith(LAST_CHUNK)


def request_of(load: argparse.Namespace) -> bytes:
    """Return the bytes of the request that *load* is made of."""
    path = load.path
    if load.stream:
        path += f"?chunks={load.chunks}&interval_ms={load.interval_ms}&batch={load.batch}"
    messages = [{"role": "user", "content": "hi" + "p" * load.body_bytes}]
    body = json.dumps({"model": load.model, "stream": load.stream, "messages": messages})
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def run(load: argparse.Namespace) -> dict[str, object]:
    """Return the figures of keeping all connections busy until the time is over."""
    with selectors.DefaultSelector() as selector:
        tally = Tally(0)
        request = request_of(load)
        sessions = [Session(load, request, tally) for _ in range(load.connections)]
        for session in sessions:
            session.connect(selector)
        began, used = time.monotonic(), time.process_time()
        tally.end = int((began + load.seconds) * 1e9)
        _drive(load, sessions, selector, tally)
        took, used = time.monotonic() - began, time.process_time() - used
        for session in sessions:
            session.close()
    return figures(tally, took, used)


def _drive(
    load: argparse.Namespace,
    sessions: list[Session],
    selector: selectors.BaseSelector,
    tally: Tally,
) -> None:
    """Start the sessions, and serve their sockets until the last answer is complete."""
    began = time.monotonic()
    announced = not load.tell_open
    # Spread over the time between two tokens, or all streams would send at the same moment.
    step = load.spread * load.interval_ms / 1000 / len(sessions)
    starts = [(began + step * number, session) for number, session in enumerate(sessions)]
    starts.reverse()
    while starts or any(session.busy for session in sessions):
        now = time.monotonic()
        while starts and starts[-1][0] <= now:
            starts.pop()[1].go_on(0)
        limit = max(0.0, starts[-1][0] - now) if starts else 1.0
        for key, events in selector.select(limit):
            key.data.go_on(events)
        if not announced and len(tally.first_tokens) >= len(sessions):
            announced = True
            print(OPEN, flush=True)
        if now > began + load.seconds + GRACE_S:
            tally.fail(f"unanswered {GRACE_S:g} s after the end")
            return


def figures(tally: Tally, took_s: float, used_s: float) -> dict[str, object]:
    """Return *tally* as the printed document."""
    found: dict[str, object] = {
        "requests": tally.requests,
        "errors": tally.errors,
        "first_error": tally.first_error,
        "took_s": took_s,
        "requests_per_s": tally.requests / took_s,
        "chunks_per_s": tally.chunks / took_s,
        "client": "bench/client.py",
        "client_cpu": used_s / took_s,
    }
    for name, times in (
        ("latency", tally.latencies),
        ("first_token", tally.first_tokens),
        ("lag", tally.lags),
    ):
        if times:
            times.sort()
            found[f"{name}_p50_us"] = times[(len(times) - 1) // 2] / 1000
            found[f"{name}_p99_us"] = times[(len(times) - 1) * 99 // 100] / 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--port", type=int, required=True)
    add("--path", default="/v1/chat/completions")
    add("--model", default="m")
    add("--connections", type=int, default=1)
    add("--seconds", type=float, default=3.0)
    add("--body-bytes", type=int, default=0, help="length of the prompt")
    add("--stream", action="store_true", help="ask for streams")
    add("--chunks", type=int, default=50, help="tokens of a stream")
    add("--interval-ms", type=int, default=0, help="between two tokens; 0: none")
    add("--batch", type=int, default=1, help="tokens in one write of an unpaced stream")
    add(
        "--spread", type=float, default=0.0, help="intervals within which streams begin, one by one"
    )
    add("--tell-open", action="store_true", help=f"print {OPEN!r} when all streams are open")
    options = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(run(options)))


if __name__ == "__main__":
    main()
