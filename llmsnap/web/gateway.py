"""The WSGI layer in front of Flask: common checks, and inference straight to the dispatcher.

A thin WSGI layer serves 1.5 times as many requests as a Flask view (docs/adr/0002), so
authentication, CORS and errors are framework-free functions called here. Health checks are answered
here too, even while Flask is being imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import gevent

from llmsnap.errors import (
    Forbidden,
    LlmsnapError,
    MethodNotAllowed,
    Misdirected,
    PageRefused,
    Unauthorized,
    WrongKey,
)
from llmsnap.http import (
    NO_RIGHTS,
    RESOURCES,
    ClientKey,
    Dialect,
    Headers,
    Resource,
    Sessions,
    allow_origin,
    error_answer,
    is_ambient,
    is_below_upstream,
    is_inference,
    is_keyless,
    is_open,
    needs_admin,
    preflight_headers,
    presents_key,
    sandboxed,
    status_line,
    tells_of_all,
    with_origin,
)
from llmsnap.proxy import (
    AcceptedWebSocket,
    LoadingStream,
    ProxyStream,
    Request,
    RequestContext,
    Response,
    Tunnel,
)
from llmsnap.web import access, accesslog
from llmsnap.web.accesslog import Journal
from llmsnap.web.incoming import leave_taken, new_request, take_over

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from llmsnap.runtime import Runtime
    from llmsnap.service import Service

log = logging.getLogger(__name__)

ANTHROPIC_VERSION = "HTTP_ANTHROPIC_VERSION"
"""Header of clients of Anthropic's API, whose libraries read another request id."""
ANTHROPIC_ID = "request-id"
REQUEST_ID = "X-Request-Id"
CONTEXT = "llmsnap.context"
FLUSH = "llmsnap.flush"
"""Set in environ by a view whose response head must be sent before its first body byte."""
RUNTIME = "llmsnap.runtime"
SERVICE = "llmsnap.service"
ORIGIN_CHARS = 300
"""Stored length of an origin; scheme, name and port are never longer."""
STRANGERS = 100
"""Hosts, and origins, that are logged; a client that sends more invents them."""
MOST_PUT_OFF = 100
"""Error responses delayed at a time; each occupies a connection."""


