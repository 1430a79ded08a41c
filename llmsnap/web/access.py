"""Access control for requests that a browser sends on behalf of a web page.

``http.cors`` has the rules for pages of other origins. This module applies them to a request, given
its key, the models that its path and its referring page belong to, and the origin for pages of
models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from llmsnap.errors import Forbidden, NotFound, PageRefused
from llmsnap.http import (
    PAGE_HEADERS,
    UPSTREAM,
    ClientKey,
    Purpose,
    Sender,
    Sessions,
    Verdict,
    below_upstream,
    is_ambient,
    is_below_upstream,
    is_browser,
    is_open,
    is_same_host,
    is_top_level,
    page_below_upstream,
    page_verdict,
    purpose_of,
    relative_reference,
    sees_loopback,
    sender_of,
    session_ids,
)
from llmsnap.proxy import Request, RequestContext, Response
from llmsnap.routing import LocalRoute

if TYPE_CHECKING:
    from llmsnap.runtime import Runtime

KEYS = tuple((name, f"HTTP_{name.upper().replace('-', '_')}") for name in PAGE_HEADERS)
SIGNS = frozenset(key for name, key in KEYS if name not in {"host", "upgrade", "user-agent"})
"""Environ keys of which every request that a browser sends for a page has at least one, unless
only its User-Agent gives the browser away."""
Handle = Callable[[RequestContext, Any], Response]
"""Answers a request without Flask, given the runtime that the request started with."""


def check(request: Request, environ: Mapping[str, Any], runtime: Runtime) -> None:
    """Refuse the request if the sending page may not make it, or forbid it to load a model.

    Raises: Forbidden.
    """
    if SIGNS.isdisjoint(environ) and not is_browser(environ.get("HTTP_USER_AGENT", "")):
        return
    headers = _page_headers(environ)
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    verdict = page_verdict(
        request.method,
        request.path,
        headers,
        runtime.page_rules,
        query=request.query,
        ambient=runtime.keyring.open or is_ambient(authorization),
    )
    if verdict is Verdict.REFUSE and not is_sandboxed_page(request, environ, runtime):
        raise _refusal(request, headers)
    request.may_load = verdict is Verdict.SERVE
    if not runtime.keyring.open:
        _check_page_of_model(request, headers.get("referer", ""), runtime)


def _page_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    return {name: environ[key] for name, key in KEYS if key in environ}


def signed_in(environ: Mapping[str, Any], sessions: Sessions) -> ClientKey | None:
    """Return the key of the session in the request's cookies; None without an open one.

    Browsers send cookies with requests of other pages too, of other ports of this host at least, so
    only requests that prove to come from a page of this origin have a session.
    """
    ids = session_ids(environ["HTTP_COOKIE"], environ.get("HTTP_HOST", ""))
    if not ids or sender_of(_page_headers(environ)) is not Sender.OWN_PAGE:
        return None
    return next((key for each in ids if (key := sessions.find(each)) is not None), None)


def shows_dialog(environ: Mapping[str, Any]) -> bool:
    """Whether a browser may ask the user for a key: for a page, but not for a page's requests."""
    is_page = "text/html" in environ.get("HTTP_ACCEPT", "")
    return is_page or not is_browser(environ.get("HTTP_USER_AGENT", ""))


def is_sandboxed_page(request: Request, environ: Mapping[str, Any], runtime: Runtime) -> bool:
    """Whether a sandboxed page of a model, of origin "null", sends the request to that model."""
    referer, host = environ.get("HTTP_REFERER", ""), environ.get("HTTP_HOST", "")
    return (
        environ.get("HTTP_ORIGIN", "null") == "null"
        and is_below_upstream(request.path)
        and is_same_host(referer, host)
        and _is_of_same_model(page_below_upstream(referer), request, runtime)
    )


