"""Measures the effect of idle and half-sent connections: gaps in a stream, and latency.

Run: python bench/slow_clients.py [--idle 2000] [--half 500] [--seconds 5]

Starts llmsnap with a simulated model, streams from it, asks /health on the side, first alone, then
beside the crowd. Half-sent requests begin again after the server has closed them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gevent
import psutil
from gevent import socket
from gevent.pool import Group

import llmsnap._monkey  # noqa: F401 - patches; nothing has been opened yet
from llmsnap.limits import raise_open_files

CONFIG = """\
startPort: {port}
models:
  sim:
    cmd: {python} -m llmsnap.simulator --port ${{PORT}} --model sim
"""
TOKENS_PER_S = 100
HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: appl"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def connect(port: int) -> socket.socket:
    """Return a connection, with retries while the listener is busy."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except OSError:
            gevent.sleep(0.05)


def ask_health(sock: socket.socket) -> None:
    """Send one request and read its answer."""
    sock.sendall(HEALTH)
    data = b""
    while not data.endswith(b"\r\n\r\nOK"):
        data += sock.recv(4096)


def idle(port: int) -> None:
    """Ask once and stay."""
    with connect(port) as sock:
        ask_health(sock)
        sock.settimeout(None)
        with contextlib.suppress(OSError):
            sock.recv(1)


def half(port: int) -> None:
    """Send half a head, again and again."""
    while True:
        with connect(port) as sock, contextlib.suppress(OSError):
            sock.sendall(HALF)
            sock.settimeout(None)
            sock.recv(1)


def stream_gaps(port: int, seconds: float) -> list[float]:
    """Return the time between the pieces of a stream, in ms."""
    members = {"sim_tokens": int(seconds * TOKENS_PER_S), "sim_tps": TOKENS_PER_S}
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "sim", "stream": True, "messages": messages, **members}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    gaps = []
    with connect(port) as sock:
        sock.sendall(head.encode() + body)
        sock.recv(65536)
        before = time.perf_counter()
        while b"[DONE]" not in sock.recv(65536):
            now = time.perf_counter()
            gaps.append((now - before) * 1000)
            before = now
    return gaps


def latencies(port: int, seconds: float) -> list[float]:
    """Return how long /health takes on a connection of its own, in ms, ten times a second."""
    times = []
    with connect(port) as sock:
        for _ in range(int(seconds * 10)):
            began = time.perf_counter()
            ask_health(sock)
            times.append((time.perf_counter() - began) * 1000)
            gevent.sleep(0.1)
    return times


def quantiles(values: list[float]) -> str:
    """Return p50, p99 and maximum."""
    ordered = sorted(values)
    p50, p99 = (ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:6.2f}  p99 {p99:6.2f}  max {ordered[-1]:6.2f} ms"


def measure(label: str, port: int, seconds: float, server: psutil.Process) -> None:
    """Print one round."""
    cpu = sum(server.cpu_times()[:2])
    asking = gevent.Greenlet(latencies, port, seconds)
    asking.start()
    gaps = stream_gaps(port, seconds)
    times = asking.get()
    used = (sum(server.cpu_times()[:2]) - cpu) / seconds * 100
    rss = server.memory_info().rss / 2**20
    print(f"{label}: server {used:.0f} % CPU, {rss:.0f} MiB")
    print(f"  between pieces  {quantiles(gaps)}  (sent every {1000 / TOKENS_PER_S:g} ms)")
    print(f"  /health         {quantiles(times)}")


def run(port: int, server: psutil.Process, options: argparse.Namespace) -> None:
    """Measure alone, then beside the crowd."""
    stream_gaps(port, 0.1)  # loads the model
    measure("alone", port, options.seconds, server)
    crowd = Group()
    began = time.perf_counter()
    for count, client in ((options.idle, idle), (options.half, half)):
        for _ in range(count):
            crowd.spawn(client, port)
    while len(server.net_connections()) < options.idle + options.half:
        gevent.sleep(0.1)
    print(f"the crowd took {time.perf_counter() - began:.1f} s to come in")
    measure(f"beside {options.idle} idle, {options.half} half", port, options.seconds, server)
    crowd.kill()


def main() -> None:
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--half", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    raise_open_files()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(port=free_port(), python=sys.executable))
        command = [sys.executable, "-m", "llmsnap", "--config", str(config)]
        command += ["--listen", f"127.0.0.1:{port}", "--state-dir", folder]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
        try:
            run(port, psutil.Process(process.pid), options)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
