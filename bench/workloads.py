"""The workloads, and the figures of each in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from extremes import idle, models1000, streams2000
from loads import Figures, Load
from processes import chat, post
from subjects import Subject


@dataclass(frozen=True, slots=True)
class Row:
    """A figure in the table: its key, its name, and its factor."""

    key: str
    label: str
    factor: float = 1.0
    ratio: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """A load on a target, and the figures in the table."""

    title: str
    measure: Callable[[Subject, float], Figures]
    rows: tuple[Row, ...]
    models_only: bool = False


LATENCY = Row("latency_p50_us", "latency p50, us", ratio=True)
LATENCY_P99 = Row("latency_p99_us", "latency p99, us")
REQUESTS = Row("requests_per_s", "requests/s", ratio=True)
FIRST_TOKEN = Row("first_token_p50_us", "first token p50, us", ratio=True)
FIRST_TOKEN_P99 = Row("first_token_p99_us", "first token p99, us")
LAG = Row("lag_p50_us", "token lag p50, us", ratio=True)
LAG_P99 = Row("lag_p99_us", "token lag p99, us", ratio=True)
CHUNKS = Row("chunks_per_s", "tokens/s", ratio=True)
CPU = (
    Row("target_cpu", "its CPU, % of a core", 100),
    Row("client_cpu", "client's CPU, % of a core", 100),
)


def _load(title: str, load: Load, *rows: Row) -> Workload:
    def measure(subject: Subject, seconds: float) -> Figures:
        running = subject.running
        chat(running.port, "m")  # another workload may have swapped it out
        used = running.cpu_s()
        found = load.run(running.port, seconds, subject.folder)
        took_s = float(found["took_s"])
        found["target_cpu"] = (running.cpu_s() - used) / took_s
        return found

    return Workload(title, measure, rows + CPU)


def _swap(subject: Subject, _seconds: float) -> Figures:
    port = subject.running.port
    chat(port, "swap-a")
    return {"swap_s": (chat(port, "swap-b") + chat(port, "swap-a")) / 2}


def _wake(subject: Subject, _seconds: float) -> Figures:
    port = subject.running.port
    chat(port, "sleeper")
    post(port, "/api/models/sleep/sleeper")
    return {"wake_s": chat(port, "sleeper")}


def _start(subject: Subject, seconds: float) -> Figures:
    with subject.fresh(seconds) as running:
        chat(running.port, "m")
        return {"start_s": running.start_s, "rss_bytes": running.rss_bytes()}


def _memory(subject: Subject, _seconds: float) -> Figures:
    return {"rss_bytes": subject.running.rss_bytes()}


WORKLOADS = {
    "unary1": _load("short requests, 1 connection", Load(1), LATENCY, LATENCY_P99),
    "unary32": _load("short requests, 32 connections", Load(32), REQUESTS, LATENCY, LATENCY_P99),
    "bodies": _load("bodies of 1 MB, 8 connections", Load(8, body_bytes=1_000_000), REQUESTS),
    "streams32": _load(
        "32 streams at once, 50 tokens/s",
        Load(32, chunks=50, interval_ms=20),
        FIRST_TOKEN,
        FIRST_TOKEN_P99,
        LAG,
        LAG_P99,
    ),
    "streams200": _load(
        "200 streams, 50 tokens/s",
        Load(200, chunks=50, interval_ms=20, spread=True),
        LAG,
        LAG_P99,
    ),
    "streams2000": Workload(
        "2,000 streams, 1 token/s",
        streams2000,
        (
            Row("errors", "errors"),
            Row("stream_bytes", "memory of each, KiB", 1 / 2**10),
            LAG,
            LAG_P99,
            *CPU,
        ),
    ),
    "unpaced16": _load("16 streams without pauses", Load(16, chunks=2000, batch=16), CHUNKS),
    "swap": Workload(
        "swap, server ready after 600 ms", _swap, (Row("swap_s", "time to answer, ms", 1000),), True
    ),
    "wake": Workload(
        "wake, endpoint takes 50 ms", _wake, (Row("wake_s", "time to answer, ms", 1000),), True
    ),
    "idle": Workload(
        "one model ready, no requests",
        idle,
        (
            Row("rss_bytes", "memory, MiB", 1 / 2**20),
            Row("idle_cpu", "CPU, thousandths of a core", 1000),
            Row("wake_ups_per_s", "wake-ups/s"),
        ),
    ),
    "models1000": Workload(
        "1,000 models configured, beside 10",
        models1000,
        (
            Row("few_cpu_us", "10 models: CPU of a request, us"),
            Row("many_cpu_us", "1,000 models: the same"),
            Row("cpu_ratio", "1,000 : 10"),
            Row("few_latency_p50_us", "10 models: latency p50, us"),
            Row("many_latency_p50_us", "1,000 models: the same"),
            Row("latency_ratio", "1,000 : 10"),
        ),
        True,
    ),
    "start": Workload(
        "start",
        _start,
        (
            Row("start_s", "time to first /health, ms", 1000),
            Row("rss_bytes", "memory after a request, MiB", 1 / 2**20),
        ),
    ),
    "memory": Workload(
        "memory after these loads", _memory, (Row("rss_bytes", "memory, MiB", 1 / 2**20),)
    ),
}
