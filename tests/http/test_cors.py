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


def test_a_preflight_gets_the_headers_it_asks_for_or_the_usual() -> None:
    asked = {"": [DEFAULT_HEADERS], "X-A,x-b": ["X-A, x-b"], "b@d": []}
    for names, allowed in asked.items():
        assert preflight_headers(names) == [
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
            ("Access-Control-Max-Age", "86400"),
            *(("Access-Control-Allow-Headers", each) for each in allowed),
        ]


CLEAN = {
    "   ": "",
    "\tContent-Type\t,\tAccept\n": "Content-Type, Accept",
    "x\x00y, ok": "ok",
    ",a,,b,": "a, b",
    "a b, c": "c",
    "a\r\nSet-Cookie: x": "",
    "!#$%&'*+-.^_`|~09az": "!#$%&'*+-.^_`|~09az",
    "ünicode": "",
}


def test_only_header_names_are_echoed() -> None:
    assert {asked: sanitize(asked) for asked in CLEAN} == CLEAN


SHARED = "/v1/chat/completions /v/chat/completions /v1/messages /v1/audio/voices /models /health"
GUARDED = "/api/events /logs /logs/stream /running /unload /metrics /upstream/m/v1/models /ui/ /"


def test_any_page_may_read_what_models_answer_and_the_rest_if_its_origin_is_listed() -> None:
    given = [("Access-Control-Allow-Origin", PAGE), ("Vary", "Origin")]
    for path in SHARED.split():
        assert (allow_origin(path, PAGE), allow_origin(path, "")) == (given, []), path
    for path in GUARDED.split():
        assert allow_origin(path, PAGE, ["https://other.example"]) == [], path
        assert allow_origin(path, PAGE, [PAGE]) == given
        assert allow_origin(path, PAGE, ["https://*.example"])
        assert allow_origin(path, PAGE.upper(), [PAGE + "/"])


def test_the_upstreams_own_origin_header_wins() -> None:
    ours = allow_origin("/health", PAGE)
    theirs = [("access-control-allow-origin", "*")]
    assert with_origin(theirs, ours) == theirs
    assert with_origin([("Server", "s")], ours) == [("Server", "s"), *ours]
    assert with_origin(theirs, []) == theirs


PRIVATE = """
    http://localhost:3000 https://app.localhost http://127.0.0.1:3000 http://127.9.9.9
    http://[::1]:3000 http://10.1.2.3 http://172.31.0.1 http://192.168.1.9:3000 http://169.254.1.1
    http://100.101.102.103 http://[fd00::1] http://[fe80::1] http://[::ffff:10.0.0.1]
    http://nas http://nas.local http://nas.lan:8000 https://svc.internal http://pc.home.arpa
    chrome-extension://abcdef app://obsidian.md file://
"""
PUBLIC = """
    null https://page.example http://8.8.8.8 http://172.32.0.1 http://[::ffff:8.8.8.8]
    http://[2001:4860::1] http://localhost.evil.example http://127.0.0.1.evil.example
    http://nas.local.evil.example https://box.tail1234.ts.net http:// http://[::1 localhost:3000
    javascript:alert(1)
"""


def test_which_origins_no_strangers_web_site_can_have() -> None:
    assert [origin for origin in PRIVATE.split() if not is_private(origin)] == []
    assert [origin for origin in ["", *PUBLIC.split()] if is_private(origin)] == []


PAGES = {
    "http://h/upstream/a/": "a/",
    "http://h/upstream/a%2Fb/x?y=/upstream/c/#/upstream/d": "a%2Fb/x",
    "http://h/llm/upstream/a/upstream/b/": "a/upstream/b/",
    "http://h/comfyui/": "comfyui_auto/",
    "http://h/llm/comfyui/api/x": "comfyui_auto/api/x",
    "http://h/llm/ui/models/comfyui/x": "",
    "http://h/ui/?from=/upstream/a/": "",
    "http://h/": "",
    "http://[::1/upstream/a/": "",
    "": "",
}


def test_which_model_a_page_belongs_to() -> None:
    assert {referer: page_below_upstream(referer) for referer in PAGES} == PAGES


BROWSERS = {
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36": True,
    "Mozilla/5.0 (Windows NT; en-US) WindowsPowerShell/5.1.19041.1": False,
    "curl/8.8.0": False,
    "python-requests/2.32 Mozilla/5.0": False,
    "": False,
}


def test_who_runs_pages() -> None:
    assert {name: is_browser(name) for name in BROWSERS} == BROWSERS


OWN = {
    ("http://box", "box:80"): True,
    ("https://box:443", "box"): True,
    ("http://box:8080", "box:8080"): True,
    ("http://[::1]:8080", "[::1]:8080"): True,
    ("http://box:8080", "box:8081"): False,
    ("http://box.evil", "box"): False,
    ("http://box", ""): False,
    ("http://box:port", "box"): False,
    ("http://[::1", "[::1"): False,
    ("", ""): False,
}


def test_when_a_page_is_our_own() -> None:
    assert {(origin, host): is_same_host(origin, host) for origin, host in OWN} == OWN
