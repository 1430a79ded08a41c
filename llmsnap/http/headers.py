"""Headers: filtered on their way to an upstream and to a client, and content negotiation.

Names and values are ``str`` as WSGI has them: each character one byte of latin-1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from llmsnap.http.sessions import without_sessions

Headers = list[tuple[str, str]]

# RFC 9110 section 7.6.1; Proxy-Connection was never standard, but is sent.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
ORIGIN_WIDE = frozenset(
    {
        "alt-svc",
        "clear-site-data",
        "expect-ct",
        "nel",
        "public-key-pins",
        "public-key-pins-report-only",
        "report-to",
        "service-worker-allowed",
        "strict-transport-security",
    }
)
"""Response headers that a browser applies to the whole origin, and to other ports of the host."""
CREDENTIALS = frozenset({"authorization", "x-api-key"})
OF_A_PAGE = frozenset(
    {
        "cookie",
        "origin",
        "referer",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-fetch-user",
    }
)
"""Request headers with cookies or the requesting page, which other hosts must not receive."""
READABLE_ENCODINGS = frozenset({"gzip", "deflate"})
"""Content encodings that llmsnap can decode, to read usage and captures from responses."""

ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")
"""Media types of responses that last until the client disconnects."""

SANDBOX = "sandbox"
"""The policy of responses that are not pages: nothing runs."""
PAGE_SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
"""The policy of pages: scripts run, in an opaque origin."""

# Request headers that are not passed on unchanged, but whose values are needed to build ours.
_SPECIAL = frozenset(
    {"accept-encoding", "connection", "cookie", "te", "upgrade", "x-forwarded-for"}
)
PASSES, DROPPED = "passes", "dropped"
_NOTHING: frozenset[str] = frozenset()
_NOT_ANSWERED = HOP_BY_HOP | ORIGIN_WIDE
_EVERYDAY_CONNECTION = frozenset({"", "keep-alive", "close"})
MOST_NAMES = 1024
NAME_BYTES = 64
"""Number and length of the header names that are cached, since clients may invent some."""
VALUE_BYTES = 256
"""Longest Accept-Encoding whose result is cached."""
_NAMES: dict[str, str] = {}


HEADER_FIELDS = "llmsnap.fields"
"""Environ key set by llmsnap's own server: the environ keys that are headers."""


def from_environ(environ: Mapping[str, Any]) -> Headers:
    """Return the client's headers from a WSGI environ, in the order of its keys."""
    found = []
    for key, value in environ.get(HEADER_FIELDS, environ).items():
        name = _NAMES.get(key)
        if name is None:
            name = _header_name(key)
        if name and (value or not name.startswith("Content-")):
            found.append((name, value))
    return found


def _header_name(key: str) -> str:
    """Return ``X-Api-Key`` for ``HTTP_X_API_KEY``, "" for other keys. The cache is bounded."""
    name = ""
    if key.startswith("HTTP_"):
        name = key[5:].replace("_", "-").title()
    elif key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        name = key.replace("_", "-").title()
    if len(_NAMES) < MOST_NAMES and len(name) <= NAME_BYTES:
        _NAMES[key] = name
    return name


@dataclass(frozen=True, slots=True)
class RequestRule:
    """How request headers for one upstream are built; computed once per configuration.

    The client's X-Request-Id is never passed on; llmsnap sends its own, or the accepted one.

    *host* replaces the client's Host ("" keeps it), *api_key* the client's credentials, which
    otherwise pass only with *pass_credentials*. *limit_encodings* requests only encodings that
    llmsnap can decode. *upgrade* keeps what a protocol upgrade needs. *foreign* is an upstream on
    another host, which gets no cookies and no Referer. *own* headers replace the client's of the
    same names.
    """

    host: str = ""
    api_key: str = field(default="", repr=False)
    pass_credentials: bool = False
    limit_encodings: bool = False
    upgrade: bool = False
    foreign: bool = False
    own: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dropped: frozenset[str] = field(init=False, repr=False)
    secret: frozenset[str] = field(init=False, repr=False)
    """Lower-case names of headers whose values come from the configuration."""
    _fates: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        # The body has been read by now, so no "100 Continue" is needed.
        dropped = HOP_BY_HOP | {"content-length", "expect", "x-request-id"}
        if self.api_key or not self.pass_credentials:
            dropped |= CREDENTIALS
        if self.foreign:
            dropped |= OF_A_PAGE
        object.__setattr__(self, "secret", frozenset(name.lower() for name, _ in self.own))
        dropped |= self.secret
        object.__setattr__(self, "dropped", dropped | {"host"} if self.host else dropped)

    def fate(self, name: str) -> str:
        """Return PASSES, DROPPED, or the lower-case name of a header that needs special treatment.

        The cache is bounded.
        """
        fate = self._fates.get(name)
        if fate is None:
            lower = name.lower()
            dropped = DROPPED if lower in self.dropped else PASSES
            fate = lower if lower in _SPECIAL else dropped
            if len(self._fates) < MOST_NAMES and len(name) <= NAME_BYTES:
                self._fates[name] = fate
        return fate


