"""HTTP/1.1 requests as bytes: parses and checks heads, reads bodies by their framing. Pure.

httptools (llhttp) parses a head, and strict checks of this module admit it. A head that two servers
in a row may read differently is refused, not repaired (RFC 9112 section 11.2). Each is parsed by a
parser of its own, which gets exactly one head: no state passes from one request to the next.
llhttp's leniency flags are all off; what it accepts all the same (several blanks in the request
line, HTTP/0.9, versions of other protocols, repeated headers, codings other than chunked) is
refused here. Bodies are read here as well, since httptools cannot pause at the end of one
(docs/adr/0017).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httptools
from msgspec import Struct

from llmsnap.errors import BadHead, BadRequest, BodyTimeout, ClientGone

MAX_LINE_BYTES = 8192
MAX_HEAD_BYTES = 65536
MAX_HEADERS = 100
END_OF_HEAD = b"\r\n\r\n"
CHUNK_LINE_BYTES = 4096
TRAILER_LINES = 100
TRAILER_BYTES = 8192
TLS_HANDSHAKE = b"\x16\x03"
"""How the first record of a client that speaks TLS begins (RFC 8446 section 5.1)."""
NO_TLS_HERE = "this address speaks HTTP without TLS: use http://, not https://"

_TEXT = bytes(code for code in range(256) if (code >= 32 and code != 127) or code == 9)
_VERSIONS = {"1.1": "HTTP/1.1", "1.0": "HTTP/1.0"}
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_HEADER = re.compile(_TOKEN.pattern + b":")
_NAME_TO_KEY = bytes(
    1 if code == 95 else 0 if not _TOKEN.fullmatch(bytes([code])) else ord(chr(code).upper())
    for code in range(256)
).replace(b"-", b"_")
"""Translates the bytes of a header's name to those of its WSGI key: NUL where a token must not have
the byte, 1 for an underscore.
"""
_HOST = re.compile(r"[0-9A-Za-z.:\[\]_~!$&'()*+,;=%-]*")  # RFC 3986 section 3.2, no user
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})
_LENGTH_DIGITS = 18
_ASCII = bytes(range(33, 127)).decode()
_COMMON_NAMES = (
    "Accept Accept-Charset Accept-Encoding Accept-Language Anthropic-Beta Anthropic-Version "
    "Authorization Cache-Control Connection Content-Length Content-Type Cookie DNT Expect Host "
    "If-Modified-Since If-None-Match OpenAI-Organization Origin Pragma Referer Sec-Fetch-Dest "
    "Sec-Fetch-Mode Sec-Fetch-Site TE Traceparent Transfer-Encoding Upgrade-Insecure-Requests "
    "User-Agent X-Api-Key X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Real-IP "
    "X-Request-Id X-Stainless-Arch X-Stainless-Async X-Stainless-Lang X-Stainless-OS "
    "X-Stainless-Package-Version X-Stainless-Read-Timeout X-Stainless-Retry-Count "
    "X-Stainless-Runtime X-Stainless-Runtime-Version"
)
"""Headers that most requests have; their keys are looked up, those of other names computed."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")

# --- the head ----------------------------------------------------------------------------------


