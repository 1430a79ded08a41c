"""Measures observation: CPU time per request and chunk, memory of 1,000 streams of 1 MB.

Run: python bench/micro_observer.py
"""

from __future__ import annotations

import gc
import gzip
import resource
import time
import tracemalloc
from collections.abc import Callable

from llmsnap.proxy import ClientMonitor, Request, RequestContext
from llmsnap.telemetry import ActivityLog, Captures, EventBus, Recorder, ResponseObserver
from llmsnap.telemetry.captures import MIB

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


def usual_request() -> Request:
    """Return a short chat, as the gateway builds it."""
    return Request(
        id="0123456789abcdef",
        method="POST",
        path="/v1/chat/completions",
        raw_path="/v1/chat/completions",
        query="",
        environ={},
        read=lambda _: b"",
        length=0,
        client_ip="127.0.0.1",
        monitor=ClientMonitor(None),
        user_agent="OpenAI/Python 1",
        requested="llama",
    )


def begin(watch: Recorder, body: bytes = b'{"model":"llama"}') -> ResponseObserver:
    """Return the observer of a typical request."""
    context = RequestContext(usual_request())
    context.model_id = "llama"
    context.headers = [("Content-Type", "application/json"), ("User-Agent", "bench")]
    return watch.begin(context, body)


def report(name: str, call: Callable[[], object], count: int) -> None:
    """Print the cost of one *call*, best of five runs."""
    best = 1e9
    for _ in range(5):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, time.process_time() - start)
    print(f"{name:<58} {best / count * 1e6:8.2f} us")


def per_chunk() -> None:
    """Measure ``ResponseObserver.feed`` in the middle of a stream."""
    for name, budget in (("captures off", 0), ("captured", 64 * MIB)):
        observer = begin(recorder(budget))
        observer.head(200, SSE)
        observer.feed(FRAME)
        report(
            f"feed of a {len(FRAME)} byte frame, {name}", lambda t=observer: t.feed(FRAME), 50_000
        )
    observer = begin(recorder(0))
    observer.head(200, SSE)
    observer.feed(FRAME)
    large = FRAME * 300
    report(f"feed of {len(large)} bytes at once", lambda: observer.feed(large), 5_000)


def per_request() -> None:
    """Measure a whole request: begin, head, one chunk, finish."""

    def serve(watch: Recorder, answer: bytes, headers: list[tuple[str, str]]) -> None:
        observer = begin(watch)
        observer.context.granted = True
        observer.head(200, headers)
        observer.feed(answer)
        observer.finish()

    for name, budget in (("captures off", 0), ("captured", 5 * MIB)):
        watch = recorder(budget)
        report(f"a plain request, {name}", lambda w=watch: serve(w, ANSWER, JSON), 3_000)
        report(f"a streamed request, {name}", lambda w=watch: serve(w, STREAM, SSE), 1_000)
    squeezed = gzip.compress(ANSWER)
    headers = [*JSON, ("Content-Encoding", "gzip")]
    watch = recorder(0)
    report("a gzipped request, captures off", lambda: serve(watch, squeezed, headers), 1_000)


def memory() -> None:
    """Measure the memory of 1,000 open streams after 1 MB each."""
    for name, budget in (("captures off", 0), ("captures on, 5 MiB", 5 * MIB)):
        for size in (1024, 64 * 1024):
            gc.collect()
            tracemalloc.start()
            watch = recorder(budget)
            observers = [begin(watch) for _ in range(1000)]
            for observer in observers:
                observer.head(200, SSE)
            piece = (FRAME * (size // len(FRAME) + 1))[:size]
            for _ in range(1_000_000 // size):
                for observer in observers:
                    observer.feed(bytes(bytearray(piece)))
            held = tracemalloc.get_traced_memory()[0] / 1e6
            tracemalloc.stop()
            for observer in observers:
                observer.finish()
            print(f"1,000 streams of 1 MB in chunks of {size:>6}, {name:<20} {held:7.1f} MB")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    per_chunk()
    per_request()
    memory()