def request_headers(
    headers: Iterable[tuple[str, str]],
    rule: RequestRule,
    client_ip: str = "",
    body_length: int | None = None,
) -> Headers:
    """Return the headers to send upstream for a client's *headers*, according to *rule*.

    *body_length* becomes Content-Length; the client's is never passed on, as the body may differ.
    """
    known, fate_of = rule._fates.get, rule.fate  # noqa: SLF001 - the loop every header is in
    special: dict[str, str] = {}
    out = []
    for header in headers:
        fate = known(header[0]) or fate_of(header[0])
        if fate is PASSES:
            out.append(header)
        elif fate is not DROPPED:
            before = special.get(fate)
            comma = "; " if fate == "cookie" else ", "
            special[fate] = f"{before}{comma}{header[1]}" if before else header[1]
    connection = special.get("connection")
    named = _named_by(connection) if connection else _NOTHING
    if named:
        out = [header for header in out if header[0].lower() not in named]
    out += _own_request_headers(special, rule, client_ip)
    if body_length is not None:
        out.append(("Content-Length", str(body_length)))
    return out


def _own_request_headers(special: Mapping[str, str], rule: RequestRule, client_ip: str) -> Headers:
    own = [("Host", rule.host)] if rule.host else []
    own += rule.own
    if rule.api_key:
        own += [("Authorization", f"Bearer {rule.api_key}"), ("X-Api-Key", rule.api_key)]
    if rule.upgrade and "upgrade" in special:
        own += [("Connection", "Upgrade"), ("Upgrade", special["upgrade"])]
    if "te" in special and "trailers" in special["te"].lower():
        own.append(("Te", "trailers"))
    if "accept-encoding" in special:
        wanted = special["accept-encoding"]
        own.append(("Accept-Encoding", _readable(wanted) if rule.limit_encodings else wanted))
    if "cookie" in special and "cookie" not in rule.dropped:
        cookies = without_sessions(special["cookie"])
        own += [("Cookie", cookies)] if cookies else []
    forwarded_for = special.get("x-forwarded-for")
    if forwarded_for and client_ip:
        own.append(("X-Forwarded-For", f"{forwarded_for}, {client_ip}"))
    elif forwarded_for or client_ip:
        own.append(("X-Forwarded-For", forwarded_for or client_ip))
    return own


def _readable(accept_encoding: str) -> str:
    if len(accept_encoding) <= VALUE_BYTES:
        return _known_readable(accept_encoding)
    return only_encodings(accept_encoding, READABLE_ENCODINGS) or "identity"


@lru_cache(maxsize=64)
def _known_readable(accept_encoding: str) -> str:
    return only_encodings(accept_encoding, READABLE_ENCODINGS) or "identity"


def _named_by(connection: str) -> frozenset[str]:
    if connection.lower() in _EVERYDAY_CONNECTION:
        return _NOTHING
    # A client must not remove Host by listing it in Connection: the upstream needs it.
    return frozenset(token.strip().lower() for token in connection.split(",")) - {"host"}


