"""Hosts: accepted Host headers, client addresses behind proxies, the origin for model pages.

The Host allow-list protects against DNS rebinding. With ``uiOrigin: separate`` pages of models' own
servers are shown under another host name or port: in the origin of the web UI they could send
requests with the rights of its user.
"""

from __future__ import annotations

import fnmatch
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from llmsnap.errors import Misdirected

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
"""Domains that exist in private networks only."""

LOCAL_SUFFIXES = (*PRIVATE_SUFFIXES, ".ts.net", ".svc")
"""Domains in which strangers cannot register a name that points at this machine."""

SHARED_SPACE = ipaddress.ip_network("100.64.0.0/10")
"""Shared addresses of carrier-grade NAT and tailnets (RFC 6598)."""

REMEMBERED = 256
"""Number of accepted Host headers that are cached; a server has few, others are invented."""
MOST_CHARS = 261
"""Longest Host header: 255 for a name (RFC 1035 section 2.3.4), a colon and a port."""

HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.%a-z]+\]|[^\s:/?#@\[\]\\]+)(?::(?P<port>\d*))?")


class HostRule:
    """The Host headers that are accepted while no API keys are configured.

    *own_names* are the machine's names and the listen address, *allowed* the globs of
    ``allowedHosts``.
    """

    def __init__(self, allowed: Iterable[str] = (), own_names: Iterable[str] = ()) -> None:
        self._globs = tuple(_normal(glob) for glob in allowed)
        self._own = frozenset(_normal(name) for name in own_names)
        self._allowed: set[str] = set()

    def allows(self, host: str) -> bool:
        """Whether *host*, a Host header with or without a port, is accepted.

        A request without one (HTTP/1.0) does not come from a browser, and passes.
        """
        if not host or "*" in self._globs:
            return True
        name = host_name(host)
        if not name:
            return False
        return self._is_local(name) or any(fnmatch.fnmatchcase(name, g) for g in self._globs)

    def check(self, host: str) -> None:
        """Raise `Misdirected`, with the configuration line to add, unless *host* is allowed."""
        if host in self._allowed:
            return
        if self.allows(host):
            if len(self._allowed) < REMEMBERED and len(host) <= MOST_CHARS:
                self._allowed.add(host)
        else:
            name = host_name(host) or host[:MOST_CHARS]
            raise Misdirected(
                f"this server does not answer for host {name!r}; if it should, add to its "
                f'configuration: allowedHosts: ["{name}"]'
            )

    def _is_local(self, name: str) -> bool:
        return (
            "." not in name
            or name in self._own
            or name.endswith(LOCAL_SUFFIXES)
            or _address(name) is not None
        )


def is_loopback(host: str) -> bool:
    """Whether browsers treat *host*, a Host header, as their own machine."""
    name = host_name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def is_private_host(name: str) -> bool:
    """Whether *name*, without a port, is on this machine or a private network.

    Not ``*.ts.net``: any owner of a tailnet can publish pages under it.
    """
    name = _normal(name)
    address = _address(name)
    if address is not None:
        return address.is_private or address.is_loopback or address in SHARED_SPACE
    return bool(name) and ("." not in name or name.endswith(PRIVATE_SUFFIXES))


def host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port, brackets, final dot; or ""."""
    match = HOST.fullmatch(host) if len(host) <= MOST_CHARS else None
    return _normal(match["name"]) if match else ""


def _normal(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return *name* as an IP address; None if it is not one."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


# --- clients behind trusted proxies -------------------------------------------------------------


class TrustedProxies:
    """The proxies whose forwarding headers are trusted."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ip_network(text.strip(), strict=False) for text in networks]

    @property
    def known(self) -> bool:
        """Whether any proxy is trusted."""
        return bool(self._networks)

    def client_ip(self, remote: str, forwarded_for: str, real_ip: str = "") -> str:
        """Return the client's address: *remote*, the peer of the connection, unless it is trusted.

        Then it is the last address in *forwarded_for* that is not a trusted proxy, else *real_ip*.
        A remote without an address is a Unix socket, trusted if any proxy is.
        """
        if not self._networks or not self._trusts(remote):
            return remote
        passed = [text.strip() for text in forwarded_for.split(",") if text.strip()]
        for text in reversed(passed):
            if not self._trusts(text):
                return text
        return passed[0] if passed else real_ip.strip() or remote

    def _trusts(self, text: str) -> bool:
        if not text:
            return True
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


# --- the origin for pages of models -------------------------------------------------------------


PAGES = "llmsnap.pages"
"""Environ key set by llmsnap's own server: the request came to the port for pages."""

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
DEFAULT_PORTS = {"http": "80", "https": "443"}
SUFFIX = ".localhost"
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
UNFIT = re.compile(r"[^a-z0-9]+")
SLUG_LENGTH = 40


class PageOrigin:
    """The origin for pages of models, as configured.

    *address* is ``:8081``, ``https://pages.example``, or "" for ``<model>.localhost``.
    """

    def __init__(self, *, separate: bool, address: str, model_ids: Iterable[str]) -> None:
        self.separate = separate
        self._address = "" if address.startswith(":") else address
        self._port = address.removeprefix(":") if address.startswith(":") else ""
        self.port = int(self._port) if separate and self._port else 0
        """The port for pages, which our own server listens on; 0: none."""
        page = urlsplit(self._address)
        self.host = page.hostname or ""
        self._named_port = str(page.port or DEFAULT_PORTS.get(page.scheme, ""))
        self._labels = {label_of(model_id): model_id for model_id in model_ids} if separate else {}

    def __repr__(self) -> str:
        place = self._address or self._port or f"<model>{SUFFIX}"
        return f"<PageOrigin {place if self.separate else 'of the interface'}>"

    def is_here(self, environ: Mapping[str, object]) -> bool:
        """Whether a request was sent to the origin for pages."""
        if not self.separate:
            return False
        host = str(environ.get("HTTP_HOST", ""))
        name, port = host_name(host), _port_of(host, str(environ.get("wsgi.url_scheme", "http")))
        if PAGES in environ or (self._port and port == self._port):
            return True
        return name.endswith(SUFFIX) or (name == self.host != "" and port == self._named_port)

    def model_of(self, host: str) -> str:
        """Return the id of the only model served under *host*, a Host header; "" if all are."""
        name = host_name(host)
        return self._labels.get(name.removesuffix(SUFFIX), "?") if name.endswith(SUFFIX) else ""

    def url_of(self, model_id: str, environ: Mapping[str, object]) -> str:
        """Return the origin for pages of *model_id*; "" if the browser cannot reach one."""
        host, scheme = str(environ.get("HTTP_HOST", "")), str(environ.get("wsgi.url_scheme"))
        name, port = host_name(host), _port_of(host, scheme)
        if self._address or not name:
            return self._address
        if self._port:
            return f"{scheme}://{f'[{name}]' if ':' in name else name}:{self._port}"
        if scheme == "http" and sees_loopback(environ):  # a certificate would not cover subdomains
            return f"http://{label_of(model_id)}{SUFFIX}:{port}"
        return ""


def label_of(model_id: str) -> str:
    """Return the DNS label of a model: its id, sanitized and made unique if necessary."""
    if LABEL.fullmatch(model_id):
        return model_id
    slug = UNFIT.sub("-", model_id.lower())[:SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def sees_loopback(environ: Mapping[str, object]) -> bool:
    """Whether the browser that sent a request appears to run on this machine."""
    if any(name in environ for name in FORWARDED):
        return False
    return is_loopback(str(environ.get("HTTP_HOST", "")))


def _port_of(host: str, scheme: str) -> str:
    """Return the port in a Host header, or the default port of *scheme*."""
    _, colon, port = host.rpartition(":")
    return port if colon and port.isdigit() else DEFAULT_PORTS.get(scheme, "")
