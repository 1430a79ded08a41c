"""The user interface: one page, its files, and the old addresses that lead to it."""

from __future__ import annotations

import json
import posixpath
import re
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from flask.typing import ResponseReturnValue

from llmsnap import installation
from llmsnap.errors import NotFound
from llmsnap.web.assets import Asset, Assets
from llmsnap.web.context import redirect_to

IMMUTABLE = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
_IMPORTED = re.compile(rb'\bfrom\s*"(\.\.?/[^"]+)"')

# No inline script or style, nothing from anywhere else; HTML is made from text by DOMPurify alone.
# data: and blob: carry pictures and sound that came in an answer.
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
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

bp = Blueprint("ui", __name__, template_folder=str(installation.template_folder()))
assets = Assets(installation.static_folder())


@bp.get("/")
def root() -> ResponseReturnValue:
    """Lead a person who typed the bare address to the interface."""
    return redirect_to("/ui/")


@bp.get("/ui", strict_slashes=False)
def shell() -> ResponseReturnValue:
    """Answer the one page, whose address must end in a slash."""
    if not request.path.endswith("/"):
        return redirect_to("/ui/", 301)
    assets.refresh()
    version = assets.version
    modules = first_modules(version)
    text = render_template("ui.html", version=version, modules=modules, pages=json.dumps(pages()))
    response = make_response(text)
    response.add_etag()  # of the text: an edited template counts as well
    response.headers["Cache-Control"] = ASK_FIRST
    response.headers.update(SAFE_HEADERS)
    return response.make_conditional(request)


@bp.get("/ui/static/<version>/<path:name>")
def versioned(version: str, name: str) -> ResponseReturnValue:
    """Answer a file under the address of its version, which caches may keep.

    A page loaded before an update asks for the version before: it gets today's file, uncached.
    """
    return _answer(_asset(name), IMMUTABLE if version == assets.version else ASK_FIRST)


@bp.get("/ui/<path:name>")
def unversioned(name: str) -> ResponseReturnValue:
    """Answer a file under its plain name (icons, the web manifest), or lead to the page of it."""
    start, *others = [page["id"] for page in pages()]
    if name.rstrip("/") in others:
        return redirect_to(f"/ui/#/{name.rstrip('/')}")
    if name.rstrip("/") == start:
        return redirect_to("/ui/")
    return _answer(_asset(name), ASK_FIRST)


@bp.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """Answer the icon browsers ask for unasked."""
    return _answer(_asset("favicon.ico"), ASK_FIRST)


def pages() -> list[dict[str, Any]]:
    """Return the pages of the interface, the start page first; scripts get them by the template."""
    found: list[dict[str, Any]] = json.loads(_asset("js/pages.json").data)
    return found


@lru_cache(maxsize=1)
def first_modules(version: str) -> list[str]:
    """Return the scripts every page needs: ``js/shared/`` and what ``js/app.js`` imports.

    The browser fetches them at once; without the list it would find them import by import. The
    answer holds for one *version* of the files.
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
