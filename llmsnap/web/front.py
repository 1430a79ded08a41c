"""The application of our own server: the gateway, behind which Flask is imported late.

Flask and what it brings take half of the time from start to the first answer, and neither health
checks nor inference need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from llmsnap.service import Service
from llmsnap.web.gateway import Gateway

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


class Front(Gateway):
    """A WSGI application that is complete after ``warm_up``, or after the first need."""

    def __init__(self, service: Callable[[], Service]) -> None:
        super().__init__(self._late, service)
        self._application: WSGIApplication | None = None

    def warm_up(self) -> None:
        """Make the Flask application, unless it is there. Takes 0.2 s, never switches."""
        if self._application is None:
            from llmsnap.web.app import make_flask  # noqa: PLC0415 - what all this is about

            self._application = make_flask().wsgi_app

    def _late(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self.warm_up()
        if self._application is None:
            raise RuntimeError("no application after warm_up")
        return self._application(environ, start_response)
