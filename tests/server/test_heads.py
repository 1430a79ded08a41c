"""Parsing of request heads, and what is refused because two servers might read it differently."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.errors import BadHead
from llmsnap.server.http1 import check_incomplete_head, parse_head

HOST = b"Host: a.example:8080\r\n"


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    first = b"GET " + target + b" " + version + b"\r\n"
    return first + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_an_ordinary_head() -> None:
    found = parse_head(
        b"POST /v1/chat%2Fx?a=b%20c HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
        b"CONTENT-LENGTH: 12\r\nX-Api-Key:\t secret \r\nEmpty:\r\n\r\n"
    )
    assert (found.method, found.target) == ("POST", "/v1/chat%2Fx?a=b%20c")
    assert (found.path, found.query) == ("/v1/chat/x", "a=b%20c")
    assert (found.version, found.length, found.keep_alive) == ("HTTP/1.1", 12, True)
    assert found.fields == {
        "HTTP_HOST": "a.example:8080",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "12",
        "HTTP_X_API_KEY": "secret",
        "HTTP_EMPTY": "",
    }


def test_repeated_headers_are_joined_as_pywsgi_does_it() -> None:
    fields = parse_head(get(b"X-A: 1", b"x-a: 2", b"Cookie: a=1", b"Cookie: b=2")).fields
    assert fields["HTTP_X_A"] == "1,2"
    assert fields["HTTP_COOKIE"] == "a=1; b=2"
    assert parse_head(get(b"Cookie: a=1", b"Cookie:")).fields["HTTP_COOKIE"] == "a=1;"


@pytest.mark.parametrize("name", ["Content-Length", "Content-Type", "Authorization", "X-Other-ID"])
def test_a_name_means_the_same_in_every_spelling(name: str) -> None:
    key = ("" if name.startswith("Content-") else "HTTP_") + name.upper().replace("-", "_")
    for spelling in (name, name.lower(), name.upper(), name.title(), name.swapcase()):
        assert parse_head(get(f"{spelling}: 5".encode())).fields[key] == "5"


def test_bytes_beyond_ascii_stay_what_they_were() -> None:
    found = parse_head(get("X-Name: grün".encode(), target="/grün".encode()))
    assert found.fields["HTTP_X_NAME"].encode("latin-1") == "grün".encode()
    assert found.path.encode("latin-1") == "/grün".encode()
    assert parse_head(get(target=b"/gr%C3%BCn")).path == found.path


OF_OTHER = get(target=b"http://other.example/v1/models?x=1")
OF_HOST = {"HTTP_HOST": "a.example:8080"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (get(), {"length": 0, "keep_alive": True}),
        (get(b"Transfer-Encoding: Chunked"), {"length": None}),
        (get(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 5"), {"length": 5}),
        (get(b"Connection: Keep-Alive, Close"), {"keep_alive": False}),
        (get(b"Connection: keep-alive, Upgrade"), {"keep_alive": True}),
        (get(b"Connection: Keep-Alive", version=b"HTTP/1.0"), {"keep_alive": True}),
        (b"GET / HTTP/1.0\r\n\r\n", {"keep_alive": False, "fields": {}}),
        (get(b"Expect: 100-Continue"), {"expects_continue": True}),
        (get(b"Expect: 100-continue", version=b"HTTP/1.0"), {"expects_continue": False}),
        (get(b"X_Forwarded_For: 6.6.6.6", b"Content_Length: 9"), {"fields": OF_HOST}),
        (OF_OTHER, {"target": "/v1/models?x=1", "path": "/v1/models", "query": "x=1"}),
        (OF_OTHER, {"fields": {"HTTP_HOST": "other.example"}}),
        (get(target=b"HTTPS://x"), {"target": "/"}),
        (get(target=b"http://x?q"), {"target": "/?q"}),
        (b"OPTIONS http://x HTTP/1.1\r\n" + HOST + b"\r\n", {"target": "*"}),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {"path": "*"}),
    ],
)
def test_what_a_head_says(raw: bytes, said: dict) -> None:
    head = parse_head(raw)
    assert {name: getattr(head, name) for name in said} == said


def status_of(raw: bytes) -> int:
    with pytest.raises(BadHead) as caught:
        parse_head(raw)
    return caught.value.status


LENGTHS = [b"1, 1", b"+1", b"-1", b"0x1", b"1 1", b"\xb2", b"", b"1234567890123456789"]
CODINGS = [b"gzip, chunked", b"chunked, chunked", b"xchunked", b'"chunked"', b"\x0bchunked", b""]


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 1\r\nContent-Length: 1",
        *(b"Content-Length: " + one for one in LENGTHS),
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        *(b"Transfer-Encoding: " + one for one in CODINGS),
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Host: b",
        b"Content-Type: a/b\r\nContent-Type: c/d",
        b" Folded: x",
        b"X-A: 1\r\n folded",
        b"X-A: 1\r\n\tfolded",
        b"X-A : 1",
        b": 1",
        b"no colon",
        b"X-A: a\rb\nX-B: c",
        b"X-A: a\n\rb",
        b"\r\nX-A: after the end",
    ],
)
def test_smuggled_or_broken_headers_are_refused(line: bytes) -> None:
    assert status_of(get(line)) == 400


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        (get(target=b"*"), 400),
        (b"GET /\r\n" + HOST + b"\r\n", 400),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
        (b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1x\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://u:p@a/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://a/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a?\t HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://a/\tb HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: a-miracle\r\n\r\n", 417),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
        (b"GET / \r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"SOURCE / ICE/1.0\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"FROB / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"GET http://gr\xfcn/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (get(target=b"/" + b"a" * 9000), 414),
        (get(*[b"X-%d: 1" % n for n in range(99)]), 0),
        (get(*[b"X-%d: 1" % n for n in range(100)]), 431),
        (get(*[b"X-%d: " % n + b"a" * 1000 for n in range(66)]), 431),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_request_lines_hosts_and_limits(raw: bytes, status: int) -> None:
    assert (status_of(raw) if status else parse_head(raw) and 0) == status


@pytest.mark.parametrize("rest", [b"", b"\r\n\r\n"])
def test_a_client_that_speaks_tls_is_told_so_at_once(rest: bytes) -> None:
    """Its first record may have no line feed in it, and then it would wait for an answer."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rest
    with pytest.raises(BadHead, match="use http://, not https://"):
        parse_head(hello) if rest else check_incomplete_head(bytearray(hello), 0)


