"""API keys: authentication of requests, rights of keys, and delays after wrong keys."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Protocol

FREE_TRIES = 10
EVERY_S = 1.0
"""Seconds between responses to wrong keys from one address, after its free tries."""
LONGEST_S = 10.0
MOST_ADDRESSES = 10_000
IPV6_NETWORK_BITS = 64
"""Prefix length of the IPv6 network that a provider assigns to one customer."""


class ApiKeyEntry(Protocol):
    """One entry of ``apiKeys`` as the configuration holds it."""

    @property
    def key(self) -> str:
        """The secret."""

    @property
    def name(self) -> str:
        """The name of the key in logs and metrics."""

    @property
    def models(self) -> Sequence[str] | None:
        """Globs of the models it may use; None means all."""

    @property
    def admin(self) -> bool:
        """Whether it may load, unload, and read logs and captures."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The rights of a request's key. Holds the key's name, never the secret."""

    name: str = ""
    models: tuple[re.Pattern[str], ...] | None = None
    admin: bool = True
    upstream: bool = False
    digest: bytes = field(default=b"", repr=False)
    """Keyed digest of the secret; distinguishes keys of the same name and rights."""

    @property
    def reaches_all(self) -> bool:
        """Whether it may use every path of a model's server, not only inference routes."""
        return self.admin or self.upstream

    @property
    def is_scoped(self) -> bool:
        """Whether it is limited to some models, so that requests must name theirs unambiguously."""
        return self.models is not None

    @property
    def sees_all(self) -> bool:
        """Whether no model is hidden from this key."""
        return self.admin or self.models is None

    def may_use(self, model_id: str) -> bool:
        """Whether this key may see and use *model_id*."""
        return self.models is None or any(glob.fullmatch(model_id) for glob in self.models)


ANYBODY = ClientKey()
"""The rights of every client of a server without keys."""
NO_RIGHTS = ClientKey(models=(), admin=False)
"""The rights of a client that sends no key to a server with keys."""


# Digests are keyed per process, so comparison times reveal nothing about the keys.
_SALT = secrets.token_bytes(16)


class Keyring:
    """All keys of one configuration. Only without any keys is it open to every client."""

    def __init__(self, entries: Iterable[ApiKeyEntry] = ()) -> None:
        entries = list(entries)
        self.open = not entries
        self._keys = [_permissions(entry) for entry in entries if entry.key]

    def __repr__(self) -> str:
        return "<Keyring open>" if self.open else f"<Keyring {len(self._keys)} keys>"

    def authenticate(self, authorization: str | None, x_api_key: str | None) -> ClientKey | None:
        """Return the key that a request presents in these headers; None without a valid one.

        A Basic password or Bearer token comes before ``x-api-key``; a wrong one does not hide the
        other. Takes as long for a wrong key as for a right one.
        """
        if self.open:
            return ANYBODY
        found = None
        for candidate in _candidates(authorization or "", x_api_key or ""):
            presented = _digest(candidate)
            for key in self._keys:
                if hmac.compare_digest(key.digest, presented) and found is None:
                    found = key
        return found

    def holds(self, key: ClientKey) -> bool:
        """Whether *key* is one of these, with the same secret and rights."""
        return key in self._keys

    def covers(self, other: Keyring) -> bool:
        """Whether every client of *other* has the same rights here."""
        return self.open or (not other.open and all(map(self.holds, other._keys)))


def _digest(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, key=_SALT).digest()


def _permissions(entry: ApiKeyEntry) -> ClientKey:
    globs = None
    if entry.models is not None:
        globs = tuple(re.compile(fnmatch.translate(glob)) for glob in entry.models)
    upstream = getattr(entry, "upstream", False)
    return ClientKey(
        name=entry.name,
        models=globs,
        admin=entry.admin,
        upstream=upstream,
        digest=_digest(entry.key.encode()),
    )


def _candidates(authorization: str, x_api_key: str) -> tuple[bytes, bytes]:
    """Return the two secrets to check, each empty if absent."""
    scheme, _, credentials = authorization.strip().partition(" ")
    secret = b""
    match scheme.lower():
        case "basic":
            secret = _basic_password(credentials.strip())
        case "bearer":
            secret = credentials.strip().encode("latin-1", "replace")
    return secret, x_api_key.strip().encode("latin-1", "replace")


def presents_key(authorization: str, x_api_key: str) -> bool:
    """Whether these headers contain a key, valid or not."""
    return any(_candidates(authorization, x_api_key))


class WrongKeys:
    """Counts wrong keys, and limits the rate of responses to them per address.

    Each address has ten free tries, and regains one each second. Valid keys are never delayed,
    because all clients behind a proxy that is not in ``trustedProxies`` have the same address.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.total = 0
        self._clock = clock
        self._forgiven_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<WrongKeys {self.total}, {len(self._forgiven_at)} addresses>"

    def note(self, address: str) -> float:
        """Count a wrong key from *address*; return the seconds by which to delay the response."""
        self.total += 1
        network, now = _network(address), self._clock()
        forgiven_at = max(self._forgiven_at.pop(network, now), now) + EVERY_S
        wait_s = min(max(0.0, forgiven_at - now - FREE_TRIES * EVERY_S), LONGEST_S)
        if len(self._forgiven_at) >= MOST_ADDRESSES:
            del self._forgiven_at[next(iter(self._forgiven_at))]  # least recently used
        self._forgiven_at[network] = min(forgiven_at, now + FREE_TRIES * EVERY_S + LONGEST_S)
        return wait_s


def _network(address: str) -> str:
    """Return what identifies a client: its IPv4 address, or its IPv6 network."""
    if ":" not in address:
        return address
    try:
        number = int(ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    return str(IPv6Address(number >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS))


def is_ambient(authorization: str) -> bool:
    """Whether browsers send credentials of this kind automatically, for any page (Basic)."""
    scheme, _, credentials = authorization.strip().partition(" ")
    return scheme.lower() == "basic" and bool(_basic_password(credentials.strip()))


def _basic_password(credentials: str) -> bytes:
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded.partition(b":")[2]
