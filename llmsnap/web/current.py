"""Accessors for views to the running request: context, runtime, service, redirects, parameters."""

from __future__ import annotations

from flask import Response, redirect, request

from llmsnap.errors import BadRequest
from llmsnap.http import relative_reference
from llmsnap.proxy import RequestContext
from llmsnap.runtime import Runtime
from llmsnap.service import Service
from llmsnap.telemetry import Telemetry
from llmsnap.web.gateway import CONTEXT, RUNTIME, SERVICE
from llmsnap.web.incoming import requested_path


def current_context() -> RequestContext:
    """Return the context of the running request, as the gateway set it."""
    context: RequestContext = request.environ[CONTEXT]
    return context


def current_runtime() -> Runtime:
    """Return the runtime that this request keeps until its end."""
    runtime: Runtime = request.environ[RUNTIME]
    return runtime


def current_service() -> Service:
    """Return the service."""
    service: Service = request.environ[SERVICE]
    return service


def current_telemetry() -> Telemetry:
    """Return the telemetry of the service."""
    return current_service().telemetry


def redirect_to(target: str, status: int = 302) -> Response:
    """Return a redirect to the path *target*, relative to the address that the client requested."""
    response = redirect(relative_reference(target, requested_path(request.environ)), status)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own, by its default class
    return response


def whole_number(name: str, default: int | None = None) -> int | None:
    """Return query parameter *name* as an integer, or *default* if absent. Raises: BadRequest."""
    text = request.args.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise BadRequest(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)