class Gateway:
    """The WSGI application that wraps Flask's. *service* is first called by a request."""

    def __init__(self, flask: WSGIApplication, service: Callable[[], Service]) -> None:
        self._flask = flask
        self._service = service
        self._strange_hosts: set[str] = set()
        self._strange_origins: set[str] = set()
        self._journal: Any = None
        self._guessers: set[str] = set()
        self._put_off_now = 0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        service = self._service()
        self._journal = service.log_handler
        runtime = service.runtime
        request = new_request(environ, service, runtime)
        context = RequestContext(request)
        own = _own_headers(request, environ)
        allow: Headers = []
        answer: Response | None = None
        try:
            allow = _allow_origin(request, environ, runtime)
            if request.method == "OPTIONS":
                requested = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
                return self._finish(context, start_response, _preflight(requested), own)
            admit(request, environ, runtime, service.sessions)
            handle = access.elsewhere(request, environ, runtime) or _handler(request, service)
            if handle is not None:
                answer = handle(context, runtime)
                answer.headers = with_origin(_without(answer.headers, own), allow) + own
                if not isinstance(answer.body, (Tunnel, AcceptedWebSocket)):
                    told_early = isinstance(answer.body, LoadingStream) or is_open(request.path)
                    waits = [] if told_early else _waits(context)
                    return self._finish(context, start_response, answer, waits)
        except LlmsnapError as error:
            self._note(error, request)
            waits = _waits(context) if context.served_by else []
            return self._finish(
                context, start_response, _refusal(error, context), own + allow + waits
            )
        except Exception as error:  # noqa: BLE001 - is logged, and answered with 500
            return self._finish(context, start_response, _bug(error, context, answer), own + allow)
        if answer is not None:
            return self._through(answer, context, environ)
        environ[CONTEXT], environ[RUNTIME], environ[SERVICE] = context, runtime, service
        return self._to_flask(context, environ, start_response, own, allow)

    def _note(self, error: LlmsnapError, request: Request) -> None:
        """Log a refused host or origin once; delay the response to a wrong key. Blocks then."""
        if isinstance(error, Misdirected):
            _warn_once(self._strange_hosts, str(error), str(error))
        elif isinstance(error, PageRefused):
            _warn_once(self._strange_origins, error.origin[:ORIGIN_CHARS], str(error))
        elif isinstance(error, WrongKey):
            telemetry = self._service().telemetry
            self._put_off(telemetry.wrong_keys.note(request.client_ip), request)

    def _put_off(self, wait_s: float, request: Request) -> None:
        """Delay an error response by *wait_s*, to slow down the guessing of keys. Blocks."""
        if not wait_s or self._put_off_now >= MOST_PUT_OFF:
            return
        address = request.client_ip
        text = f"wrong API keys come from {address or 'a unix socket'}: their answers are put off"
        _warn_once(self._guessers, address, text)
        self._put_off_now += 1
        try:
            gevent.sleep(wait_s)
        finally:
            self._put_off_now -= 1

    def _finish(
        self,
        context: RequestContext,
        start_response: StartResponse,
        answer: Response,
        more: Headers,
    ) -> Iterable[bytes]:
        """Start the response *answer*; return its body, which writes the access log when closed."""
        context.status = answer.status
        status = f"{answer.status} {answer.reason}" if answer.reason else status_line(answer.status)
        start_response(status, answer.headers + more)
        if context.request.method == "HEAD":
            _close(answer.body)
            return Logged(self._journal, context, [])
        return Logged(self._journal, context, answer.body)

    def _to_flask(
        self,
        context: RequestContext,
        environ: dict[str, Any],
        start_response: StartResponse,
        own: Headers,
        allow: Headers,
    ) -> Iterable[bytes]:
        def start(status: str, headers: Headers, *exc_info: Any) -> Callable[[bytes], object]:
            context.status = int(status[:3])
            headers = with_origin(headers, allow) + own
            write[:] = [start_response(status_line(context.status), headers, *exc_info)]
            return write[0]

        write: list[Callable[[bytes], object]] = []
        self._service().deferred.flush()  # so that views see every event so far
        try:
            body = self._flask(environ, start)
        except StopIteration:  # the end of a WebSocket, which gunicorn must see
            accesslog.write(self._journal, context, 0)
            raise
        if FLUSH in environ:
            write[0](b"")  # an empty write sends the head (PEP 3333)
        return Logged(self._journal, context, body)

    def _through(
        self, answer: Response, context: RequestContext, environ: dict[str, Any]
    ) -> list[bytes]:
        """Hand the connection to a tunnel until the tunnel ends. Blocks."""
        context.status = answer.status
        waits = _waits(context) if isinstance(answer.body, Tunnel) else []
        try:
            answer.body.run(answer.headers + waits, take_over(environ))
        finally:
            context.request.body_share.close()
            accesslog.write(self._journal, context, answer.body.sent)
        return leave_taken(environ)


def _handler(request: Request, service: Service) -> access.Handle | None:
    """Return the handler of *request* outside Flask; None if Flask serves it. Raises: Draining."""
    resource = RESOURCES.get(request.path)
    handle: access.Handle
    if resource is None:
        if not is_below_upstream(request.path):
            return None
        handle = service.dispatcher.handle_upstream
    elif is_open(request.path):
        return lambda context, _: answer_health(context.request, service)
    elif _names_no_model(request, resource):
        return None
    elif resource.common.observes:
        handle = service.dispatcher.handle_props
    elif is_inference(request.path):
        handle = service.dispatcher.handle
    else:
        return None
    service.check_accepting()
    return handle


def _names_no_model(request: Request, resource: Resource) -> bool:
    """Whether a request that would go to a model names none, and so is served by a view."""
    route = resource.routes.get(request.method)
    if route is None:
        return not resource.common.is_inference
    return route.optional and "model" not in parse_qs(request.query)


class Logged:
    """A response body that writes its access log entry when it is closed.

    It counts its bytes, except for streams of models, which count their own.
    """

    __slots__ = ("_body", "_bytes", "_context", "_journal")

    def __init__(self, journal: Journal, context: RequestContext, body: Iterable[bytes]) -> None:
        self._journal = journal
        self._context = context
        self._body = body
        self._bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._body if isinstance(self._body, ProxyStream) else self._counted()

    def _counted(self) -> Iterator[bytes]:
        for data in self._body:
            self._bytes += len(data)
            yield data

    def close(self) -> None:
        """Close the body and log the request. The server calls it once, also after an error."""
        body = self._body
        try:
            _close(body)
        finally:
            self._context.request.body_share.close()
            sent = body.sent if isinstance(body, ProxyStream) else self._bytes
            accesslog.write(self._journal, self._context, sent)


def admit(request: Request, environ: dict[str, Any], runtime: Runtime, sessions: Sessions) -> None:
    """Check Host, origin and key. Raises: Misdirected, Forbidden, Unauthorized."""
    if is_open(request.path):
        return
    if runtime.keyring.open:
        runtime.hosts.check(environ.get("HTTP_HOST", ""))
    else:
        request.key = _key_of(request, environ, runtime, sessions)
    access.check(request, environ, runtime)
    _check_rights(request)


