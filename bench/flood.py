"""Measures the cost of observation: a model that prints 100 MB/s, fifty open tabs, 1,000 streams.

Run: python bench/flood.py [delay|tabs|memory] [--seconds N]

``delay`` and ``tabs`` measure how late each token of a calm model's stream arrives while another
model floods its log and tabs read logs (/logs/stream) or events (/api/events), half of them not
reading at all. ``memory`` opens 1,000 streams of 1 MB at once and compares the server's size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

import llmsnap._monkey  # noqa: F401 - the clients are greenlets

ROOT = Path(__file__).parent.parent
SIM = f"{sys.executable} -m llmsnap.simulator --port ${{PORT}} --model ${{MODEL_ID}}"
TOKENS_PER_S = 100
STREAMS = 1000
STREAM_BYTES = 1_000_000
CHUNK = b"data: " + b"x" * 492 + b"\n\n"

FLOOD = """
import os, time
block = b"".join(b"slot %d | task %d | n_tokens = %d\\n" % (n % 4, n, n * 7) for n in range(3000))
sent, began = 0, time.monotonic()
while True:
    sent += os.write(1, block)
    time.sleep(max(0.0, sent / 100e6 - (time.monotonic() - began)))
"""
"""Prints 100 MB/s of lines that differ, so that none is folded."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A separate llmsnap process."""

    def __init__(self, text: str) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory()
        config = Path(self._folder.name, "config.yaml")
        flood = Path(self._folder.name, "flood.py")
        flood.write_text(FLOOD)
        config.write_text(text.replace("FLOOD", f"{sys.executable} {flood}"))
        command = [sys.executable, "-m", "llmsnap", "--config", str(config)]
        self.process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{self.port}"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        while True:
            with contextlib.suppress(OSError):
                if self.get("/health")[0] == 200:
                    return
            gevent.sleep(0.05)

    def open(self, method: str, path: str, document: object = None) -> socket.socket:
        """Send a request; the caller reads the response."""
        body = b"" if document is None else json.dumps(document).encode()
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return sock

    def get(self, path: str) -> tuple[int, str]:
        with self.open("GET", path) as sock:
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode("utf-8", "replace")

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._folder.cleanup()


# --- delay of tokens ---------------------------------------------------------------------------

CONFIG = f"""
logToStdout: none
models:
  calm: {{cmd: "{SIM} --tokens-per-second {TOKENS_PER_S} --tokens 1000000"}}
  flood: {{cmd: FLOOD, checkEndpoint: none, proxy: "http://127.0.0.1:9"}}
groups:
  all: {{swap: false, members: [calm, flood]}}
"""
CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


def gaps(server: Server, seconds: float) -> list[float]:
    """Return the times between the tokens of one stream, read in a separate process."""
    code = f"""
import json, socket, time
sock = socket.create_connection(("127.0.0.1", {server.port}))
body = json.dumps({{"model": "calm", **{CHAT!r}}}).encode()
sock.sendall(b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: localhost\\r\\n"
             b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
for _ in range(20):
    sock.recv(65536)
times, end = [], time.monotonic() + {seconds}
while (now := time.monotonic()) < end:
    sock.recv(65536)
    times.append(time.monotonic())
print(json.dumps([b - a for a, b in zip(times, times[1:])]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return json.loads(done.stdout)


class Tabs:
    """Open tabs in a separate process; the first half reads, the others never do."""

    def __init__(self, server: Server, path: str, count: int) -> None:
        code = f"""
