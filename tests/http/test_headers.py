import pytest

from llmsnap.http import headers
from llmsnap.http.headers import (
    RequestRule,
    below_prefix,
    from_environ,
    is_event_stream,
    request_headers,
    response_headers,
    sandboxed,
)

KEEP_ALL = RequestRule(pass_credentials=True)


def test_the_environ_holds_the_clients_headers_and_much_else() -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "wsgi.input": object(),
        "HTTP_HOST": "here",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "2",
        "HTTP_X_API_KEY": "k",
        "HTTP_X_EMPTY": "",
        "SERVER_NAME": "x",
    }
    assert from_environ(environ) == [
        ("Host", "here"),
        ("Content-Type", "application/json"),
        ("Content-Length", "2"),
        ("X-Api-Key", "k"),
        ("X-Empty", ""),
    ]
    assert from_environ({"CONTENT_TYPE": "", "CONTENT_LENGTH": ""}) == [], "they were not sent"


def test_names_nobody_uses_twice_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_NAMES", {})
    for number in range(headers.MOST_NAMES + 10):
        assert from_environ({f"HTTP_X_{number}": "v"}) == [(f"X-{number}", "v")]
    assert len(headers._NAMES) == headers.MOST_NAMES


@pytest.mark.parametrize(("length", "is_kept"), [(64, True), (65, False), (60_000, False)])
def test_long_names_are_not_remembered(length, is_kept, monkeypatch) -> None:
    monkeypatch.setattr(headers, "_NAMES", {})
    rule = RequestRule()
    name = "X-" + "n" * (length - 2)
    sent = from_environ({"HTTP_" + name.upper().replace("-", "_"): "v"})
    assert sent == [(name.title(), "v")]
    assert request_headers(sent, rule) == sent
    assert (len(headers._NAMES), len(rule._fates)) == (is_kept, is_kept)


def test_long_lists_of_encodings_are_not_remembered() -> None:
    rule = RequestRule(limit_encodings=True)
    headers._known_readable.cache_clear()
    for count, kept in ((20, 1), (100, 1)):
        wanted = "gzip" + ", br" * count
        assert request_headers([("Accept-Encoding", wanted)], rule) == [("Accept-Encoding", "gzip")]
        assert headers._known_readable.cache_info().currsize == kept


HOP_BY_HOP = """
    Connection Keep-Alive Proxy-Authenticate Proxy-Authorization Proxy-Connection TE Trailer
    Transfer-Encoding Upgrade
"""


def test_hop_by_hop_headers_and_what_connection_names_pass_neither_way() -> None:
    sent = [*((name, "x") for name in HOP_BY_HOP.split()), ("X-Stays", "2")]
    sent += [("Connection", "close, X-Hop"), ("X-Hop", "1")]
    assert request_headers(sent, KEEP_ALL) == response_headers(sent) == [("X-Stays", "2")]


NAMING_OURS = [("Host", "h"), ("Connection", "host, x-forwarded-for, content-length")]
FROM = {"client_ip": "9.9.9.9"}
ALL = {"pass_credentials": True}
CREDENTIALS = [("Authorization", "Bearer client"), ("X-Api-Key", "client")]
THEIRS = [("Host", "peer:1"), ("Authorization", "Bearer theirs"), ("X-Api-Key", "theirs")]
PEER = {"host": "peer:1", "api_key": "theirs", "pass_credentials": True}
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
SESSIONS = [("Cookie", "a=1; llmsnap-session-8080=x; b=llmsnap-session")]
TEAM = {"own": (("X-Team", "theirs"), ("Cookie", ""))}
PAGE = [
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Dest", "empty"),
    ("Sec-Fetch-User", "?1"),
    ("Origin", "https://page.example"),
    ("Referer", "https://page.example/secret"),
    ("Accept", "*/*"),
    ("X-Cookie", "1"),
]
COOKIES = [("Cookie", "session=1"), ("COOKIE", "more=1")]
READABLE = {"limit_encodings": True}
FOREIGN = {"foreign": True, "pass_credentials": True}

