"""The web UI: one page, its static files, and redirects from old addresses.

Files are read once and compressed once, on the first request. Their URLs contain a version that is
a hash of all files, so browsers may cache them without a time limit.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import mimetypes
import posixpath
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import gevent
from flask import Blueprint, Response, make_response, render_template, request
from flask.typing import ResponseReturnValue

from llmsnap import installation
from llmsnap.errors import NotFound
from llmsnap.http import best_encoding
from llmsnap.web.current import redirect_to

COMPRESS_FROM_BYTES = 1024
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_TEXT = ("text/", "application/json", "application/manifest+json", "image/svg+xml")

Compress = Callable[[bytes], bytes]


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(data) + packer.flush()


def compressors() -> dict[str, Compress]:
    """Return a compressor per content encoding, best first; br only if its library is installed."""
    found: dict[str, Compress] = {}
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        pass
    else:
        found["br"] = lambda data: bytes(brotli.compress(data, quality=9))
    return {**found, "gzip": _gzip}


@dataclass(slots=True)
class Asset:
    """One file: its bytes, media type and ETag, and the encodings produced so far."""

    data: bytes = field(repr=False)
    media_type: str
    etag: str
    encoded: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def compressible(self) -> bool:
        """Whether the file is text, and long enough for compression to be worthwhile."""
        return len(self.data) > COMPRESS_FROM_BYTES and self.media_type.startswith(_TEXT)


class Assets:
    """The files below *folder*, read on first access; ``refresh`` rereads edited ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compressors = compressors()
        self._files: dict[str, Asset] = {}
        self._seen: object = None
        self._version = ""

    def __repr__(self) -> str:
        return f"<Assets {self._folder}, {len(self._files)} files, version {self._version}>"

    @property
    def version(self) -> str:
        """A hash of the content of all files."""
        self._ensure_read()
        return self._version

    def get(self, name: str) -> Asset | None:
        """Return the file at this path below the folder; None if there is none."""
        self._ensure_read()
        return self._files.get(name)

    def names(self, prefix: str) -> list[str]:
        """Return the paths that begin with *prefix*, sorted."""
        self._ensure_read()
        return [name for name in self._files if name.startswith(prefix)]

    def encoded(self, asset: Asset, accept_encoding: str) -> tuple[str, bytes]:
        """Return the best encoding that the client accepts ("" for none), and the encoded bytes.

        Blocks on a worker thread at the first request for a file in an encoding.
        """
        if not asset.compressible:
            return "", asset.data
        encoding = best_encoding(accept_encoding, list(self._compressors))
        if not encoding:
            return "", asset.data
        if encoding not in asset.encoded:
            pool = gevent.get_hub().threadpool
            asset.encoded[encoding] = pool.apply(self._compressors[encoding], (asset.data,))
        return encoding, asset.encoded[encoding]

    def _ensure_read(self) -> None:
        if not self._files:
            self.refresh()

    def refresh(self) -> None:
        """Reread the files if one was edited. Cheap enough for every page load."""
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        seen = [(str(path), (stat := path.stat()).st_mtime_ns, stat.st_size) for path in paths]
        if seen == self._seen:
            return
        files = {path.relative_to(self._folder).as_posix(): _read(path) for path in paths}
        names = "".join(f"{name} {asset.etag}\n" for name, asset in files.items())
        self._version = hashlib.sha256(names.encode()).hexdigest()[:16]
        self._files, self._seen = files, seen


def _read(path: Path) -> Asset:
    data = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    digest = hashlib.sha256(data).hexdigest()[:32]
    return Asset(data, media_type or "application/octet-stream", digest)


# --- the page -----------------------------------------------------------------------------------

IMMUTABLE = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
_IMPORTED = re.compile(rb'\bfrom\s*"(\.\.?/[^"]+)"')

# No inline scripts or styles, no third-party sources; only DOMPurify creates HTML from text.
# data: and blob: carry images and audio of model responses.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    ]
)
SAFE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # proves where the page's own requests come from
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

bp = Blueprint("ui", __name__, template_folder=str(installation.template_folder()))
assets = Assets(installation.static_folder())


@bp.get("/")
def root() -> ResponseReturnValue:
    """Redirect the bare address to the web UI."""
    return redirect_to("/ui/")


@bp.get("/ui", strict_slashes=False)
def shell() -> ResponseReturnValue:
    """Return the page, whose address must end in a slash."""
    if not request.path.endswith("/"):
        return redirect_to("/ui/", 301)
    assets.refresh()
    version = assets.version
    modules = first_modules(version)
    text = render_template("ui.html", version=version, modules=modules, pages=json.dumps(pages()))
    response = make_response(text)
    response.add_etag()  # hashes the text, so that an edited template changes it too
    response.headers["Cache-Control"] = ASK_FIRST
    response.headers.update(SAFE_HEADERS)
    return response.make_conditional(request)


@bp.get("/ui/static/<version>/<path:name>")
def versioned(version: str, name: str) -> ResponseReturnValue:
    """Return a file under a versioned URL, which caches may keep.

    A page loaded before an update requests the old version: it gets the current file, uncached.
    """
    return _answer(_asset(name), IMMUTABLE if version == assets.version else ASK_FIRST)


@bp.get("/ui/<path:name>")
def unversioned(name: str) -> ResponseReturnValue:
    """Return a file by its plain name (icons, the web manifest), or redirect to a page."""
    start, *others = [page["id"] for page in pages()]
    if name.rstrip("/") in others:
        return redirect_to(f"/ui/#/{name.rstrip('/')}")
    if name.rstrip("/") == start:
        return redirect_to("/ui/")
    return _answer(_asset(name), ASK_FIRST)


@bp.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """Return the icon that browsers request by default."""
    return _answer(_asset("favicon.ico"), ASK_FIRST)


def pages() -> list[dict[str, Any]]:
    """Return the pages of the web UI, start page first; the template passes them to the scripts."""
    found: list[dict[str, Any]] = json.loads(_asset("js/pages.json").data)
    return found


@lru_cache(maxsize=1)
def first_modules(version: str) -> list[str]:
    """Return the scripts that every page needs: ``js/shared/`` and the imports of ``js/app.js``.

    The page preloads them, so that the browser need not discover them import by import. The
    result is cached per *version* of the files.
    """
    pending, found = ["js/app.js", *assets.names("js/shared/")], set[str]()
    while pending:
        name = pending.pop()
        asset = assets.get(name)
        if name in found or asset is None:
            continue
        found.add(name)
        folder = posixpath.dirname(name)
        targets = [target.decode() for target in _IMPORTED.findall(asset.data)]
        pending += [posixpath.normpath(posixpath.join(folder, target)) for target in targets]
    return sorted(found - {"js/app.js"})


def _asset(name: str) -> Asset:
    asset = assets.get(name)
    if asset is None:
        raise NotFound(f"the user interface has no file {name}")
    return asset


def _answer(asset: Asset, caching: str) -> Response:
    encoding, data = assets.encoded(asset, request.headers.get("Accept-Encoding", ""))
    response = Response(data, mimetype=asset.media_type)
    response.set_etag(f"{asset.etag}-{encoding}" if encoding else asset.etag)
    response.headers["Cache-Control"] = caching
    response.headers["X-Content-Type-Options"] = "nosniff"
    if asset.compressible:
        response.headers["Vary"] = "Accept-Encoding"
    if encoding:
        response.headers["Content-Encoding"] = encoding
        response.make_conditional(request)
    else:
        response.make_conditional(request, accept_ranges=True, complete_length=len(data))
    return response
