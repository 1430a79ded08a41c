"""Paths as text: what base URLs leave in them, ways out of a prefix, relative references."""

from __future__ import annotations

import re
from urllib.parse import unquote

UPSTREAM_ADMIN = frozenset({"sleep", "wake_up", "collective_rpc", "reset_prefix_cache"})

MAX_ENCODINGS = 5
SEPARATORS = re.compile(r"[/\\]")
PARENT = re.compile(r"[\x00-\x20]*+\.\.[\x01-\x20]*+(?:[;\x00].*)?", re.DOTALL)

SLASHES = re.compile(r"/{2,}")
# Behind these a slash means something: it belongs to an upstream, to the UI, or to a name.
KEEP_SLASHES = ("/upstream/", "/ui/", "/api/models/")


TWICE = re.compile(r"(?:/v1)+(?=/v1(?:/|$))")
"""What a base URL that ends in the version puts before a path that begins with it."""


def normalized_path(path: str) -> str:
    """*path* without what a base URL left in it: ``//v1/models/``, ``/v1/v1/messages``."""
    if "//" in path or path.endswith("/"):
        path = _without_slashes(path)
    return TWICE.sub("", path, 1) if path.startswith("/v1/v1") else path


def _without_slashes(path: str) -> str:
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    short = SLASHES.sub("/", path).rstrip("/") or "/"
    return path if path.startswith(KEEP_SLASHES) and short != "/upstream" else short


def relative_reference(target: str, requested: str) -> str:
    """Return the reference from the page at path *requested* to *target* (RFC 3986 section 5.2).

    Both begin with a slash and have no scheme. A reverse proxy may serve us below a path prefix
    that we do not know: only a relative ``Location`` stays below it.
    """
    depth = requested.partition("?")[0].count("/") - 1
    return "../" * depth + target.removeprefix("/") or "./"


def is_upstream_admin(path: str) -> bool:
    """Whether a path sent on to an upstream would put it to sleep, wake it or reset it.

    Any piece counts, encoded or not: which prefix is the model's name is not known here.
    """
    return not UPSTREAM_ADMIN.isdisjoint(unquote(path).split("/"))


def leaves_root(path: str) -> bool:
    """Whether ``..`` in the raw *path* leads above its beginning, for some reader of it.

    Readers decode once or twice, take backslashes for slashes, and drop ``;parameters``, blanks
    and what follows a NUL. What is encoded more often than that counts as well.
    """
    for _ in range(MAX_ENCODINGS):
        if any(_climbs(pieces) for pieces in (path.split("/"), SEPARATORS.split(path))):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _climbs(pieces: list[str]) -> bool:
    depth = 0
    for piece in pieces:
        if PARENT.fullmatch(piece):
            depth -= 1
        elif piece not in {"", "."}:
            depth += 1
        if depth < 0:
            return True
    return False
