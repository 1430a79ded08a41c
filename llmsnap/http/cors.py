"""Rules for web pages of other origins: preflights, readable responses, refused requests."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from llmsnap.http.headers import Headers
from llmsnap.http.hosts import is_private_host
from llmsnap.http.lookup import (
    Purpose,
    below_upstream,
    is_below_upstream,
    purpose_of,
    shares_with_any_origin,
)
from llmsnap.http.routes import COMFYUI_ROOT, SAFE_METHODS, UPSTREAM

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110 section 5.6.2
METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
DEFAULT_HEADERS = "Content-Type, Authorization, Accept, X-Requested-With"
MAX_AGE_S = 86400
DEFAULT_PORTS = {"http": 80, "https": 443}
OWN_SITES = frozenset({"same-origin", "none"})
NAVIGATION = ("navigate", "document")
PAGE_HEADERS = (
    "origin",
    "host",
    "referer",
    "user-agent",
    "upgrade",
    "service-worker",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "upgrade-insecure-requests",
    "sec-purpose",
    "purpose",
)
"""Headers that identify the page behind a request; programs send few of them."""


def preflight_headers(requested_headers: str) -> Headers:
    """Return the headers of the 204 response to an OPTIONS request.

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
    """Return the valid header names in a comma-separated list, in their order and case."""
    items = (item.strip() for item in requested_headers.split(","))
    return ", ".join(item for item in items if TOKEN.fullmatch(item))


def allow_origin(path: str, origin: str, allowed_origins: Iterable[str] = ()) -> Headers:
    """Return the headers that let a page of *origin* read the response of *path*, if it may."""
    if origin and (shares_with_any_origin(path) or is_listed(origin, allowed_origins)):
        return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
    return []


def with_origin(headers: Headers, cors: Headers) -> Headers:
    """Return a response's *headers* with those of `allow_origin`, unless the upstream set them."""
    if not cors or any(name.lower() == "access-control-allow-origin" for name, _ in headers):
        return headers
    return headers + cors


@dataclass(frozen=True, slots=True)
class PageRules:
    """The rights that the configuration grants to pages of other origins; entries may be globs.

    *allowed* origins may do and read everything, *inference* origins may use models. *keys*: the
    server requires API keys, so that a page of a private network needs one too.
    """

    allowed: tuple[str, ...] = ()
    inference: tuple[str, ...] = ()
    keys: bool = False


class Sender(Enum):
    """The origin of a request, as far as its headers prove it."""

    PROGRAM = "no browser"
    OWN_PAGE = "a page of this origin, or a person: address bar, bookmark"
    OTHER_PAGE = "a page of another origin"
    UNPROVEN = "a browser without proof of origin: plain HTTP to an address that is not loopback"


class Verdict(Enum):
    """The decision on a request that a browser may have sent for a page."""

    SERVE = "serve"
    SERVE_IF_READY = "serve, but load no model for it"
    REFUSE = "refuse"


def sender_of(headers: Mapping[str, str]) -> Sender:
    """Return the sender of a request with these *headers*, by lower-case name.

    Browsers send ``Sec-Fetch-Site`` to loopback addresses and over TLS only, and ``Origin`` with
    everything but simple GETs, so a page's ``<img>`` on plain HTTP has a ``Referer`` at most.
    """
    site = headers.get("sec-fetch-site", "").strip().lower()
    if site and site not in OWN_SITES:
        return Sender.OTHER_PAGE
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin:
        return Sender.OWN_PAGE if is_same_host(origin, host) else Sender.OTHER_PAGE
    if site:
        return Sender.OWN_PAGE
    if not is_browser(headers.get("user-agent", "")):
        return Sender.PROGRAM
    referer = headers.get("referer", "")
    if not referer:
        return Sender.UNPROVEN
    return Sender.OWN_PAGE if is_same_host(referer, host) else Sender.OTHER_PAGE


