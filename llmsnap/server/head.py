"""The head of a request: httptools (llhttp) reads it, strict checks of ours admit it. Pure.

What two servers in a row may read differently is refused, not repaired (RFC 9112 section 11.2).
Each head is read by a parser of its own, which gets exactly one head: no state, and nothing
remembered, passes from one request to the next. llhttp's leniency flags are all off; what it lets
pass all the same (several blanks in the request line, HTTP/0.9, other protocols' versions, repeated
headers, codings other than chunked) is refused here.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httptools
from msgspec import Struct

from llmsnap.errors import BadHead
from llmsnap.http.headers import FIELDS

MAX_LINE_BYTES = 8192
MAX_HEAD_BYTES = 65536
MAX_HEADERS = 100
END = b"\r\n\r\n"

_TEXT = bytes(code for code in range(256) if (code >= 32 and code != 127) or code == 9)
_VERSIONS = frozenset({b"HTTP/1.1", b"HTTP/1.0"})
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_HEADER = re.compile(_TOKEN.pattern + b":")
_KEY = bytes(
    1 if code == 95 else 0 if not _TOKEN.fullmatch(bytes([code])) else ord(chr(code).upper())
    for code in range(256)
).replace(b"-", b"_")
"""Makes a WSGI name of a header's: NUL for what is no token character, 1 for an underscore."""
_HOST = re.compile(r"[0-9A-Za-z.:\[\]_~!$&'()*+,;=%-]*")  # RFC 3986 section 3.2, no user
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})
_LENGTH_DIGITS = 18
_ASCII = bytes(range(33, 127)).decode()


class Head(Struct, frozen=True):
    """A request's head. *fields* are its headers under their WSGI names.

    *target* is path and query as sent, but for bytes beyond ASCII, which are escaped. *path* is the
    decoded path as WSGI wants it; *length* is that of the body, None when it comes chunked.
    *environ* holds the entries of a WSGI environ that come from the head.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    fields: dict[str, str]
    length: int | None
    keep_alive: bool
    expects_continue: bool
    environ: dict[str, Any]


class _Message:
    """Collects what httptools reports of one head. Its methods raise nothing."""

    __slots__ = ("is_complete", "lines", "target")

    def __init__(self) -> None:
        self.target = b""
        self.lines: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def __repr__(self) -> str:
        return f"<_Message {self.target!r}, {len(self.lines)} headers>"

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


def parse(raw: bytes) -> Head:
    """Return what *raw*, one head with its empty line, says. Raises: BadHead."""
    _check_lines(raw)
    if not raw.isascii():
        raw = _with_ascii_target(raw)
    method, target, version, lines = _read(raw)
    fields = _fields(lines)
    if target[0] != "/":
        target = _other_form(method, target, fields)
    _check_host(fields, version)
    path, _, query = target.partition("?")
    length = None
    if "HTTP_TRANSFER_ENCODING" in fields:
        _check_chunked(fields, version)
    else:
        length = _length(fields)
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ = {
        **fields,
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": version,
        "RAW_URI": target,
        FIELDS: fields,
    }
    return Head(
        method,
        target,
        path,
        query,
        version,
        fields,
        length,
        _keeps_alive(fields, version),
        "HTTP_EXPECT" in fields and _expects_continue(fields, version),
        environ,
    )


def check_begun(data: bytearray, since: int) -> None:
    """Refuse the beginning of a head that can never become one. Raises: BadHead.

    Up to *since* it has been checked before.
    """
    line = data.find(b"\r\n")
    if (line if line >= 0 else len(data)) > MAX_LINE_BYTES:
        raise BadHead(f"the request line is longer than {MAX_LINE_BYTES} bytes", 414)
    if len(data) > MAX_HEAD_BYTES:
        raise BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    if _BARE_LF.search(data, since):
        raise BadHead("a line of the head does not end with CRLF")


def _check_lines(raw: bytes) -> None:
    """Refuse what is not one head of lines that end in CRLF, or is too large. Raises: BadHead."""
    if len(raw) > MAX_HEAD_BYTES:
        raise BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    count = raw.count(b"\r\n")
    if len(raw.translate(None, _TEXT)) != 2 * count:
        raise BadHead("the head has a control character, or a line that does not end with CRLF")
    if count > MAX_HEADERS + 2:  # of the request line and the empty line
        raise BadHead(f"more than {MAX_HEADERS} headers", 431)
    first = raw.find(b"\r\n")
    if first > MAX_LINE_BYTES:
        raise BadHead(f"the request line is longer than {MAX_LINE_BYTES} bytes", 414)
    if first <= 0 or raw.find(END) != len(raw) - len(END):
        raise BadHead("an empty line in the head of a request")


def _with_ascii_target(raw: bytes) -> bytes:
    """Return *raw* with the bytes beyond ASCII in its target escaped, as browsers send them."""
    line, end, rest = raw.partition(b"\r\n")
    if line.isascii():
        return raw
    method, blank, others = line.partition(b" /")  # in a URL they may be in the name of the host
    escaped = quote_from_bytes(others, safe=_ASCII + " \t").encode()
    return method + blank + escaped + end + rest


def _read(raw: bytes) -> tuple[str, str, str, list[tuple[bytes, bytes]]]:
    """Return method, target, version and the headers of *raw*. Raises: BadHead."""
    message = _Message()
    parser = httptools.HttpRequestParser(message)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is complete, and all that was fed
    except httptools.HttpParserError as error:
        raise _refusal(raw, error) from error
    method = parser.get_method()
    if method == b"CONNECT":
        raise BadHead("CONNECT is not for this server, which is no proxy for other hosts", 501)
    version = b"HTTP/" + parser.get_http_version().encode()
    line = b"%b %b %b\r\n" % (method, message.target, version)
    if not (message.is_complete and version in _VERSIONS and raw.startswith(line)):
        raise _refusal(raw, None)
    if b"#" in message.target:
        raise BadHead("the request target has a fragment")
    if b"\t" in message.target:  # servers that cut the line at any blank find another target
        raise BadHead("the request target has a tab")
    return method.decode(), message.target.decode("latin-1"), version.decode(), message.lines


def _refusal(raw: bytes, error: Exception | None) -> BadHead:
    """Return what is wrong with a head that llhttp refuses, or reads in another way than we do."""
    line, *headers = raw[: -len(END)].split(b"\r\n")
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if version not in _VERSIONS and _VERSION.fullmatch(version):
        what = f"unsupported HTTP version {version.decode()}: use HTTP/1.1 or HTTP/1.0"
        return BadHead(what, 505)
    if not target or version not in _VERSIONS or not _TOKEN.fullmatch(method):
        return BadHead("the request line is not: method, target, HTTP/1.1 or HTTP/1.0")
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return BadHead(f"unsupported method {method.decode()}", 501)
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return BadHead("the request target is neither a path nor a URL")
    bad = [number for number, header in enumerate(headers, 2) if not _HEADER.match(header)]
    if bad:
        return BadHead(f"line {bad[0]} of the head is not a header: name, colon, value")
    return BadHead("a Content-Length, Transfer-Encoding or other header has an invalid value")


def _other_form(method: str, target: str, fields: dict[str, str]) -> str:
    """Return path and query of a target in another form than these (RFC 9112 section 3.2)."""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1]:
        raise BadHead("the request target is neither a path nor a URL")
    if "HTTP_HOST" in fields:  # its absence is refused as ever, the URL's host counts
        fields["HTTP_HOST"] = absolute[1]
    rest = absolute[2]
    if not rest and method == "OPTIONS":
        return "*"
    return rest if rest.startswith("/") else "/" + rest


def _fields(lines: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers under their WSGI names.

    Names with an underscore are dropped: ``X_Forwarded_For`` would become the same as
    ``X-Forwarded-For``, which a proxy in front may have taken care to remove.
    """
    fields: dict[str, str] = {}
    for name, raw_value in lines:
        key = name.translate(_KEY).decode()
        if "\0" in key or not key:
            raise BadHead("the name of a header is not a token")
        if "\1" in key:
            continue
        if key not in _UNPREFIXED:
            key = "HTTP_" + key
        value = raw_value.decode("latin-1").strip(" \t")
        if key in fields:
            value = _join(key, fields[key], value).strip(" \t")
        fields[key] = value
    return fields


