"""Measures the pieces of the hot path without network: ``python bench/micro_wire.py``.

Microseconds of CPU per call, the best of several rounds, so that a busy machine disturbs little.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmsnap.http.auth import Keyring
from llmsnap.http.cors import PageRules, allow_origin, page_verdict
from llmsnap.http.headers import RequestRule, from_environ, request_headers, response_headers
from llmsnap.http.hosts import HostRule
from llmsnap.http.sse import SseParser
from llmsnap.proxy import CompiledFilter
from llmsnap.proxy.jsonbody import parse_json
from llmsnap.proxy.multipart import receive

ROUNDS = 9
ROUND_S = 0.02

ENVIRON = {
    **dict.fromkeys(["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_NAME"], "x"),
    **dict.fromkeys(["wsgi.input", "wsgi.errors", "wsgi.version", "wsgi.url_scheme"], "x"),
    "HTTP_HOST": "localhost:8080",
    "HTTP_ACCEPT": "application/json",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br, zstd",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "181",
    "HTTP_CONNECTION": "keep-alive",
    "HTTP_USER_AGENT": "OpenAI/Python 1.2",
    "HTTP_AUTHORIZATION": "Bearer sk-0123456789",
    **{f"HTTP_X_STAINLESS_{name}": "x" for name in ("LANG", "OS", "ARCH", "RUNTIME", "ASYNC")},
}
ANSWER = [
    ("Content-Type", "text/event-stream"),
    ("Server", "llama.cpp"),
    ("Transfer-Encoding", "chunked"),
    ("Access-Control-Allow-Origin", ""),
]
SMALL = {
    "model": "llama",
    "messages": [{"role": "user", "content": "hello there"}],
    "stream": True,
    "temperature": 0.5,
    "max_tokens": 100,
    "top_p": 1.0,
    "seed": 5,
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}
LARGE = {**SMALL, "messages": [{"role": "user", "content": [IMAGE]}]}
LONG = {**SMALL, "messages": [{"role": "user", "content": 'a "quoted"\nline ' * 50}] * 25_000}


@dataclass(frozen=True)
class Entry:
    """Return an API key as in the configuration."""

    key: str
    name: str = ""
    models: tuple[str, ...] | None = None
    admin: bool = True


def best_us(call: Callable[[], object]) -> float:
    """Return microseconds per call in the best of several short rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        calls, started = 0, time.process_time()
        while (spent := time.process_time() - started) < ROUND_S or not calls:
            for _ in range(10 if best < 100 else 1):
                call()
                calls += 1
        best = min(best, spent / calls * 1e6)
    return best


def upload(megabytes: int) -> Callable[[int], bytes]:
    """Return the reader of a form with a file of that size, followed by the model."""
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b'\r\n--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--XX--\r\n'
    block = bytes(range(256)) * 256

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(megabytes * 16):
            yield block
        yield tail

    body = pieces()
    return lambda _: next(body, b"")


def take_in_upload() -> None:
    """Receive 20 MB and read them back."""
    form = receive(upload(20), "multipart/form-data; boundary=XX")
    for _ in form.chunks():
        pass
    form.close()


def cases() -> dict[str, Callable[[], object]]:
    """Return the measured calls, by name."""
    small, large, long = (json.dumps(body).encode() for body in (SMALL, LARGE, LONG))
    headers = from_environ(ENVIRON)
    rule = RequestRule(limit_encodings=True)
    ring = Keyring([Entry(f"key{number}") for number in range(5)])
    hosts, open_door = HostRule(), Keyring()
    strip = CompiledFilter.from_settings(["temperature"], {"top_k": 5})
    absent = CompiledFilter.from_settings(["absent"])
    request, large_request = parse_json(small), parse_json(large)
    origin = {"origin": "http://localhost:8080", "host": "localhost:8080"}
    frame = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
    parser = SseParser()
    return {
        "headers: from_environ": lambda: from_environ(ENVIRON),
        "headers: request_headers": lambda: request_headers(headers, rule, "127.0.0.1", 181),
        "headers: response_headers": lambda: response_headers(ANSWER),
        "auth: one of 5 keys": lambda: ring.authenticate("Bearer key3", None),
        "auth: no keys": lambda: open_door.authenticate(None, None),
        "hosts: allows": lambda: hosts.allows("localhost:8080"),
        "cors: verdict": lambda: page_verdict("POST", "/api/models/unload", origin, PageRules()),
        "cors: allow_origin": lambda: allow_origin("/v1/chat/completions", "http://a"),
        f"body: parse, {len(small)} bytes": lambda: parse_json(small),
        f"body: parse, {len(large) / 1e6:.0f} MB in one string": lambda: parse_json(large),
        f"body: parse, {len(long) / 1e6:.0f} MB in 25,000 messages": lambda: parse_json(long),
        "filters: strip and set": lambda: request.rewrite(strip.edits(request, "llama")),
        "filters: nothing applies": lambda: request.rewrite(absent.edits(request, "llama")),
        "filters: strip and set, 20 MB": lambda: large_request.rewrite(
            strip.edits(large_request, "llama")
        ),
        "multipart: 20 MB in and out": take_in_upload,
        "sse: one frame": lambda: parser.feed(frame),
    }


def main() -> None:
    """Print a line for each."""
    for name, call in cases().items():
        print(f"{name:42} {best_us(call):10.2f} us")


if __name__ == "__main__":
    main()
