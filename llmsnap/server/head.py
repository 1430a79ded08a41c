"""The head of a request: checked strictly, and made ready for a WSGI environ. Pure.

What two servers in a row may read differently is refused, not repaired (RFC 9112 section 11.2).
One pass deletes all text bytes; the line ends that are left prove that nothing else was there.
No head is remembered: what was read of one must never be taken for what the next one says.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from llmsnap.errors import BadHead
from llmsnap.wire.headers import FIELDS, MOST_NAMES, NAME_BYTES

MAX_LINE_BYTES = 8192
MAX_HEAD_BYTES = 65536
MAX_HEADERS = 100
END = b"\r\n\r\n"

_TEXT = bytes(code for code in range(256) if (code >= 32 and code != 127) or code == 9)
_LINE_ENDS = b"\r\n" * (MAX_HEADERS + 2)  # of the request line, the headers and the empty line
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_VERSIONS = frozenset({"HTTP/1.1", "HTTP/1.0"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
_HOST = re.compile(r"[0-9A-Za-z.:\[\]_~!$&'()*+,;=%-]*")  # RFC 3986 section 3.2, no user
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})
_KEYS: dict[str, str] = {}
_LENGTH_DIGITS = 18


class Head(Struct, frozen=True):
    """A request's head. *fields* are its headers under their WSGI names.

    *target* is path and query as sent, *path* the decoded path as WSGI wants it; *length* is that
    of the body, None when it comes chunked. *environ* is what WSGI is told of it.
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


def parse(raw: bytes) -> Head:
    """Return what *raw*, a head with its empty line, says. Raises: BadHead."""
    ends = raw.translate(None, _TEXT)
    lines = raw[:-4].decode("latin-1").split("\r\n")
    if ends != _LINE_ENDS[: 2 * len(lines) + 2] or len(raw) > MAX_HEAD_BYTES:
        raise _not_lines(raw, ends)
    fields = _fields(lines)
    method, target, version = _request_line(lines[0])
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


def _not_lines(raw: bytes, ends: bytes) -> BadHead:
    if len(raw) > MAX_HEAD_BYTES:
        return BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    if len(ends) > len(_LINE_ENDS) and ends.startswith(_LINE_ENDS):
        return BadHead(f"more than {MAX_HEADERS} headers", 431)
    return BadHead("the head has a control character, or a line that does not end with CRLF")


def _request_line(line: str) -> tuple[str, str, str]:
    words = line.split(" ")
    if len(words) != 3 or not words[1]:
        raise BadHead("the request line is not: method, target, version")
    method, target, version = words
    if version not in _VERSIONS:
        if _VERSION.fullmatch(version):
            raise BadHead(f"{version} is not spoken here, only HTTP/1.1 and HTTP/1.0", 505)
        raise BadHead("the request line does not end with a version of HTTP")
    if method not in _METHODS and not _TOKEN.fullmatch(method):
        raise BadHead("the method is not a token")
    if len(line) > MAX_LINE_BYTES:
        raise BadHead(f"the request line is longer than {MAX_LINE_BYTES} bytes", 414)
    if "#" in target:
        raise BadHead("the request target has a fragment")
    if "\t" in target:  # servers that cut the line at any blank find another target
        raise BadHead("the request target has a tab")
    return method, target, version


def _other_form(method: str, target: str, fields: dict[str, str]) -> str:
    """Return path and query of a target in another form than these (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        raise BadHead("CONNECT is not for this server, which is no proxy for other hosts", 501)
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


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for index in range(1, len(lines)):
        name, colon, value = lines[index].partition(":")
        key = _KEYS.get(name)
        if key is None:
            key = _key(name)
        if not colon:
            raise BadHead("a line of the head is no header")
        if key in fields:
            value = _join(key, fields[key], value.strip(" \t"))
        fields[key] = value.strip(" \t")
    fields.pop("", None)
    return fields


def _key(name: str) -> str:
    """Return the WSGI name of a header, "" for one that could pass for another.

    ``X_Forwarded_For`` would become the same as ``X-Forwarded-For``, which a proxy in front may
    have taken care to remove.
    """
    if not _TOKEN.fullmatch(name):
        raise BadHead("the name of a header is not a token")
    key = name.upper().replace("-", "_")
    if "_" in name:
        key = ""
    elif key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = "HTTP_" + key
    if len(_KEYS) < MOST_NAMES and len(name) <= NAME_BYTES:
        _KEYS[name] = key
    return key


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
