"""Which addresses are inference, which are open to all, and which change something."""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import unquote

JSON_ROUTES = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/reranking",
        "/v1/audio/speech",
        "/v1/audio/voices",
        "/v1/images/generations",
        "/rerank",
        "/reranking",
        "/infill",
        "/completion",
        "/sdapi/v1/txt2img",
        "/sdapi/v1/img2img",
    }
)
FORM_ROUTES = frozenset({"/v1/audio/transcriptions", "/v1/images/edits"})
QUERY_ROUTES = frozenset({"/v1/audio/voices", "/v1/realtime", "/sdapi/v1/loras"})
INFERENCE_ROUTES = JSON_ROUTES | FORM_ROUTES | QUERY_ROUTES
EVENT_ROUTES = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/completion",
        "/infill",
    }
)
"""Routes whose API answers ``stream: true`` with events only, errors too.

Any other may answer with audio, images or JSON whatever the request says.
"""

PROPS_PATH = "/props"

OPEN_PATHS = frozenset({"/health", "/ready", "/wol-health"})
SHARED_PATHS = OPEN_PATHS | {"/v1/models", "/models"}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ACTING_READS = frozenset({"/unload", "/api/ws"})
"""What acts, or opens a channel, by a method that elsewhere only reads."""

# What answers tell about other people's requests, or of the machine's inside.
ADMIN_READS = ("/logs", "/api")
TELLS_OF_ALL = frozenset({"/metrics"})
"""What cannot be told of some models only."""
API_FOR_ALL = frozenset({"/api/version", "/api/openapi.json"})
UPSTREAM_ADMIN = frozenset({"sleep", "wake_up", "collective_rpc", "reset_prefix_cache"})


MAX_ENCODINGS = 5
SEPARATORS = re.compile(r"[/\\]")
PARENT = re.compile(r"[\x00-\x20]*+\.\.[\x01-\x20]*+(?:[;\x00].*)?", re.DOTALL)

SLASHES = re.compile(r"/{2,}")
# Behind these a slash means something: it belongs to an upstream, to the UI, or to a name.
KEEP_SLASHES = ("/upstream/", "/ui/", "/api/models/")


TWICE = re.compile(r"(?:/v1)+(?=/v1(?:/|$))")
"""What a base URL that ends in the version puts before a path that begins with it."""


def normalized(path: str) -> str:
    """*path* without what a base URL left in it: ``//v1/models/``, ``/v1/v1/messages``."""
    if "//" in path or path.endswith("/"):
        path = _without_slashes(path)
    return TWICE.sub("", path, 1) if path.startswith("/v1/v1") else path


def _without_slashes(path: str) -> str:
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    short = SLASHES.sub("/", path).rstrip("/") or "/"
    return path if path.startswith(KEEP_SLASHES) and short != "/upstream" else short


def relative(target: str, requested: str) -> str:
    """Return the reference from the page at path *requested* to *target* (RFC 3986 section 5.2).

    Both begin with a slash and have no scheme. A reverse proxy may serve us below a path prefix
    that we do not know: only a relative ``Location`` stays below it.
    """
    depth = requested.partition("?")[0].count("/") - 1
    return "../" * depth + target.removeprefix("/") or "./"


def versioned(path: str) -> str:
    """*path* with the version filled in where a client left it out: ``/v/x`` -> ``/v1/x``."""
    return f"/v1/{path[3:]}" if path.startswith("/v/") else path


def is_inference(path: str) -> bool:
    """Whether *path* is one that a model answers."""
    return versioned(path) in INFERENCE_ROUTES


def streams_events(path: str) -> bool:
    """Whether the API of *path* answers a request for a stream with events, and nothing else."""
    return versioned(path) in EVENT_ROUTES


def is_open(path: str) -> bool:
    """Whether *path* answers anybody: no key, no Host check."""
    return path in OPEN_PATHS


def shares_with_any_origin(path: str) -> bool:
    """Whether pages of any web site may read what *path* answers."""
    path = versioned(path)
    return path in SHARED_PATHS or path in INFERENCE_ROUTES or path.startswith("/v1/models/")


class Purpose(Enum):
    """What a request is for, as far as pages of other origins are concerned."""

    READ = "read"
    INFER = "infer"
    UPSTREAM = "upstream"
    ACT = "act"


def purpose_of(method: str, path: str, query: str = "", *, upgrades: bool = False) -> Purpose:
    """What a request for *path* does; *upgrades*: it asks for a WebSocket.

    A GET is no proof of harmlessness: below ``/upstream`` and on inference routes it loads a model.
    """
    if path.startswith("/upstream/"):
        return Purpose.UPSTREAM
    if is_inference(path) or (path == PROPS_PATH and "autoload" in query):
        return Purpose.INFER
    acts = upgrades or changes_something(method, path)
    return Purpose.ACT if acts and not shares_with_any_origin(path) else Purpose.READ


def changes_something(method: str, path: str) -> bool:
    """Whether a request beyond the shared paths acts, rather than only reads."""
    return method not in SAFE_METHODS or path.rstrip("/") in ACTING_READS


def needs_admin(method: str, path: str) -> bool:
    """Whether *path*, decoded, needs a key with the admin flag."""
    if path.startswith("/upstream/"):
        return is_upstream_admin(path)
    if shares_with_any_origin(path) or path in API_FOR_ALL:
        return False
    return changes_something(method, path) or any(_is_under(path, top) for top in ADMIN_READS)


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


def _is_under(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")