class RequestHead(Struct, frozen=True):
    """The head of a request.

    *target* is path and query as sent, but for bytes beyond ASCII, which are escaped. *path* is the
    decoded path as WSGI defines it. *fields* are the headers under their WSGI keys. *length* is
    that of the body in bytes, None when it is chunked.
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


class _HeadCallbacks:
    """Collects what httptools reports of one head. Its methods raise nothing."""

    __slots__ = ("headers", "is_complete", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


def parse_head(raw: bytes) -> RequestHead:
    """Return the head that *raw*, one head with its empty line, contains. Raises: BadHead."""
    _check_lines(raw)
    if not raw.isascii():
        raw = _with_ascii_target(raw)
    method, target, version, headers = _parse(raw)
    fields = _fields(headers)
    if target[0] != "/":
        target = _origin_form(method, target, fields)
    _check_host(fields, version)
    path, _, query = target.partition("?")
    length = None
    if "HTTP_TRANSFER_ENCODING" in fields:
        _check_chunked(fields, version)
    else:
        length = _content_length(fields)
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    return RequestHead(
        method,
        target,
        path,
        query,
        version,
        fields,
        length,
        _keeps_alive(fields, version),
        "HTTP_EXPECT" in fields and _expects_continue(fields, version),
    )


def check_incomplete_head(data: bytearray, since: int) -> None:
    """Refuse an incomplete head that no further bytes can make valid. Raises: BadHead.

    The bytes before *since* have been checked before.
    """
    line = data.find(b"\r\n")
    if (line if line >= 0 else len(data)) > MAX_LINE_BYTES:
        raise BadHead(f"the request line is longer than {MAX_LINE_BYTES} bytes", 414)
    if len(data) > MAX_HEAD_BYTES:
        raise BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    if data.startswith(TLS_HANDSHAKE):
        raise BadHead(NO_TLS_HERE)
    if _BARE_LF.search(data, since):
        raise BadHead("a line of the head does not end with CRLF")


def _check_lines(raw: bytes) -> None:
    """Refuse all but one head of lines that end in CRLF, within the limits. Raises: BadHead."""
    if len(raw) > MAX_HEAD_BYTES:
        raise BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    count = raw.count(b"\r\n")
    if len(raw.translate(None, _TEXT)) != 2 * count:
        if raw.startswith(TLS_HANDSHAKE):
            raise BadHead(NO_TLS_HERE)
        raise BadHead("the head has a control character, or a line that does not end with CRLF")
    if count > MAX_HEADERS + 2:  # of the request line and the empty line
        raise BadHead(f"more than {MAX_HEADERS} headers", 431)
    first = raw.find(b"\r\n")
    if first > MAX_LINE_BYTES:
        raise BadHead(f"the request line is longer than {MAX_LINE_BYTES} bytes", 414)
    if first <= 0 or raw.find(END_OF_HEAD) != len(raw) - len(END_OF_HEAD):
        raise BadHead("an empty line in the head of a request")


def _with_ascii_target(raw: bytes) -> bytes:
    """Return *raw* with the bytes beyond ASCII in its target escaped, as browsers send them."""
    line, end, rest = raw.partition(b"\r\n")
    if line.isascii():
        return raw
    method, blank, others = line.partition(b" /")  # in a URL they may be in the name of the host
    escaped = quote_from_bytes(others, safe=_ASCII + " \t").encode()
    return method + blank + escaped + end + rest


def _parse(raw: bytes) -> tuple[str, str, str, list[tuple[bytes, bytes]]]:
    """Return method, target, version and the headers of *raw*. Raises: BadHead."""
    callbacks = _HeadCallbacks()
    parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is complete, and all that was fed
    except httptools.HttpParserError as error:
        raise _refusal(raw, error) from error
    method = parser.get_method()
    target = callbacks.target
    version = _VERSIONS.get(parser.get_http_version())
    if method == b"CONNECT":
        raise BadHead("CONNECT is not for this server, which is no proxy for other hosts", 501)
    if version is None or not callbacks.is_complete:
        raise _refusal(raw, None)
    if not raw.startswith(b"%b %b %b\r\n" % (method, target, version.encode())):
        raise _refusal(raw, None)
    if b"#" in target:
        raise BadHead("the request target has a fragment")
    if b"\t" in target:  # servers that cut the line at any blank find another target
        raise BadHead("the request target has a tab")
    return method.decode(), target.decode("latin-1"), version, callbacks.headers


def _refusal(raw: bytes, error: Exception | None) -> BadHead:
    """Return the error for a head that llhttp refuses, or reads differently from this module."""
    line, *headers = raw[: -len(END_OF_HEAD)].split(b"\r\n")
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    is_known = version.decode("latin-1") in _VERSIONS.values()
    if not is_known and _VERSION.fullmatch(version):
        what = f"unsupported HTTP version {version.decode()}: use HTTP/1.1 or HTTP/1.0"
        return BadHead(what, 505)
    if not target or not is_known or not _TOKEN.fullmatch(method):
        return BadHead("the request line is not: method, target, HTTP/1.1 or HTTP/1.0")
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return BadHead(f"unsupported method {method.decode()}", 501)
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return BadHead("the request target is neither a path nor a URL")
    bad = [number for number, header in enumerate(headers, 2) if not _HEADER.match(header)]
    if bad:
        return BadHead(f"line {bad[0]} of the head is not a header: name, colon, value")
    return BadHead("a Content-Length, Transfer-Encoding or other header has an invalid value")


def _origin_form(method: str, target: str, fields: dict[str, str]) -> str:
    """Return path and query of a target that is a URL or an asterisk (RFC 9112 section 3.2)."""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1]:
        raise BadHead("the request target is neither a path nor a URL")
    if "HTTP_HOST" in fields:  # the URL's host replaces it; a missing Host is refused all the same
        fields["HTTP_HOST"] = absolute[1]
    rest = absolute[2]
    if not rest and method == "OPTIONS":
        return "*"
    return rest if rest.startswith("/") else "/" + rest


def _fields(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers under their WSGI keys.

    Names with an underscore are dropped: ``X_Forwarded_For`` would get the same key as
    ``X-Forwarded-For``, which a proxy in front may have removed.
    """
    fields: dict[str, str] = {}
    for name, raw_value in headers:
        key = _COMMON_KEYS.get(name)
        if key is None:
            key = _wsgi_key(name)
            if not key:
                continue
        value = raw_value.decode("latin-1").strip(" \t")
        if key in fields:
            value = _join(key, fields[key], value).strip(" \t")
        fields[key] = value
    return fields


