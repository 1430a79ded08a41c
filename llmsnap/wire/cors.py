"""What web pages of other origins may do: preflights, readable answers, refused writes."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from llmsnap.wire.headers import Headers
from llmsnap.wire.paths import changes_something, shares_with_any_origin

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110 section 5.6.2
METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
DEFAULT_HEADERS = "Content-Type, Authorization, Accept, X-Requested-With"
MAX_AGE_S = 86400
DEFAULT_PORTS = {"http": 80, "https": 443}


def preflight(requested_headers: str) -> Headers:
    """The headers of the 204 that answers any OPTIONS request.

    *requested_headers* is its ``Access-Control-Request-Headers``, "" when it has none.
    """
    answer = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Max-Age", str(MAX_AGE_S)),
    ]
    allowed = sanitize(requested_headers) if requested_headers else DEFAULT_HEADERS
    if allowed:
        answer.append(("Access-Control-Allow-Headers", allowed))
    return answer


def sanitize(requested_headers: str) -> str:
    """The items of a header list that are header names, in their order and case."""
    items = (item.strip() for item in requested_headers.split(","))
    return ", ".join(item for item in items if TOKEN.fullmatch(item))


def allow_origin(path: str, origin: str, allowed_origins: Iterable[str] = ()) -> Headers:
    """The headers that let a page of *origin* read the answer from *path*; none if it may not."""
    if origin and (shares_with_any_origin(path) or is_listed(origin, allowed_origins)):
        return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
    return []


def with_origin(headers: Headers, cors: Headers) -> Headers:
    """An answer's *headers* with those of `allow_origin`, unless the upstream set its own."""
    if not cors or any(name.lower() == "access-control-allow-origin" for name, _ in headers):
        return headers
    return headers + cors


def refuses(
    method: str,
    path: str,
    headers: dict[str, str],
    allowed_origins: Sequence[str] = (),
) -> bool:
    """Whether a request is a write that some other web site makes its visitor send.

    *headers* holds the request's ``origin``, ``host``, ``sec-fetch-site`` and ``upgrade``, as far
    as it has them; a program that is no browser sends neither the first nor the third. A
    WebSocket counts as a write: the browser lets any page read what comes over it.
    """
    acts = changes_something(method, path) or bool(headers.get("upgrade"))
    if not acts or shares_with_any_origin(path):
        return False
    origin = headers.get("origin", "")
    if origin and is_listed(origin, allowed_origins):
        return False
    if headers.get("sec-fetch-site", "").strip().lower() == "cross-site":
        return True
    return bool(origin) and not is_same_host(origin, headers.get("host", ""))


def is_listed(origin: str, allowed_origins: Iterable[str]) -> bool:
    """Whether ``allowedOrigins`` has *origin*; its entries may be globs."""
    lower = origin.lower()
    return any(fnmatch.fnmatchcase(lower, glob.lower().rstrip("/")) for glob in allowed_origins)


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of *origin* came from the server that *host*, a Host header, names.

    Schemes are not compared: TLS may end in front of us.
    """
    try:
        page = urlsplit(origin)
        ours = urlsplit(f"{page.scheme}://{host}")
        default = DEFAULT_PORTS.get(page.scheme)
        ports = (page.port or default, ours.port or default)
    except ValueError:
        return False
    return bool(page.hostname) and page.hostname == ours.hostname and ports[0] == ports[1]
