"""Measures logging: cost per line and per reader, and the effect of a model that prints 100 MB/s.

Run: python bench/micro_logs.py [seconds]
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import time

import gevent
from gevent.os import make_nonblocking, nb_read

import llmsnap._monkey  # noqa: F401 - as in the product
from llmsnap.logs import LogHandler, LogHub


def per_call(name: str, call, count: int) -> None:
    """Print the cost of one *call*, best of five runs."""
    best = 1e9
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, time.perf_counter() - begin)
    print(f"{name:<58} {best / count * 1e6:8.2f} us")


def lines() -> None:
    hub = LogHub(to_stdout="none")
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LogHandler(hub.proxy, time_format="rfc3339"))
    per_call("log record -> proxy + combined", lambda: logger.info("<%s> ready", "llama"), 20_000)
    line = b"srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200\n"
    per_call("stream write of a line -> proxy + combined", lambda: hub.proxy.write(line), 50_000)
    for _ in range(50):
        hub.proxy.subscribe()
    per_call("the same with 50 readers that do not read", lambda: hub.proxy.write(line), 5_000)


def model_output() -> None:
    chunk = b"".join(b"token %06d of the answer, nothing special here\n" % n for n in range(1400))
    clock = iter(range(10**9))
    hub = LogHub(to_stdout="none", clock=lambda: float(next(clock)))
    log = hub.model("quiet")
    per_call(f"feed of {len(chunk)} bytes of lines under the limit", lambda: log.feed(chunk), 500)
    per_call("feed of one line under the limit", lambda: log.feed(b"a line\n"), 20_000)
    flood = LogHub(to_stdout="none").model("flood")
    flood.feed(b"x" * 2_000_000)
    per_call("feed of 64 KiB over the limit", lambda: flood.feed(chunk), 20_000)


class Flood:
    """A child that prints without end, read at 100 MB/s through the log of a model."""

    def __init__(self) -> None:
        self.child = subprocess.Popen(["yes", "x" * 99], stdout=subprocess.PIPE, bufsize=0)
        self.hub = LogHub(to_stdout="none")
        self.hub.open()
        self.log = self.hub.model("flood")
        self.got = 0
        for _ in range(50):
            self.hub.upstream.subscribe()
        self.reading = gevent.spawn(self.read)

    def read(self) -> None:
        fd = self.child.stdout.fileno()
        make_nonblocking(fd)
        begin = time.monotonic()
        while data := nb_read(fd, 65536):
            self.got += len(data)
            if self.log.feed(data):
                gevent.sleep(max(0.0, self.got / 100e6 - (time.monotonic() - begin)))

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self.reading.kill()
        self.hub.close()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def flood(seconds: float) -> None:
    """Measure CPU, memory and the delay of a stream of 50 tokens/s beside a flood."""
    source = Flood()
    delays, begin = [], cpu_s()
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        due = time.monotonic() + 0.02
        gevent.sleep(0.02)
        delays.append((time.monotonic() - due) * 1e3)
    busy = cpu_s() - begin
    source.close()
    delays.sort()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nflood, 50 readers that do not read: {source.got / seconds / 1e6:.0f} MB/s")
    print(f"  CPU {busy / seconds * 100:.0f} % of a core, RSS {rss:.0f} MB")
    p50, p99 = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
    print(f"  delay of a 50/s stream: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {delays[-1]:.2f} ms")
    print(f"  {source.log!r}, {source.log.folded_lines} lines folded")


if __name__ == "__main__":
    lines()
    model_output()
    flood(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