def response_headers(
    headers: Iterable[tuple[str, str]], dropped: frozenset[str] = _NOTHING
) -> Headers:
    """Return the client's response headers for those of an upstream, without *dropped*.

    Headers that would apply to our whole origin are dropped as well.

    Event streams get ``X-Accel-Buffering: no``, or an nginx in front would hold them back.
    """
    out = []
    connection = kind = ""
    for header in headers:
        lower = header[0].lower()
        if lower == "connection":
            connection = f"{connection},{header[1]}" if connection else header[1]
        elif lower not in _NOT_ANSWERED and lower not in dropped:
            out.append(header)
            if lower == "content-type":
                kind = kind or header[1]
    named = _named_by(connection) if connection else _NOTHING
    if named:
        out = [header for header in out if header[0].lower() not in named]
        kind = "" if "content-type" in named else kind
    if "text/event-stream" in kind.lower():
        out = [header for header in out if header[0].lower() != "x-accel-buffering"]
        out.append(("X-Accel-Buffering", "no"))
    return out


def sandboxed(headers: Iterable[tuple[str, str]], policy: str = SANDBOX) -> Headers:
    """Return a response's *headers* with a policy that keeps it from acting in our origin.

    A policy of the upstream stays: browsers enforce both.
    """
    kept = [header for header in headers if header[0].lower() != "x-content-type-options"]
    return [*kept, ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff")]


def is_event_stream(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a response with these headers is a stream of server-sent events."""
    for name, value in headers:
        if name.lower() == "content-type":
            return "text/event-stream" in value.lower()
    return False


def ends_anywhere(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a response with these headers is complete wherever it ends."""
    kinds = [value.lower() for name, value in headers if name.lower() == "content-type"]
    return bool(kinds) and kinds[0].startswith(ENDLESS)


def below_prefix(location: str, prefix: str, upstream: str, hosts: Iterable[str] = ()) -> str:
    """Return a redirect's target as seen by a client that reaches *upstream* under *prefix*.

    *prefix* is ``/upstream/llama``, *upstream* the server's base URL; *hosts* are others it may
    call itself, such as the Host it was sent. Targets elsewhere, or relative to the page, are
    unchanged.
    """
    try:
        target = urlsplit(location)
    except ValueError:
        return location
    base = urlsplit(upstream)
    ours = {base.netloc.lower(), *map(str.lower, hosts)}
    if target.netloc.lower() not in ours if target.netloc else not target.path.startswith("/"):
        return location
    path = target.path or "/"
    base_path = base.path.rstrip("/")
    if path == base_path or path.startswith(f"{base_path}/"):
        path = path[len(base_path) :] or "/"
    return target._replace(scheme="", netloc="", path=prefix.rstrip("/") + path).geturl()


# --- content negotiation ------------------------------------------------------------------------


PLAIN_TYPES = ("text/plain", "text/html")


def weights(header: str) -> list[tuple[str, float]]:
    """Return the items of an ``Accept*`` header in its order, lower case, each with its weight.

    A weight that is not a number from 0 to 1 counts as 1, as if it were not there.
    """
    found = []
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            found.append((name, _weight(parameters)))
    return found


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() != "q":
            continue
        try:
            weight = float(value)
        except ValueError:
            return 1.0
        return weight if 0 <= weight <= 1 else 1.0
    return 1.0


def prefers_text(accept: str) -> bool:
    """Whether a client with this ``Accept`` prefers plain text to JSON.

    JSON wins a tie and stands for every wildcard.
    """
    if "text/" not in accept.lower():
        return False
    json = text = 0.0
    for name, weight in weights(accept):
        if name in PLAIN_TYPES:
            text = max(text, weight)
        elif name == "application/json":
            json = max(json, weight)
    return text > json


def best_encoding(accept_encoding: str, offered: Sequence[str]) -> str:
    """Return the first of *offered*, in the server's order, that the client accepts; "" if none."""
    taken = dict(weights(accept_encoding))
    rest = taken.get("*", 0.0)
    return next((name for name in offered if taken.get(name, rest) > 0), "")


def only_encodings(accept_encoding: str, allowed: Collection[str]) -> str:
    """Return the items of the header that are in *allowed*, as the client wrote them."""
    items = (item.strip() for item in accept_encoding.split(","))
    return ", ".join(i for i in items if i.split(";", 1)[0].strip().lower() in allowed)
