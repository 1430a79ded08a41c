from __future__ import annotations

import pytest

from llmsnap.wire.cors import (
    DEFAULT_HEADERS,
    allow_origin,
    is_same_host,
    preflight,
    refuses,
    sanitize,
    with_origin,
)

PAGE = "https://page.example"


def test_a_preflight_without_wishes_gets_the_usual_headers() -> None:
    assert preflight("") == [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("Access-Control-Max-Age", "86400"),
        ("Access-Control-Allow-Headers", DEFAULT_HEADERS),
    ]


def test_a_preflight_gets_the_headers_it_asks_for() -> None:
    assert ("Access-Control-Allow-Headers", "X-A, x-b") in preflight("X-A,x-b")


def test_a_preflight_asking_for_nonsense_gets_no_headers() -> None:
    assert "Access-Control-Allow-Headers" not in dict(preflight("b@d"))


@pytest.mark.parametrize(
    ("asked", "clean"),
    [
        ("", ""),
        ("   ", ""),
        ("\tContent-Type\t,\tAccept\t", "Content-Type, Accept"),
        ("auth\n", "auth"),
        ("x\x00y, ok", "ok"),
        ("a,,b", "a, b"),
        (",a,b,", "a, b"),
        ("X-MiXeD", "X-MiXeD"),
        ("a b, c", "c"),
        ("a\r\nSet-Cookie: x", ""),
        ("!#$%&'*+-.^_`|~09az", "!#$%&'*+-.^_`|~09az"),
        ("ünicode", ""),
    ],
)
def test_only_header_names_are_echoed(asked: str, clean: str) -> None:
    assert sanitize(asked) == clean


SHARED = [
    "/v1/chat/completions",
    "/v/chat/completions",
    "/v1/messages",
    "/v1/audio/transcriptions",
    "/v1/audio/voices",
    "/completion",
    "/v1/models",
    "/models",
    "/health",
]
GUARDED = [
    "/api/events",
    "/api/captures/1",
    "/logs",
    "/logs/stream",
    "/running",
    "/unload",
    "/metrics",
    "/upstream/llama/v1/chat/completions",
    "/ui/",
    "/",
]


@pytest.mark.parametrize("path", SHARED)
def test_any_page_may_read_what_models_answer(path: str) -> None:
    assert allow_origin(path, PAGE) == [
        ("Access-Control-Allow-Origin", PAGE),
        ("Vary", "Origin"),
    ]
    assert allow_origin(path, "") == []


@pytest.mark.parametrize("path", GUARDED)
def test_no_page_may_read_the_rest_unless_its_origin_is_listed(path: str) -> None:
    assert allow_origin(path, PAGE, ["https://other.example"]) == []
    assert allow_origin(path, PAGE, [PAGE])
    assert allow_origin(path, PAGE, ["https://*.example"])
    assert allow_origin(path, PAGE.upper(), [PAGE + "/"])


def test_the_upstreams_own_origin_header_wins() -> None:
    ours = allow_origin("/health", PAGE)
    theirs = [("access-control-allow-origin", "*")]
    assert with_origin(theirs, ours) == theirs
    assert with_origin([("Server", "s")], ours) == [("Server", "s"), *ours]
    assert with_origin(theirs, []) == theirs


WRITES = [
    ("GET", "/unload"),
    ("POST", "/api/models/unload"),
    ("POST", "/api/models/unload/llama"),
    ("POST", "/api/models/sleep/llama"),
    ("POST", "/api/models/load/llama"),
    ("POST", "/api/reload"),
    ("POST", "/upstream/llama/v1/chat/completions"),
    ("DELETE", "/upstream/llama/x"),
]
OURS = "http://localhost:8080"


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"host": "localhost:8080"}, False),
        ({"host": "localhost:8080", "origin": OURS}, False),
        ({"host": "localhost:8080", "origin": OURS, "sec-fetch-site": "same-origin"}, False),
        ({"host": "localhost:8080", "sec-fetch-site": "none"}, False),
        ({"host": "localhost:8080", "origin": "https://LOCALHOST:8080"}, False),
        ({"host": "localhost:8080", "origin": PAGE}, True),
        ({"host": "localhost:8080", "origin": "http://localhost:3000"}, True),
        ({"host": "localhost:8080", "origin": "null"}, True),
        ({"host": "localhost:8080", "sec-fetch-site": "cross-site"}, True),
        ({"host": "localhost:8080", "sec-fetch-site": "Cross-Site", "origin": OURS}, True),
        ({"host": "localhost:8080", "origin": "http://listed.example"}, False),
        (
            {"host": "h", "origin": "http://listed.example", "sec-fetch-site": "cross-site"},
            False,
        ),
    ],
)
def test_another_sites_page_cannot_write(
    method: str, path: str, headers: dict[str, str], refused: bool
) -> None:
    assert refuses(method, path, headers, ["http://listed.example"]) is refused


@pytest.mark.parametrize("path", GUARDED)
def test_reading_is_not_refused(path: str) -> None:
    if path != "/unload":
        assert not refuses("GET", path, {"host": "h", "origin": PAGE})


@pytest.mark.parametrize("path", SHARED)
def test_inference_is_not_refused(path: str) -> None:
    assert not refuses("POST", path, {"origin": PAGE, "sec-fetch-site": "cross-site"})


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://box", "box", True),
        ("http://box", "box:80", True),
        ("https://box:443", "box", True),
        ("http://box:8080", "box:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://box:8080", "box:8081", False),
        ("http://box.evil", "box", False),
        ("http://box", "", False),
        ("http://box:port", "box", False),
        ("http://[::1", "[::1", False),
        ("null", "null", False),
        ("", "", False),
    ],
)
def test_when_a_page_is_our_own(origin: str, host: str, same: bool) -> None:
    assert is_same_host(origin, host) is same
