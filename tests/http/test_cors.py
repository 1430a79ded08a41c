from __future__ import annotations

import pytest

from llmsnap.http.cors import (
    DEFAULT_HEADERS,
    allow_origin,
    is_browser,
    is_private,
    is_same_host,
    page_below_upstream,
    preflight_headers,
    sanitize,
    with_origin,
)

PAGE = "https://page.example"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [("", [DEFAULT_HEADERS]), ("X-A,x-b", ["X-A, x-b"]), ("b@d", [])],
)
def test_a_preflight_gets_the_headers_it_asks_for_or_the_usual(asked, allowed) -> None:
    assert preflight_headers(asked) == [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("Access-Control-Max-Age", "86400"),
        *(("Access-Control-Allow-Headers", names) for names in allowed),
    ]


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


@pytest.mark.parametrize(
    ("origin", "private"),
    [
        ("http://localhost:3000", True),
        ("https://app.localhost", True),
        ("http://127.0.0.1:3000", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:3000", True),
        ("http://10.1.2.3", True),
        ("http://172.31.0.1", True),
        ("http://192.168.1.9:3000", True),
        ("http://169.254.1.1", True),
        ("http://100.101.102.103", True),
        ("http://[fd00::1]", True),
        ("http://[fe80::1]", True),
        ("http://[::ffff:10.0.0.1]", True),
        ("http://nas", True),
        ("http://nas.local", True),
        ("http://nas.lan:8000", True),
        ("https://svc.internal", True),
        ("http://pc.home.arpa", True),
        ("chrome-extension://abcdef", True),
        ("app://obsidian.md", True),
        ("file://", True),
        ("null", False),
        ("", False),
        ("https://page.example", False),
        ("http://8.8.8.8", False),
        ("http://172.32.0.1", False),
        ("http://[::ffff:8.8.8.8]", False),
        ("http://[2001:4860::1]", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://192.168.1.9.evil.example", False),
        ("http://nas.local.evil.example", False),
        ("https://box.tail1234.ts.net", False),
        ("http://", False),
        ("http://[::1", False),
        ("localhost:3000", False),
        ("javascript:alert(1)", False),
    ],
)
def test_which_origins_no_strangers_web_site_can_have(origin: str, private: bool) -> None:
    assert is_private(origin) is private


@pytest.mark.parametrize(
    ("referer", "page"),
    [
        ("http://h/upstream/a/", "a/"),
        ("http://h/upstream/a%2Fb/x?y=/upstream/c/#/upstream/d", "a%2Fb/x"),
        ("http://h/upstream//a/x", "a/x"),
        ("http://h/llm/upstream/a/upstream/b/", "a/upstream/b/"),
        ("http://h/comfyui/", "comfyui_auto/"),
        ("http://h/llm/comfyui/api/x", "comfyui_auto/api/x"),
        ("http://h/upstream/a/comfyui/x", "a/comfyui/x"),
        ("http://h/ui/comfyui/", ""),
        ("http://h/llm/ui/models/comfyui/x", ""),
        ("http://h/ui/?from=/upstream/a/", ""),
        ("http://h/", ""),
        ("http://[::1/upstream/a/", ""),
        ("", ""),
    ],
)
def test_which_model_a_page_belongs_to(referer: str, page: str) -> None:
    assert page_below_upstream(referer) == page


@pytest.mark.parametrize(
    ("name", "browser"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36", True),
        ("Mozilla/5.0 (Windows NT; en-US) WindowsPowerShell/5.1.19041.1", False),
        ("Mozilla/5.0 (Linux; Ubuntu; en-US) PowerShell/7.4.1", False),
        ("curl/8.8.0", False),
        ("node", False),
        ("python-requests/2.32 Mozilla/5.0", False),
        ("", False),
    ],
)
def test_who_runs_pages(name: str, browser: bool) -> None:
    assert is_browser(name) is browser


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