def _key_of(
    request: Request, environ: dict[str, Any], runtime: Runtime, sessions: Sessions
) -> ClientKey:
    """Return the key that a program or a page sends, else that of the session, else Basic's."""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    x_api_key = environ.get("HTTP_X_API_KEY", "")
    is_presented = presents_key(authorization, x_api_key)
    key = None
    if "HTTP_COOKIE" in environ and (not is_presented or is_ambient(authorization)):
        key = access.signed_in(environ, sessions)
    if key is None:
        key = runtime.keyring.authenticate(authorization, x_api_key)
    if key is not None:
        return key
    if not is_presented and is_keyless(request.method, request.path):
        return NO_RIGHTS
    kind = WrongKey if is_presented else Unauthorized
    dialog = access.shows_dialog(environ)
    raise kind("unauthorized: invalid or missing API key", dialog=dialog)


def _check_rights(request: Request) -> None:
    key, path = request.key, request.path
    if not key.admin and needs_admin(request.method, path):
        raise Forbidden(f"the key {key.name!r} may not use {path}: it has no admin right")
    if not key.sees_all and tells_of_all(path):
        raise Forbidden(f"the key {key.name!r} may not use {path}: it tells of all models")


def _own_headers(request: Request, environ: dict[str, Any]) -> Headers:
    """Return the request id header, for Anthropic's libraries also under the name they read."""
    own = [(REQUEST_ID, request.id)]
    resource = RESOURCES.get(request.path)
    is_anthropic = resource is not None and resource.common.dialect is Dialect.ANTHROPIC
    if is_anthropic or ANTHROPIC_VERSION in environ:
        own.append((ANTHROPIC_ID, request.id))
    return own


def _without(headers: Headers, own: Headers) -> Headers:
    """Return *headers* of a model's server without its request id if *own* replaces that."""
    if len(own) == 1:
        return headers
    return [header for header in headers if header[0].lower() != ANTHROPIC_ID]


def _allow_origin(request: Request, environ: dict[str, Any], runtime: Runtime) -> Headers:
    """Return the CORS headers that let a page of another origin read the response."""
    origin = environ.get("HTTP_ORIGIN")
    if not origin:
        return []
    granted = runtime.config.allowed_origins
    if access.is_sandboxed_page(request, environ, runtime):
        granted = (*granted, "null")
    return allow_origin(request.path, origin, granted)


def _waits(context: RequestContext) -> Headers:
    """Return the headers with the request's waits; a head sent before their end lacks them."""
    return [
        ("X-Queue-Ms", str(round(context.queue_s * 1000))),
        ("X-Load-Ms", str(round(context.load_s * 1000))),
    ]


def _preflight(requested: str) -> Response:
    return Response(204, "No Content", preflight_headers(requested), [])


def _refusal(error: LlmsnapError, context: RequestContext) -> Response:
    request = context.request
    text = request.explain(error)
    status, headers, body = error_answer(error, request.accept, request.path, text)
    if is_inference(request.path):
        headers = sandboxed(headers)
    if status >= 500:
        log.warning("%s %s: %s", request.method, request.path, error, extra=context.log_ids)
    return Response(status, "", headers, [body])


def _bug(error: Exception, context: RequestContext, answer: Response | None) -> Response:
    """Log *error*, close the unstarted *answer*, and return an error response."""
    log.error("request failed", exc_info=error, extra=context.log_ids)
    if answer is not None:
        _close(answer.body)
    return _refusal(LlmsnapError("internal error; the log says more"), context)


def _warn_once(known: set[str], name: str, text: str) -> None:
    """Log *text*, which names the setting to change, once per *name*."""
    if name not in known and len(known) < STRANGERS:
        known.add(name)
        log.warning("%s", text)


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


# --- health -------------------------------------------------------------------------------------


HEALTH_HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]
HEALTH_METHODS = ("GET", "HEAD", "OPTIONS")


def answer_health(request: Request, service: Service) -> Response:
    """Answer a health path: OK while the process runs.

    ``/ready`` is OK while requests are accepted, and raises Draining before and after. Raises:
    MethodNotAllowed.
    """
    if request.method not in HEALTH_METHODS:
        raise MethodNotAllowed(
            f"{request.path} takes {', '.join(HEALTH_METHODS)}", list(HEALTH_METHODS)
        )
    if request.path == "/ready":
        service.check_accepting()
    return Response(200, "", list(HEALTH_HEADERS), [b"OK"])