def test_what_has_been_checked_is_not_checked_again() -> None:
    check_incomplete_head(bytearray(b"GET / HTTP/1.1\r\nA: \n"), 20)
    check_incomplete_head(bytearray(b"GET / HTTP/1.1\r"), 0)


def test_each_byte_of_a_name_a_value_and_a_target_is_judged_by_itself() -> None:
    for code in range(256):
        byte = bytes([code])
        is_token = chr(code) in "!#$%&'*+-.^_`|~:" or (byte.isalnum() and code < 128)
        assert is_accepted(get(b"X" + byte + b"A: 1")) is is_token, code  # a colon ends the name
        is_text = code == 9 or (code >= 32 and code != 127)
        assert is_accepted(get(b"X-A: 1" + byte + b"2")) is is_text, code
        if code > 32:
            fits = code not in {ord("#"), 127}
            assert is_accepted(get(target=b"/a" + byte + b"b")) is fits, code


def is_accepted(raw: bytes) -> bool:
    try:
        parse_head(raw)
    except BadHead:
        return False
    return True


@pytest.mark.parametrize("method", [b"GET", b"CONNECT", b"POST"])
def test_only_a_whole_head_is_accepted(method: bytes) -> None:
    raw = get(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 5")
    parse_head(raw)
    for extra in (b"h", b"hello", raw, b"\r\n"):
        assert status_of(method + raw[3:] + extra) == 400
    for end in range(1, len(raw)):
        assert status_of(raw[:end]) == 400


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (get(version=b"HTTP/2.0"), "unsupported HTTP version HTTP/2.0"),
        (b"FROB / HTTP/1.1\r\n" + HOST + b"\r\n", "FROB"),
        (get(b"X-A: 1", b"X B: 1"), "line 4 "),
        (get(target=b"a"), "target"),
    ],
)
def test_a_refusal_names_what_is_wrong(raw: bytes, words: str) -> None:
    with pytest.raises(BadHead) as caught:
        parse_head(raw)
    assert words in str(caught.value)


def spelled(name: str) -> st.SearchStrategy[str]:
    any_case = st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in name)).map("".join)
    return st.sampled_from([name, name.lower(), name.upper(), name.capitalize()]) | any_case


BLANKS = st.sampled_from(["", " ", "  ", "\t", " \t "])
SPACES = st.sampled_from(["", " ", "  "])
"""Behind a length or a coding, where some versions of llhttp refuse a tab."""
NUMBERS = st.sampled_from(["0", "5", "05", "76", "300"])
BROKEN = st.sampled_from(["\n", "", "+5", "5,5", "5 5", "0x5", "5\n", "\n5", "5\r"])
OTHERS = st.lists(
    st.sampled_from(["X-A: Content-Length: 7", "X-A: 1", "Content-Length-X: 9", "Accept: */*"]),
    max_size=2,
)

REFUSED = -1


@st.composite
def heads(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """A head and the length of its body: None for one in chunks, REFUSED for a head that is."""
    broken = st.lists(NUMBERS | BROKEN, min_size=1, max_size=2)
    values = draw(st.lists(NUMBERS, max_size=1) | broken)
    codings = draw(st.sampled_from([[], [], ["chunked"], ["Chunked"], ["gzip"], ["chunked"] * 2]))
    lines = [
        f"{draw(spelled(name))}:{draw(BLANKS)}{value}{draw(SPACES)}"
        for name, given_ in (("Content-Length", values), ("Transfer-Encoding", codings))
        for value in given_
    ]
    lines = draw(st.permutations([*lines, *draw(OTHERS)]))
    raw = get(*(line.encode("latin-1") for line in lines))
    if codings:
        is_chunked = [coding.lower() for coding in codings] == ["chunked"] and not values
        return raw, None if is_chunked else REFUSED
    if len(values) > 1 or not all(value.isdecimal() for value in values):
        return raw, REFUSED
    return raw, int(values[0]) if values else 0


@pytest.mark.parametrize(
    ("line", "length"), [(b"Content-Length: 5\t", 5), (b"Transfer-Encoding: chunked \t", None)]
)
def test_a_tab_behind_what_frames_a_body_is_refused_or_means_nothing(line, length) -> None:
    assert length_of(get(line)) in {length, REFUSED}


def length_of(raw: bytes) -> int | None:
    try:
        return parse_head(raw).length
    except BadHead:
        return REFUSED


@given(st.lists(heads(), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_a_head_means_the_same_however_often_and_after_whichever_it_comes(seen, random) -> None:
    again = seen * 3
    random.shuffle(again)
    for raw, length in again:
        assert length_of(raw) == length, raw
