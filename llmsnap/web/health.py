"""Is it alive, does it accept work: answered without Flask, so also while that is imported."""

from __future__ import annotations

from llmsnap.errors import MethodNotAllowed
from llmsnap.proxy import Request, Response
from llmsnap.service import Service

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]
METHODS = ("GET", "HEAD", "OPTIONS")


def answer(request: Request, service: Service) -> Response:
    """Answer one of the open paths: OK while the process runs.

    ``/ready`` is OK while requests are accepted, and raises Draining before and after. Raises:
    MethodNotAllowed.
    """
    if request.method not in METHODS:
        raise MethodNotAllowed(f"{request.path} takes {', '.join(METHODS)}", list(METHODS))
    if request.path == "/ready":
        service.check_accepting()
    return Response(200, "", list(HEADERS), [b"OK"])
