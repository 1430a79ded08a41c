"""The Flask application: its blueprints, its JSON encoder and its error responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute

from llmsnap import errors
from llmsnap.http import error_answer
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
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _without_sniffing(response: Response) -> Response:
    """Disable content sniffing in browsers, since some responses hold third-party content."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


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