def page_verdict(
    method: str,
    path: str,
    headers: Mapping[str, str],
    rules: PageRules,
    *,
    query: str = "",
    ambient: bool = True,
) -> Verdict:
    """Decide on a request by the web page that caused it.

    *headers* are those of `PAGE_HEADERS` the request has, by lower-case name. *ambient*: it needs
    no key, or has one that browsers send automatically (Basic).
    """
    if headers.get("service-worker") and not is_below_upstream(path):
        return Verdict.REFUSE  # the web UI has none, and one would intercept every path below it
    purpose = purpose_of(method, path, query, upgrades=bool(headers.get("upgrade")))
    if purpose is Purpose.READ:
        return Verdict.SERVE
    sender, speculates = sender_of(headers), _speculates(headers)
    if sender in {Sender.PROGRAM, Sender.OWN_PAGE}:
        return _if_ready(purpose) if speculates else Verdict.SERVE
    opens = purpose is Purpose.UPSTREAM and method == "GET" and is_top_level(headers)
    if (opens and not speculates) or _is_granted(purpose, sender, headers, rules, ambient=ambient):
        return Verdict.SERVE
    if sender is Sender.OTHER_PAGE:
        return Verdict.REFUSE
    # With any other method, a browser would have sent Origin.
    return _if_ready(purpose) if method in SAFE_METHODS else Verdict.SERVE


def _is_granted(
    purpose: Purpose,
    sender: Sender,
    headers: Mapping[str, str],
    rules: PageRules,
    *,
    ambient: bool,
) -> bool:
    """Whether the configuration permits this to the page, or it is inference with a key."""
    origin = headers.get("origin") or _origin_of(headers.get("referer", ""))
    if sender is Sender.OTHER_PAGE and is_listed(origin, rules.allowed):
        return True
    if purpose is not Purpose.INFER:
        return False
    if not ambient or is_listed(origin, rules.inference):
        return True
    return not rules.keys and is_private(origin)


def _if_ready(purpose: Purpose) -> Verdict:
    """Return the verdict on a request that must not change anything."""
    return Verdict.REFUSE if purpose is Purpose.ACT else Verdict.SERVE_IF_READY


def _speculates(headers: Mapping[str, str]) -> bool:
    """Whether the request is speculative (prefetch, prerender)."""
    return "sec-purpose" in headers or "purpose" in headers


def is_top_level(headers: Mapping[str, str]) -> bool:
    """Whether the request is a top-level navigation, whose origin the user sees."""
    if "sec-fetch-mode" in headers or "sec-fetch-dest" in headers:
        return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == NAVIGATION
    return bool(headers.get("upgrade-insecure-requests"))


def is_browser(user_agent: str) -> bool:
    """Whether this User-Agent is a web browser's: since 1994 they all start with Mozilla."""
    return user_agent.startswith("Mozilla/") and "PowerShell/" not in user_agent


def page_below_upstream(referer: str) -> str:
    """Return what ``below_upstream`` returns for the page *referer*; "" for any other page.

    A reverse proxy may add a path prefix before ``/upstream/`` and ``/comfyui/``.
    """
    if UPSTREAM not in referer and COMFYUI_ROOT not in referer:
        return ""
    try:
        path = urlsplit(referer).path
    except ValueError:
        return ""
    _, found, rest = path.partition(UPSTREAM)
    if found:
        return below_upstream(found + rest)
    prefix, found, rest = path.partition(COMFYUI_ROOT)
    is_ours = f"{prefix}/".endswith("/ui/") or "/ui/" in prefix
    return below_upstream(found + rest) if found and not is_ours else ""


def is_private(origin: str) -> bool:
    """Whether *origin* cannot be a public web site: this machine, a private network, an app.

    Apps and browser extensions have their own schemes; any site can have the origin "null".
    """
    try:
        page = urlsplit(origin)
        host = page.hostname or ""
    except ValueError:
        return False
    if page.scheme not in DEFAULT_PORTS:
        return bool(page.scheme) and "://" in origin
    return bool(host) and is_private_host(host)


def _origin_of(url: str) -> str:
    try:
        page = urlsplit(url)
    except ValueError:
        return ""
    return f"{page.scheme}://{page.netloc}" if page.netloc else ""


def is_listed(origin: str, allowed_origins: Iterable[str]) -> bool:
    """Whether one of *allowed_origins*, which may be globs, is *origin*."""
    lower = origin.lower()
    return any(fnmatch.fnmatchcase(lower, glob.lower().rstrip("/")) for glob in allowed_origins)


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of *origin* came from the server named by *host*, a Host header.

    Schemes are not compared, because a reverse proxy may terminate TLS.
    """
    try:
        page = urlsplit(origin)
        ours = urlsplit(f"{page.scheme}://{host}")
        default = DEFAULT_PORTS.get(page.scheme)
        ports = (page.port or default, ours.port or default)
    except ValueError:
        return False
    return bool(page.hostname) and page.hostname == ours.hostname and ports[0] == ports[1]
