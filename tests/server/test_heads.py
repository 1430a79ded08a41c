"""Parsing of request heads, and what is refused because two servers might read it differently."""

from random import Random

import pytest

from llmsnap.errors import BadHead
from llmsnap.server.http1 import check_incomplete_head, parse_head
from tests.drawn import cases

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


def test_a_name_means_the_same_in_every_spelling() -> None:
    for name in ("Content-Length", "Content-Type", "Authorization", "X-Other-ID"):
        key = ("" if name.startswith("Content-") else "HTTP_") + name.upper().replace("-", "_")
        for spelling in (name, name.lower(), name.upper(), name.title(), name.swapcase()):
            assert parse_head(get(f"{spelling}: 5".encode())).fields.get(key) == "5", spelling


def test_bytes_beyond_ascii_stay_what_they_were() -> None:
    found = parse_head(get("X-Name: grün".encode(), target="/grün".encode()))
    assert found.fields["HTTP_X_NAME"].encode("latin-1") == "grün".encode()
    assert found.path.encode("latin-1") == "/grün".encode()
    assert parse_head(get(target=b"/gr%C3%BCn")).path == found.path


OF_OTHER = get(target=b"http://other.example/v1/models?x=1")
OF_HOST = {"HTTP_HOST": "a.example:8080"}


SAYS = [
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
]


def test_what_a_head_says() -> None:
    heads = [(parse_head(raw), said) for raw, said in SAYS]
    found = [{name: getattr(head, name) for name in said} for head, said in heads]
    assert found == [said for _, said in SAYS]


def status_of(raw: bytes) -> int:
    """The status of a refusal, 0 for a head that is accepted."""
    try:
        parse_head(raw)
    except BadHead as error:
        return error.status
    return 0


LENGTHS = [b"1, 1", b"+1", b"-1", b"0x1", b"1 1", b"\xb2", b"", b"1234567890123456789"]
CODINGS = [b"gzip, chunked", b"chunked, chunked", b"xchunked", b'"chunked"', b"\x0bchunked", b""]


SMUGGLED = [
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
]


def test_smuggled_or_broken_headers_are_refused() -> None:
    assert {line: status_of(get(line)) for line in SMUGGLED} == dict.fromkeys(SMUGGLED, 400)


STATUSES = {
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n": 400,
    get(target=b"*"): 400,
    b"GET /\r\n" + HOST + b"\r\n": 400,
    b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n": 400,
    b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / a HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b" GET / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / http/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/1.1x\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/2.0\r\n" + HOST + b"\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\n": 505,
    b"GET a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET http:///x HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET http://u:p@a/x HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET ftp://a/x HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /a?\t HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET http://a/\tb HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET http://x/ HTTP/1.1\r\n\r\n": 400,
    b"CONNECT a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n": 501,
    b"GET / HTTP/1.1\r\n" + HOST + b"Expect: a-miracle\r\n\r\n": 417,
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    b"GET / HTTP/0.9\r\n" + HOST + b"\r\n": 505,
    b"GET / \r\n\r\n": 400,
    b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"SOURCE / ICE/1.0\r\n" + HOST + b"\r\n": 400,
    b"PRI * HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    b"FROB / HTTP/1.1\r\n" + HOST + b"\r\n": 501,
    b"get / HTTP/1.1\r\n" + HOST + b"\r\n": 501,
    b"GET http://gr\xfcn/ HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
    get(target=b"/" + b"a" * 9000): 414,
    get(*[b"X-%d: 1" % n for n in range(99)]): 0,
    get(*[b"X-%d: 1" % n for n in range(100)]): 431,
    get(*[b"X-%d: " % n + b"a" * 1000 for n in range(66)]): 431,
}


