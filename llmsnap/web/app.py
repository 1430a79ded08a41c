"""The Flask application: its blueprints, its JSON encoder and its error responses."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from flask import Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute

from llmsnap import errors
from llmsnap.http import best_encoding, error_answer
from llmsnap.service import Service
from llmsnap.web import (
    admin_api,
    configuration,
    events,
    llama_swap,
    logs,
    models,
    openapi,
    session,
    ui,
    websocket,
)
from llmsnap.web.current import current_context
from llmsnap.web.gateway import Gateway

API = "/api/"
COMPRESS_FROM_BYTES = 1024
THREAD_FROM_BYTES = 32 * 1024
"""Compressing more at once would delay other streams."""

BLUEPRINTS = (
    admin_api.bp,
    configuration.bp,
    events.bp,
    llama_swap.bp,
    logs.bp,
    models.bp,
    openapi.bp,
    session.bp,
    ui.bp,
    websocket.bp,
)


class _Json(DefaultJSONProvider):
    """JSON with members in insertion order, and a media type that names the charset."""

    sort_keys = False
    mimetype = "application/json; charset=utf-8"

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return *obj* as JSON. Fast, since encoding a long list blocks all streams."""
        if "indent" in kwargs:
            return super().dumps(obj, **kwargs)
        try:
            return msgspec.json.encode(obj).decode()
        except (TypeError, ValueError, OverflowError):  # lone surrogate, large integer
            return super().dumps(obj, **kwargs)


def create_app(service: Callable[[], Service]) -> Flask:
    """Return the application behind its gateway. *service* is first called by a request.

    Starts and opens nothing.
    """
    app = make_flask()
    app.wsgi_app = Gateway(app.wsgi_app, service)  # type: ignore[method-assign]
    return app


def make_flask() -> Flask:
    """Return the Flask application alone; it expects what the gateway puts into environ."""
    app = Flask("llmsnap", static_folder=None, template_folder=None)
    app.json = _Json(app)
    app.config["TEMPLATES_AUTO_RELOAD"] = True  # one stat() call, for the only page
    app.config["SOCK_SERVER_OPTIONS"] = websocket.OPTIONS
    app.register_error_handler(errors.LlmsnapError, _on_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.after_request(_without_sniffing)
    app.after_request(_compressed)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _without_sniffing(response: Response) -> Response:
    """Disable content sniffing in browsers, since some responses hold third-party content."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _compressed(response: Response) -> Response:
    """Compress a long JSON document of ``/api/`` for a client that accepts it. Blocks."""
    if not request.path.startswith(API) or response.mimetype != "application/json":
        return response
    data = response.get_data()
    if len(data) < COMPRESS_FROM_BYTES:
        return response
    response.vary.add("Accept-Encoding")
    if best_encoding(request.headers.get("Accept-Encoding", ""), ["gzip"]):
        pool = gevent.get_hub().threadpool
        packed = pool.apply(_gzip, (data,)) if len(data) > THREAD_FROM_BYTES else _gzip(data)
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(5, wbits=31)
    return packer.compress(data) + packer.flush()


def _on_error(error: errors.LlmsnapError) -> ResponseReturnValue:
    text = current_context().request.explain(error)
    status, headers, body = error_answer(
        error, request.headers.get("Accept", ""), request.path, text
    )
    return Response(body, status, headers)


def _on_http_error(error: HTTPException) -> ResponseReturnValue:
    """Return an error of Werkzeug in llmsnap's error format."""
    if isinstance(error, MethodNotAllowed):
        allow = sorted(error.valid_methods or ())
        return _on_error(errors.MethodNotAllowed(f"{request.path} takes {', '.join(allow)}", allow))
    if isinstance(error, NoRoute):
        return _on_error(errors.NotFound(f"nothing answers {request.path}"))
    if error.code is None or error.code < 400:
        return error.get_response()  # a redirect
    ours = errors.RequestError(error.description or error.name)
    ours.status = error.code
    return _on_error(ours)