def _wsgi_key(name: bytes) -> str:
    """Return the WSGI key of a header; "" for a name with an underscore. Raises: BadHead."""
    key = name.translate(_NAME_TO_KEY).decode()
    if "\0" in key or not key:
        raise BadHead("the name of a header is not a token")
    if "\1" in key:
        return ""
    return key if key in _UNPREFIXED else "HTTP_" + key


_COMMON_KEYS = {
    spelling.encode(): _wsgi_key(name.encode())
    for name in _COMMON_NAMES.split()
    for spelling in (name, name.lower(), name.title())
}


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


def _content_length(fields: dict[str, str]) -> int:
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


# --- the body ----------------------------------------------------------------------------------


class BodySource(Protocol):
    """The bytes of one connection, in the order in which the client sent them."""

    @property
    def buffered(self) -> int:
        """Return how many bytes have been received and not been read."""

    def read_some(self, limit: int) -> bytes:
        """Return 1 to *limit* bytes, b"" at the end. Blocks. Raises: OSError, BodyTimeout."""

    def read_line(self, limit: int) -> bytes:
        """Return the next line without its CRLF, at most *limit* bytes long. Blocks.

        Raises: ValueError when it is longer, EOFError, OSError, BodyTimeout.
        """


class RequestBody:
    """The body of a request as ``wsgi.input``: of known length, or chunked (RFC 9112 section 7.1).

    *send_continue* is called before the first read of a client that expects 100 Continue. Every
    read raises BadRequest for a body that ends early or is framed wrongly, BodyTimeout for one that
    stalls, and ClientGone. After that the start of the next request is unknown (``is_broken``).
    """

    __slots__ = (
        "_is_chunked",
        "_is_first_chunk",
        "_left",
        "_send_continue",
        "_source",
        "is_broken",
        "is_complete",
    )

    def __init__(
        self,
        source: BodySource,
        length: int | None,
        send_continue: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._is_chunked = length is None
        self._left = length or 0
        self._is_first_chunk = True
        self._send_continue = send_continue
        self.is_complete = length == 0
        """Whether all of it has been read."""
        self.is_broken = False

    def __repr__(self) -> str:
        state = "broken" if self.is_broken else "complete" if self.is_complete else "incomplete"
        return f"<RequestBody {state}>"

    @property
    def awaits_continue(self) -> bool:
        """Whether the client expects 100 Continue, and may send its body without it or never."""
        return self._send_continue is not None

    def fits(self, limit: int) -> bool:
        """Return whether the unread rest has a known length of at most *limit* bytes."""
        return self.is_complete or not (self._is_chunked or self._left > limit)

    def read(self, size: int | None = -1) -> bytes:
        """Return *size* bytes, fewer only at the end; without a size the whole rest. Blocks."""
        return self._read(sys.maxsize if size is None or size < 0 else size, whole=True)

    def read1(self, size: int) -> bytes:
        """Return 1 to *size* bytes, as they were received; b"" at the end. Blocks for the first."""
        return self._read(size, whole=False)

    def _read(self, size: int, *, whole: bool) -> bytes:
        pieces: list[bytes] = []
        if self.is_broken:
            raise BadRequest("the body is broken")
        try:
            while size and not self.is_complete:
                if pieces and not whole and not (self._left and self._source.buffered):
                    break  # the rest, even the length of the next chunk, may not have arrived
                if not self._left:
                    self._next_chunk()
                    continue
                piece = self._read_data(size)
                size -= len(piece)
                pieces.append(piece)
        except (ValueError, EOFError, OSError) as error:
            raise self._broken(error) from error
        except BodyTimeout:
            self.is_broken = True
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Return one line, byte by byte: WSGI demands it, no request here uses it. Blocks."""
        limit = sys.maxsize if size is None or size < 0 else size
        line = bytearray()
        while len(line) < limit and (byte := self.read(1)):
            line += byte
            if byte == b"\n":
                break
        return bytes(line)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Return all lines. Blocks."""
        del hint
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _read_data(self, size: int) -> bytes:
        if self._send_continue is not None:
            self._invite_body()
        piece = self._source.read_some(min(size, self._left))
        if not piece:
            raise EOFError
        self._left -= len(piece)
        if not self._left and not self._is_chunked:
            self.is_complete = True
        return piece

    def _invite_body(self) -> None:
        """Send 100 Continue once, unless the body has begun to arrive."""
        send_continue, self._send_continue = self._send_continue, None
        if send_continue is not None and not self._source.buffered:
            send_continue()

    def _next_chunk(self) -> None:
        """Read up to the data of the next chunk, or through the trailers after the last one."""
        self._invite_body()
        if not self._is_first_chunk and self._source.read_line(0):
            raise ValueError("a chunk is longer than it says")
        self._is_first_chunk = False
        found = _CHUNK_LINE.fullmatch(self._source.read_line(CHUNK_LINE_BYTES))
        if found is None:
            raise ValueError("not the length of a chunk")
        self._left = int(found[1], 16)
        if not self._left:
            self._skip_trailers()
            self.is_complete = True

    def _skip_trailers(self) -> None:
        for _ in range(TRAILER_LINES):
            line = self._source.read_line(TRAILER_BYTES)
            if not line:
                return
            if not _TRAILER.fullmatch(line):
                raise ValueError("not a trailer")
        raise ValueError("too many trailers")

    def _broken(self, error: Exception) -> BadRequest | ClientGone:
        """Mark the body as broken; return what the application gets for *error*."""
        self.is_broken = True
        if isinstance(error, EOFError):
            return BadRequest("the body ended before it was complete")
        if isinstance(error, OSError):
            return ClientGone("the client left while it sent its body")
        return BadRequest(f"the body is not chunked as it should be: {error}")


class UpgradeBody(RequestBody):
    """The body of a request with an Upgrade header; simple-websocket takes the socket from it."""

    __slots__ = ("raw",)

    def __init__(
        self,
        source: BodySource,
        length: int | None,
        send_continue: Callable[[], None] | None,
        sock: Any,
    ) -> None:
        super().__init__(source, length, send_continue)
        self.raw = SocketHolder(sock)


class SocketHolder:
    """The client's socket, under the attribute in which simple-websocket looks for pywsgi's."""

    __slots__ = ("_sock",)

    def __init__(self, sock: Any) -> None:
        self._sock = sock