def test_request_lines_hosts_and_limits() -> None:
    assert {raw: status_of(raw) for raw in STATUSES} == STATUSES


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
        assert (status_of(get(b"X" + byte + b"A: 1")) == 0) is is_token, (
            code
        )  # a colon ends the name
        is_text = code == 9 or (code >= 32 and code != 127)
        assert (status_of(get(b"X-A: 1" + byte + b"2")) == 0) is is_text, code
        if code > 32:
            fits = code not in {ord("#"), 127}
            assert (status_of(get(target=b"/a" + byte + b"b")) == 0) is fits, code


def test_only_a_whole_head_is_accepted() -> None:
    raw = get(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 5")
    parse_head(raw)
    more = [raw + extra for extra in (b"h", b"hello", raw, b"\r\n")]
    more += [method + one[3:] for method in (b"CONNECT", b"POST") for one in more]
    for part in (*more, *(raw[:end] for end in range(1, len(raw)))):
        assert status_of(part) == 400, part


def test_a_refusal_names_what_is_wrong() -> None:
    for raw, words in (
        (get(version=b"HTTP/2.0"), "unsupported HTTP version HTTP/2.0"),
        (b"FROB / HTTP/1.1\r\n" + HOST + b"\r\n", "FROB"),
        (get(b"X-A: 1", b"X B: 1"), "line 4 "),
        (get(target=b"a"), "target"),
    ):
        with pytest.raises(BadHead, match=words):
            parse_head(raw)


BLANKS = ["", " ", "  ", "\t", " \t "]
SPACES = ["", " ", "  "]
"""Behind a length or a coding, where some versions of llhttp refuse a tab."""
NUMBERS = ["0", "5", "05", "76", "300"]
BROKEN = ["\n", "", "+5", "5,5", "5 5", "0x5", "5\n", "\n5", "5\r"]
ALL_CODINGS = [[], [], ["chunked"], ["Chunked"], ["gzip"], ["chunked"] * 2]
OTHERS = ["X-A: Content-Length: 7", "X-A: 1", "Content-Length-X: 9", "Accept: */*"]
SPELLINGS = [str, str.lower, str.upper, str.capitalize, str.swapcase]

REFUSED = -1


def length_of(raw: bytes) -> int | None:
    """The length of the body: None for one in chunks, REFUSED for a head that is."""
    try:
        return parse_head(raw).length
    except BadHead:
        return REFUSED


def any_head(chance: Random) -> tuple[bytes, int | None]:
    """A head and what ``length_of`` returns for it."""

    def spelled(name: str) -> str:
        if chance.random() < 0.5:
            return chance.choice(SPELLINGS)(name)
        return "".join(chance.choice((letter.lower(), letter.upper())) for letter in name)

    values = chance.choices(NUMBERS, k=chance.randrange(2))
    if chance.random() < 0.5:
        values = chance.choices([*NUMBERS, *BROKEN], k=chance.randrange(1, 3))
    codings = chance.choice(ALL_CODINGS)
    lines = [
        f"{spelled(name)}:{chance.choice(BLANKS)}{value}{chance.choice(SPACES)}"
        for name, given_ in (("Content-Length", values), ("Transfer-Encoding", codings))
        for value in given_
    ]
    lines += chance.choices(OTHERS, k=chance.randrange(3))
    chance.shuffle(lines)
    raw = get(*(line.encode("latin-1") for line in lines))
    if codings:
        is_chunked = [coding.lower() for coding in codings] == ["chunked"] and not values
        return raw, None if is_chunked else REFUSED
    if len(values) > 1 or not all(value.isdecimal() for value in values):
        return raw, REFUSED
    return raw, int(values[0]) if values else 0


@cases(80)
def test_a_head_means_the_same_however_often_and_after_whichever_it_comes(chance: Random) -> None:
    again = [any_head(chance) for _ in range(chance.randrange(1, 7))] * 3
    chance.shuffle(again)
    for raw, length in again:
        assert length_of(raw) == length, raw


def test_a_tab_behind_what_frames_a_body_is_refused_or_means_nothing() -> None:
    assert length_of(get(b"Content-Length: 5\t")) in {5, REFUSED}
    assert length_of(get(b"Transfer-Encoding: chunked \t")) in {None, REFUSED}
