"""What watching costs in CPU time: per request, per chunk, and in memory for 1,000 streams of 1 MB.

Run: python bench/micro_tap.py
"""

from __future__ import annotations

import gc
import gzip
import resource
import time
import tracemalloc
from collections.abc import Callable

from llmsnap.bus import EventBus
from llmsnap.metrics.activity import ActivityLog
from llmsnap.metrics.capture import MIB
from llmsnap.metrics.captures import Captures
from llmsnap.metrics.recorder import Recorder
from llmsnap.metrics.tap import RequestFacts, Tap

SSE = [("Content-Type", "text/event-stream")]
JSON = [("Content-Type", "application/json"), ("Content-Length", "420")]
FRAME = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" token"}}],"created":'
    b'1795293112,"id":"chatcmpl-0123456789abcdef","model":"llama","object":"chat.completion.chunk"}'
    b"\n\n"
)
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":50}}\n\n'
STREAM = FRAME * 50 + LAST
ANSWER = (
    b'{"choices":[{"message":{"role":"assistant","content":"' + b"word " * 50 + b'"}}],"usage":'
    b'{"completion_tokens":50,"prompt_tokens":30,"total_tokens":80}}'
)


def recorder(capture_budget: int) -> Recorder:
    """Return a recorder; with a budget of 0 captures are off."""
    activity = ActivityLog()
    captures = Captures(capture_budget, on_evict=activity.forget_capture)
    return Recorder(activity, captures, EventBus())


def begin(watch: Recorder, body: bytes = b'{"model":"llama"}') -> Tap:
    """Return the tap of a usual request."""
    return watch.begin(
        RequestFacts(
            request_id="0123456789abcdef",
            path="/v1/chat/completions",
            requested="llama",
            model_id="llama",
            headers=[("Content-Type", "application/json"), ("User-Agent", "bench")],
            body_bytes=len(body),
        ),
        body,
    )


def report(name: str, call: Callable[[], object], count: int) -> None:
    """Print what one *call* costs, best of five runs."""
    best = 1e9
    for _ in range(5):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, time.process_time() - start)
    print(f"{name:<58} {best / count * 1e6:8.2f} us")


def per_chunk() -> None:
    """Measure ``Tap.feed`` in the middle of a stream."""
    for name, budget in (("captures off", 0), ("captured", 64 * MIB)):
        tap = begin(recorder(budget))
        tap.head(200, SSE)
        tap.feed(FRAME)
        report(f"feed of a {len(FRAME)} byte frame, {name}", lambda t=tap: t.feed(FRAME), 50_000)
    tap = begin(recorder(0))
    tap.head(200, SSE)
    tap.feed(FRAME)
    large = FRAME * 300
    report(f"feed of {len(large)} bytes at once", lambda: tap.feed(large), 5_000)


def per_request() -> None:
    """Measure a whole request: begin, head, one chunk, finish."""

    def serve(watch: Recorder, answer: bytes, headers: list[tuple[str, str]]) -> None:
        tap = begin(watch)
        tap.granted(0.0, 0.0)
        tap.head(200, headers)
        tap.feed(answer)
        tap.finish()

    for name, budget in (("captures off", 0), ("captured", 5 * MIB)):
        watch = recorder(budget)
        report(f"a plain request, {name}", lambda w=watch: serve(w, ANSWER, JSON), 3_000)
        report(f"a streamed request, {name}", lambda w=watch: serve(w, STREAM, SSE), 1_000)
    squeezed = gzip.compress(ANSWER)
    headers = [*JSON, ("Content-Encoding", "gzip")]
    watch = recorder(0)
    report("a gzipped request, captures off", lambda: serve(watch, squeezed, headers), 1_000)


def memory() -> None:
    """Measure what 1,000 open streams hold after 1 MB each."""
    for name, budget in (("captures off", 0), ("captures on, 5 MiB", 5 * MIB)):
        for size in (1024, 64 * 1024):
            gc.collect()
            tracemalloc.start()
            watch = recorder(budget)
            taps = [begin(watch) for _ in range(1000)]
            for tap in taps:
                tap.head(200, SSE)
            piece = (FRAME * (size // len(FRAME) + 1))[:size]
            for _ in range(1_000_000 // size):
                for tap in taps:
                    tap.feed(bytes(bytearray(piece)))
            held = tracemalloc.get_traced_memory()[0] / 1e6
            tracemalloc.stop()
            for tap in taps:
                tap.finish()
            print(f"1,000 streams of 1 MB in chunks of {size:>6}, {name:<20} {held:7.1f} MB")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    per_chunk()
    per_request()
    memory()