PASSED = [
    ([("TE", "gzip, Trailers")], {}, {}, [("Te", "trailers")]),
    ([("TE", "gzip")], {}, {}, []),
    ([("Content-Length", "99")], {}, {"body_length": 7}, [("Content-Length", "7")]),
    ([("Content-Length", "99"), ("Expect", "100-continue")], {}, {}, []),
    ([], {}, FROM, [("X-Forwarded-For", "9.9.9.9")]),
    ([("X-Forwarded-For", "")], {}, FROM, [("X-Forwarded-For", "9.9.9.9")]),
    ([("X-Forwarded-For", "1.1.1.1")], {}, FROM, [("X-Forwarded-For", "1.1.1.1, 9.9.9.9")]),
    ([("X-Forwarded-For", "1.1.1.1")], {}, {}, [("X-Forwarded-For", "1.1.1.1")]),
    (NAMING_OURS, {}, FROM, [("Host", "h"), ("X-Forwarded-For", "9.9.9.9")]),
    (NAMING_OURS, {}, {"body_length": 5}, [("Host", "h"), ("Content-Length", "5")]),
    ([("Connection", "a, Upgrade"), *UPGRADE[1:]], {"upgrade": True}, {}, UPGRADE),
    (CREDENTIALS, ALL, {}, CREDENTIALS),
    (CREDENTIALS, {}, {}, []),
    ([("Host", "me"), *CREDENTIALS], PEER, {}, THEIRS),
    ([("x-team", "red"), ("Cookie", "c")], TEAM, {}, [("X-Team", "theirs"), ("Cookie", "")]),
    (SESSIONS, {}, {}, [("Cookie", "a=1; b=llmsnap-session")]),
    ([("Cookie", "llmsnap-session=x;llmsnap-session-1=y")], {}, {}, []),
    ([("Accept-Encoding", "br, gzip")], ALL, {}, [("Accept-Encoding", "br, gzip")]),
    ([("Accept-Encoding", "br, gzip")], READABLE, {}, [("Accept-Encoding", "gzip")]),
    ([("Accept-Encoding", "br, zstd")], READABLE, {}, [("Accept-Encoding", "identity")]),
    ([("Accept-Encoding", "")], READABLE, {}, [("Accept-Encoding", "identity")]),
    ([*COOKIES, *PAGE], {}, {}, [*PAGE, ("Cookie", "session=1; more=1")]),
    ([*COOKIES, *PAGE], {"upgrade": True}, {}, [*PAGE, ("Cookie", "session=1; more=1")]),
    ([*COOKIES, *PAGE], FOREIGN, {}, PAGE[-2:]),
    ([*COOKIES, *PAGE], {**FOREIGN, "upgrade": True}, {}, PAGE[-2:]),
]


def test_what_a_server_gets_of_the_clients_headers() -> None:
    for sent, settings, more, passed in PASSED:
        rule = RequestRule(**settings)
        assert request_headers(sent, rule, **more) == passed
        assert "theirs" not in repr(rule)


FOR_ALL = """
    Clear-Site-Data strict-transport-security Service-Worker-Allowed Alt-Svc NEL Report-To Expect-CT
    Public-Key-Pins
"""


def test_an_upstream_settles_nothing_for_our_whole_origin() -> None:
    answer = [("Content-Type", "text/html"), *((name, "x") for name in FOR_ALL.split())]
    assert response_headers(answer) == answer[:1]


def test_what_is_no_page_runs_nothing_and_is_taken_for_what_it_says() -> None:
    answer = [("Content-Security-Policy", "default-src *"), ("x-content-type-options", "sniff")]
    assert sandboxed(answer) == [
        ("Content-Security-Policy", "default-src *"),
        ("Content-Security-Policy", "sandbox"),
        ("X-Content-Type-Options", "nosniff"),
    ]


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_event_streams_are_not_to_be_buffered(kind: str) -> None:
    answer = [("content-type", kind), ("x-accel-buffering", "yes")]
    assert response_headers(answer) == [("content-type", kind), ("X-Accel-Buffering", "no")]
    assert is_event_stream(answer)
    other = [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    assert response_headers(other) == other
    assert not is_event_stream(other)
    assert not is_event_stream([])


LOCATIONS = [
    ("/login?next=%2Fa#x", "/upstream/m/login?next=%2Fa#x"),
    ("http://127.0.0.1:9000/a%2Fb", "/upstream/m/a%2Fb"),
    ("http://LOCALHOST:8080/a", "/upstream/m/a"),
    ("/base/x", "/upstream/m/x"),
    ("/base", "/upstream/m/"),
    ("/basement", "/upstream/m/basement"),
    *((kept, kept) for kept in ("page", "//example.org/a", "http://[broken/", "https://o/a")),
]


def test_redirects_stay_below_the_prefix_without_the_base_path() -> None:
    base = "http://127.0.0.1:9000/base/"
    for location, seen in LOCATIONS:
        assert below_prefix(location, "/upstream/m/", base, ["localhost:8080"]) == seen
