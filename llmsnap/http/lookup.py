"""Lookups in the route table: the row of a path, and what it says of rights, origins and dialects.

A dictionary holds all paths without parameters, so that the hot path asks nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from llmsnap.http.paths import is_upstream_admin
from llmsnap.http.routes import (
    COMFYUI,
    COMFYUI_MODEL,
    COMFYUI_ROOT,
    METHODS,
    ROUTES,
    SAFE_METHODS,
    UPSTREAM,
    VERSION,
    VERSIONLESS,
    Access,
    Dialect,
    HttpRoute,
    ModelPlace,
    Stream,
)


@dataclass(frozen=True, slots=True)
class Resource:
    """All rows of one path; properties of the path are the same in each row."""

    path: str
    sent_path: str
    """The path that is forwarded to a model's server."""
    routes: Mapping[str, HttpRoute]
    """By method; HEAD is served wherever GET is."""
    common: HttpRoute
    """One of the rows."""

    @property
    def methods(self) -> list[str]:
        """The methods, as ``Allow`` lists them."""
        return [*self.routes, "OPTIONS"]


def _resources() -> dict[str, Resource]:
    found: dict[str, Resource] = {}
    for path, rows in groupby(sorted(ROUTES, key=lambda row: row.path), lambda row: row.path):
        by_method = {method: row for row in rows for method in _methods(row)}
        routes = dict(sorted(by_method.items(), key=lambda item: METHODS.index(item[0])))
        row = next(iter(routes.values()))
        found[path] = Resource(path, row.sent_as or path, routes, row)
        if row.is_inference and path.startswith(VERSION):
            rest = path.removeprefix(VERSION)
            found[VERSIONLESS + rest] = Resource(path, f"/{rest}", routes, row)
    return found


def _methods(row: HttpRoute) -> tuple[str, ...]:
    has_head = "GET" in row.methods and row.model is not ModelPlace.MESSAGE
    return (*row.methods, "HEAD") if has_head else row.methods


def _pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"\{\w+\}", path)
    return re.compile(".+".join(map(re.escape, pieces)), re.DOTALL)


RESOURCES: Mapping[str, Resource] = _resources()
"""By path, including ``/v/...``."""
_PATTERNS = [
    (_pattern(path), resource)
    for path, resource in sorted(RESOURCES.items(), key=lambda item: item[0], reverse=True)
    if "{" in path and not resource.common.is_inference
]


def _paths(rows: Iterable[tuple[str, Resource]]) -> frozenset[str]:
    return frozenset(path for path, _ in rows)


INFERENCE_PATHS = _paths(
    item for item in RESOURCES.items() if item[1].common.is_inference and "{" not in item[0]
)
OPEN_PATHS = _paths(item for item in RESOURCES.items() if item[1].common.access is Access.OPEN)
_ADMIN_TOPS = frozenset(
    "/" + row.path.split("/")[1] for row in ROUTES if row.access is Access.ADMIN
)
_UNKNOWN = HttpRoute((), "", "", "")


def resource_at(path: str) -> Resource | None:
    """Return the resource at the decoded *path*, trailing slash or not; None if there is none."""
    found = RESOURCES.get(path) or RESOURCES.get(path.rstrip("/"))
    if found is not None:
        return found
    return next((found for pattern, found in _PATTERNS if pattern.fullmatch(path)), None)


def route_at(path: str, method: str = "") -> HttpRoute:
    """Return the row of *path* and *method*, else any row of *path*, else an empty row."""
    found = resource_at(path)
    if found is None:
        return _UNKNOWN
    return found.routes.get(method) or found.common


def is_inference(path: str) -> bool:
    """Whether a model serves *path*."""
    return path in INFERENCE_PATHS


def is_below_upstream(path: str) -> bool:
    """Whether *path* belongs to the server of one model, which it names."""
    return path.startswith((UPSTREAM, COMFYUI_ROOT)) or path == COMFYUI


def below_upstream(path: str) -> str:
    """Return the part of the raw *path* that begins with a model's name; "" if there is none."""
    if path.startswith(UPSTREAM):
        return path.removeprefix(UPSTREAM).lstrip("/")
    return COMFYUI_MODEL + path.removeprefix(COMFYUI) if is_below_upstream(path) else ""


def is_open(path: str) -> bool:
    """Whether *path* needs neither a key nor an accepted Host header."""
    return path in OPEN_PATHS


def is_keyless(method: str, path: str) -> bool:
    """Whether a request for *path*, decoded, needs no key."""
    return route_at(path).access is Access.KEYLESS and method in SAFE_METHODS


def stream_of(path: str) -> Stream | None:
    """Return the event format that a streaming request to *path* must get; None: any response."""
    found = RESOURCES.get(path)
    return found.common.stream if found is not None else None


_DIALECTS = [
    (re.compile(f"/v1?/{row.path.removeprefix(VERSION)}(/|$)"), row.dialect)
    for row in ROUTES
    if row.dialect is not Dialect.OPENAI and row.path.startswith(VERSION)
]


def dialect_of(path: str) -> Dialect:
    """Return the API dialect of *path*, also below ``/upstream/<model>``."""
    found = RESOURCES.get(path)
    if found is not None:
        return found.common.dialect
    for pattern, dialect in _DIALECTS:
        if pattern.search(path):
            return dialect
    return Dialect.OPENAI


# --- access rights ------------------------------------------------------------------------------


class Purpose(Enum):
    """The purpose of a request, as the rules for pages of other origins distinguish it."""

    READ = "read"
    INFER = "infer"
    UPSTREAM = "upstream"
    ACT = "act"


def purpose_of(method: str, path: str, query: str = "", *, upgrades: bool = False) -> Purpose:
    """Return the purpose of a request for *path*; *upgrades*: it requests a WebSocket.

    A GET is not always safe: below ``/upstream`` and on inference routes it loads a model.
    """
    if is_below_upstream(path):
        return Purpose.UPSTREAM
    row = route_at(path)
    if row.is_inference or (row.observes and "autoload" in query):
        return Purpose.INFER
    acts = upgrades or changes_something(method, path)
    return Purpose.ACT if acts and not shares_with_any_origin(path) else Purpose.READ


def changes_something(method: str, path: str) -> bool:
    """Whether a request outside the shared paths changes state, rather than only reads."""
    return method not in SAFE_METHODS or route_at(path).acts


def shares_with_any_origin(path: str) -> bool:
    """Whether pages of any web site may read the response of *path*."""
    return route_at(path).access in {Access.OPEN, Access.SHARED}


def needs_admin(method: str, path: str) -> bool:
    """Whether *path*, decoded, needs a key with the admin flag.

    A path that is not in the table does if it could change state or resembles one that does.
    """
    if is_below_upstream(path):
        return is_upstream_admin(path)
    row = route_at(path, method)
    if row.access in {Access.OPEN, Access.KEYLESS, Access.SHARED}:
        return False
    if method not in SAFE_METHODS or row.access is Access.ADMIN:
        return True
    return row is _UNKNOWN and "/" + path.split("/")[1] in _ADMIN_TOPS


def tells_of_all(path: str) -> bool:
    """Whether *path* covers all models, so that a key limited to some may not read it."""
    return route_at(path).access is Access.ALL_MODELS


def default_capture(path: str) -> str:
    """Return the default capture level of *path*, as in ``captureMask``."""
    return route_at(path).capture