def _join(key: str, before: str, value: str) -> str:
    if key in _SINGLE:
        raise BadHead(f"more than one {key.removeprefix('HTTP_').replace('_', '-').title()}")
    return f"{before}; {value}" if key == "HTTP_COOKIE" else f"{before},{value}"


def _check_host(fields: dict[str, str], version: str) -> None:
    host = fields.get("HTTP_HOST")
    if host is None:
        if version == "HTTP/1.1":
            raise BadHead("no Host header")
    elif not _HOST.fullmatch(host):
        raise BadHead("the Host header is not a host")


def _check_chunked(fields: dict[str, str], version: str) -> None:
    if "CONTENT_LENGTH" in fields:
        raise BadHead("both Transfer-Encoding and Content-Length")
    if fields["HTTP_TRANSFER_ENCODING"].lower() != "chunked" or version == "HTTP/1.0":
        raise BadHead("a Transfer-Encoding other than chunked")


def _length(fields: dict[str, str]) -> int:
    text = fields.get("CONTENT_LENGTH")
    if text is None:
        return 0
    if not text.isdecimal() or len(text) > _LENGTH_DIGITS:  # latin-1 has no other decimals than 0-9
        raise BadHead("Content-Length is not a number")
    return int(text)


def _keeps_alive(fields: dict[str, str], version: str) -> bool:
    connection = fields.get("HTTP_CONNECTION")
    if connection is None or connection == "keep-alive":
        return version == "HTTP/1.1" or connection is not None
    tokens = {token.strip(" \t") for token in connection.lower().split(",")}
    return "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)


def _expects_continue(fields: dict[str, str], version: str) -> bool:
    if fields["HTTP_EXPECT"].lower() != "100-continue":
        raise BadHead("an Expect that cannot be met", 417)
    return version == "HTTP/1.1"  # RFC 9110 section 10.1.1
