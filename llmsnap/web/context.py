"""What the running request belongs to: its call, its runtime, the service."""

from __future__ import annotations

from flask import request

from llmsnap.proxy.call import Call
from llmsnap.runtime import Runtime
from llmsnap.service import Service
from llmsnap.web.gateway import CALL, RUNTIME, SERVICE


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