import select, socket, time
socks = []
for number in range({count}):
    sock = socket.create_connection(("127.0.0.1", {server.port}))
    sock.sendall(b"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    socks.append(sock)
reading, got = select.poll(), 0
by_fd = {{sock.fileno(): sock for sock in socks[: {count} // 2]}}
for fd in by_fd:
    reading.register(fd, select.POLLIN)
print("open", flush=True)
while True:
    for fd, _ in reading.poll():
        by_fd[fd].recv(262144)
    time.sleep(0.01)  # as a browser does, which has other things to do
"""
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def show(name: str, found: list[float], server: Server, cpu_s: float, seconds: float) -> None:
    """Print the delay of tokens, and the resources of the server."""
    late = sorted(max(0.0, gap - 1 / TOKENS_PER_S) * 1000 for gap in found)
    p50, p99, p999 = (late[int(len(late) * share)] for share in (0.5, 0.99, 0.999))
    print(
        f"{name:<52} late p50 {p50:5.2f} p99 {p99:5.2f} p99.9 {p999:6.2f} max {late[-1]:6.2f} ms"
        f"  CPU {cpu_s / seconds:4.0%}  RSS {server.resident_mb():4.0f} MB"
    )


@contextlib.contextmanager
def measured() -> Iterator[Server]:
    server = Server(CONFIG)
    try:
        yield server
    finally:
        server.stop()


def run(server: Server, name: str, seconds: float) -> None:
    before = server.cpu_s()
    found = gaps(server, seconds)
    show(name, found, server, server.cpu_s() - before, seconds)


def load(server: Server, model: str) -> None:
    with server.open("POST", f"/api/models/load/{model}") as sock:
        while sock.recv(65536):
            pass


def delay(seconds: float) -> None:
    """A stream alone; beside a flood; beside a flood that fifty tabs watch."""
    with measured() as server:
        load(server, "calm")
        run(server, "a stream alone", seconds)
        load(server, "flood")
        run(server, "beside a flood", seconds)
        for path in ("/logs/stream", "/api/events?format=both"):
            tabs = Tabs(server, path, 50)
            gevent.sleep(1)
            run(server, f"beside a flood, 50 tabs on {path}", seconds)
            tabs.close()
        _, page = server.get("/metrics")
        print(*re.findall(r"llmsnap_log_dropped_bytes_total\{.*", page), sep="\n")


def tabs(seconds: float) -> None:
    """The same tabs without a flood: the model's own few lines."""
    with measured() as server:
        load(server, "calm")
        run(server, "a stream alone", seconds)
        for path in ("/logs/stream", "/api/events?format=both"):
            open_tabs = Tabs(server, path, 50)
            gevent.sleep(1)
            run(server, f"50 tabs on {path}", seconds)
            open_tabs.close()


# --- memory ------------------------------------------------------------------------------------


class Upstream:
    """A model whose responses are streams that end on command."""

    def __init__(self, port: int, size: int) -> None:
        self.size = size
        self.sent = 0
        self.may_end = Event()
        self.server = StreamServer(("127.0.0.1", port), self._serve, spawn=Pool(), backlog=1024)

    def _serve(self, sock: socket.socket, _: object) -> None:
        head = sock.recv(65536)
        if head.startswith(b"POST "):
            self._stream(sock, head)
        else:
            if b" /end " in head:
                self.may_end.set()
            body = b"%d" % self.sent
            sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _stream(self, sock: socket.socket, data: bytes) -> None:
        while not data.endswith(b"}"):
            data += sock.recv(65536)
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(self.size // len(CHUNK)):
            sock.sendall(CHUNK)
            gevent.sleep(0)
        self.sent += 1
        self.may_end.wait()


def streams(size: int, captures_mb: int) -> tuple[float, float]:
    """Return the server's memory before, and with 1,000 streams of *size* bytes in flight."""
    command = f"{sys.executable} {Path(__file__)} upstream --port ${{PORT}} --size {size}"
    server = Server(
        f"captureBuffer: {captures_mb}\nlogToStdout: none\nmodels:\n"
        f"  big: {{cmd: '{command}', concurrencyLimit: 2000}}\n"
    )
    load(server, "big")
    before = server.resident_mb()
    clients = Pool()

    def read() -> None:
        with server.open("POST", "/v1/chat/completions", {"model": "big", **CHAT}) as sock:
            while sock.recv(65536):
                pass

    for _ in range(STREAMS):
        clients.spawn(read)
    while int(server.get("/upstream/big/sent")[1]) < STREAMS:
        gevent.sleep(0.5)
    gevent.sleep(1)
    during = server.resident_mb()
    server.get("/upstream/big/end")
    clients.join()
    server.stop()
    return before, during


def memory(_: float) -> None:
    """Run 1,000 streams: small ones show the cost of connections, large ones of observation."""
    for captures_mb in (0, 5):
        small = streams(2 * len(CHUNK), captures_mb)
        large = streams(STREAM_BYTES, captures_mb)
        for name, (before, during) in (("1 kB", small), ("1 MB", large)):
            print(
                f"{STREAMS} streams of {name}, captureBuffer {captures_mb}: "
                f"{before:.0f} -> {during:.0f} MB (+{during - before:.0f})"
            )
        added = (large[1] - large[0]) - (small[1] - small[0])
        print(f"  of which the megabyte of each: {added:+.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("delay", "tabs", "memory", "upstream"))
    parser.add_argument("--port", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    if options.what == "upstream":
        Upstream(options.port, options.size).server.serve_forever()
    began = time.monotonic()
    for name, call in (("delay", delay), ("tabs", tabs), ("memory", memory)):
        if options.what in {None, name}:
            print(f"--- {name}")
            call(options.seconds)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
