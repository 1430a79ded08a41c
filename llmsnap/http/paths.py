"""Paths as text: normalization, detection of path traversal, relative references."""

from __future__ import annotations

import re
from urllib.parse import unquote

UPSTREAM_ADMIN = frozenset({"sleep", "wake_up", "collective_rpc", "reset_prefix_cache"})

MAX_ENCODINGS = 5
SEPARATORS = re.compile(r"[/\\]")
PARENT = re.compile(r"[\x00-\x20]*+\.\.[\x01-\x20]*+(?:[;\x00].*)?", re.DOTALL)

SLASHES = re.compile(r"/{2,}")
# After these prefixes a slash is significant: it belongs to an upstream, the UI, or a name.
KEEP_SLASHES = ("/upstream/", "/comfyui/", "/ui/", "/api/models/")


TWICE = re.compile(r"(?:/v1)+(?=/v1(?:/|$))")
"""The version prefix that a base URL ending in it duplicates."""


def normalized_path(path: str) -> str:
    """Return *path* without artefacts of a base URL: ``//v1/models/``, ``/v1/v1/messages``."""
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

    Both begin with a slash and have no scheme. A reverse proxy may serve llmsnap below an unknown
    path prefix: only a relative ``Location`` stays below it.
    """
    depth = requested.partition("?")[0].count("/") - 1
    return "../" * depth + target.removeprefix("/") or "./"


def is_upstream_admin(path: str) -> bool:
    """Whether a forwarded path would put the upstream to sleep, wake it or reset it.

    Any segment counts, encoded or not, because the length of the model's name is unknown here.
    """
    return not UPSTREAM_ADMIN.isdisjoint(unquote(path).split("/"))


def leaves_root(path: str) -> bool:
    """Whether ``..`` in the raw *path* leads above its root in some parser.

    Parsers decode once or twice, treat backslashes as slashes, and drop ``;parameters``, blanks
    and anything after a NUL. Deeper encodings count as traversal too.
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
