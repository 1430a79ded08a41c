"""What the running request belongs to: its call, its runtime, the service."""

from __future__ import annotations

from flask import Response, redirect, request

from llmsnap.proxy.call import Call
from llmsnap.runtime import Runtime
from llmsnap.service import Service
from llmsnap.web.gateway import CALL, RUNTIME, SERVICE
from llmsnap.web.incoming import requested_path
from llmsnap.wire.paths import relative


def current_call() -> Call:
    """Return the request as the gateway made it."""
    call: Call = request.environ[CALL]
    return call


def current_runtime() -> Runtime:
    """Return the one runtime this request keeps to its end."""
    runtime: Runtime = request.environ[RUNTIME]
    return runtime


def current_service() -> Service:
    """Return the service."""
    service: Service = request.environ[SERVICE]
    return service


def redirect_to(target: str, status: int = 302) -> Response:
    """Return a redirect to the path *target*, relative to the address the client asked for."""
    response = redirect(relative(target, requested_path(request.environ)), status)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own, by its default class
    return response
