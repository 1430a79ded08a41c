"""The Host allow-list: keeps web pages from reaching us through a name they rebound (DNS)."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable

from llmsnap.errors import Misdirected

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
"""Names that exist in private networks only."""

LOCAL_SUFFIXES = (*PRIVATE_SUFFIXES, ".ts.net")
"""Names that no stranger can register and point at this machine."""

SHARED_SPACE = ipaddress.ip_network("100.64.0.0/10")
"""Addresses of carriers and of tailnets (RFC 6598)."""

REMEMBERED = 256
"""How many Host headers need no second look; a server has few, others are made up."""
MOST_CHARS = 261
"""Of a Host header: 255 for a name (RFC 1035 section 2.3.4), a colon and a port."""

HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.%a-z]+\]|[^\s:/?#@\[\]\\]+)(?::(?P<port>\d*))?")


class HostRule:
    """Which Host headers are answered while no API keys are configured.

    *own_names* are the machine's names and the one listened on, *allowed* the globs of
    ``allowedHosts``.
    """

    def __init__(self, allowed: Iterable[str] = (), own_names: Iterable[str] = ()) -> None:
        self._globs = tuple(_normal(glob) for glob in allowed)
        self._own = frozenset(_normal(name) for name in own_names)
        self._allowed: set[str] = set()

    def allows(self, host: str) -> bool:
        """Whether *host*, a Host header with or without a port, may be answered.

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
    """Whether browsers take *host*, a Host header, for their own machine."""
    name = host_name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def is_private_host(name: str) -> bool:
    """Whether *name*, without a port, is on this machine or a private network.

    Not ``*.ts.net``: whoever has a tailnet can publish pages under it for everybody.
    """
    name = _normal(name)
    address = _address(name)
    if address is not None:
        return address.is_private or address.is_loopback or address in SHARED_SPACE
    return bool(name) and ("." not in name or name.endswith(PRIVATE_SUFFIXES))


def host_name(host: str) -> str:
    """The name in a Host header: no port, no brackets, no final dot, lower case; "" if invalid."""
    match = HOST.fullmatch(host) if len(host) <= MOST_CHARS else None
    return _normal(match["name"]) if match else ""


def _normal(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address *name* spells; None when it is no address."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