def _check_page_of_model(request: Request, referer: str, runtime: Runtime) -> None:
    """Restrict a page of a model's server to that server, since its browser sends the UI's key.

    A page can hide its address (``Referrer-Policy``), so this stops mistakes, not attacks.
    Raises: Forbidden.
    """
    page = page_below_upstream(referer)
    if page and not _is_of_same_model(page, request, runtime):
        raise Forbidden(
            "a page of a model's server may ask that model only, below /upstream/; to open another "
            "page, type its address"
        )


def _is_of_same_model(page: str, request: Request, runtime: Runtime) -> bool:
    """Whether *page*, a path after ``/upstream/``, and *request* belong to the same model."""
    found = runtime.names.below_upstream(page) if page else None
    asked = _name_in(request, runtime)
    if found is None or not asked:
        return False
    served_id = runtime.names.served_id
    return served_id(found[0]) == served_id(asked)


def _name_in(request: Request, runtime: Runtime) -> str:
    """Return the model name in the path of *request*, or "" if it names none."""
    path = request.raw_path.partition("?")[0]
    below = below_upstream(path)
    found = runtime.names.below_upstream(below) if below else None
    return found[0] if found else ""


def _refusal(request: Request, headers: Mapping[str, str]) -> Forbidden:
    if headers.get("service-worker"):
        return Forbidden("service workers are not served here")
    if sender_of(headers) is not Sender.OTHER_PAGE:
        return Forbidden(
            "a browser did not say which page asks for this; use the interface, or POST to "
            "/api/models/unload"
        )
    origin = headers.get("origin", "")
    purpose = purpose_of(request.method, request.path, request.query)
    key = "inferenceOrigins or allowedOrigins" if purpose is Purpose.INFER else "allowedOrigins"
    return PageRefused(
        f"a page of {origin or 'another site'} may not do this; list its origin in {key} if it "
        "should",
        origin,
    )


# --- the origin for pages of models -------------------------------------------------------------


def elsewhere(request: Request, environ: Mapping[str, Any], runtime: Runtime) -> Handle | None:
    """Return a handler that redirects a browser to the origin for pages of models, if it must move.

    None if the request is at the right origin. Sets ``request.trusts_pages``. Raises: NotFound for
    paths that are not served at the origin for pages.
    """
    pages = runtime.pages
    if not pages.separate:
        if is_below_upstream(request.path):
            request.trusts_pages = runtime.keyring.open or sees_loopback(environ)
        return None
    if is_open(request.path):
        return None
    if pages.is_here(environ):
        return _in_pages_origin(request, environ, runtime)
    request.trusts_pages = False
    if request.method == "GET" and is_below_upstream(request.path) and _is_navigation(environ):
        name = _name_in(request, runtime)
        route = runtime.names.resolve(name, request.key.may_use) if name else None
        url = pages.url_of(route.model.id, environ) if isinstance(route, LocalRoute) else ""
        return _redirect(f"{url}{request.raw_path}") if url else None
    return None


def _in_pages_origin(
    request: Request, environ: Mapping[str, Any], runtime: Runtime
) -> Handle | None:
    only = runtime.pages.model_of(environ.get("HTTP_HOST", ""))
    if request.path == "/" and only in runtime.config.models:
        return _redirect(relative_reference(f"{UPSTREAM}{quote(only, safe='')}/", request.path))
    is_right = not only or runtime.names.served_id(_name_in(request, runtime)) == only
    if is_below_upstream(request.path) and is_right:
        return None
    raise NotFound("only pages of models are served at this address; the interface has another")


def _is_navigation(environ: Mapping[str, Any]) -> bool:
    headers = _page_headers(environ)
    return is_browser(headers.get("user-agent", "")) and is_top_level(headers)


def _redirect(url: str) -> Handle:
    headers = [("Location", url), ("Content-Length", "0"), ("Cache-Control", "no-store")]

    def answer(context: RequestContext, snapshot: Any) -> Response:
        return Response(307, "", headers, [])

    return answer
