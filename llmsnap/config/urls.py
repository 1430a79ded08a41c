"""Is this the address of an HTTP server?"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_USERINFO = re.compile(r"//[^/?#]*@")


def fault(url: str) -> str:
    """Return what is wrong with *url* as the base of requests, or an empty text."""
    if any(character.isspace() or character < " " for character in url):
        return "contains a blank or a control character"
    parts = _split(url)
    if parts is None:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname:
        return "names no host"
    return "" if _has_usable_port(parts) else "has a port that is not a number from 1 to 65535"


def without_password(url: str) -> str:
    """Return *url* as it may be shown."""
    return _USERINFO.sub("//(hidden)@", url)


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
