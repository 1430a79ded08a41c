"""A service that nothing has started, behind the real application, for a test client."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import cache, partial
from textwrap import dedent
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from llmsnap.config import loads
from llmsnap.proxy import Request, RequestContext, Response
from llmsnap.routing import Selectors, Standing, change_of
from llmsnap.service import Service
from llmsnap.web.app import make_flask
from llmsnap.web.gateway import Gateway
from tests.fakes.launcher import FakeLauncher

_flask = cache(make_flask)


def app_of(service: Callable[[], Service]) -> Flask:
    """What ``create_app`` returns; its routes, ten milliseconds of work, are those of all tests."""
    app = copy.copy(_flask())
    app.wsgi_app = Gateway(_flask().wsgi_app, service)
    return app


def service_of(text: str) -> Service:
    """A service that accepts requests, though nothing has started it."""
    service = Service(loads(dedent(text), environ={}), launchers={"local": FakeLauncher()})
    service.driver.reconfigure(change_of(service.runtime.config))
    service.accepts = True
    return service


class FakeDispatcher:
    """Notes what reaches it; answers with *answer*, or raises it."""

    def __init__(self) -> None:
        self.selectors = Selectors(lambda _: Standing.READY)
        self.calls: list[tuple[str, Request]] = []
        self.answer: Response | Exception = Response(200, "OK", [("X-Model", "yes")], [b"said"])
        self.handle = partial(self._answer, "handle")
        self.handle_upstream = partial(self._answer, "upstream")
        self.handle_props = partial(self._answer, "props")

    def _answer(self, name: str, context: RequestContext, snapshot: object) -> Response:
        self.calls.append((name, context.request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Site:
    """*service* accepts requests, *client* sends some, *dispatcher* gets those for models."""

    def __init__(self, text: str) -> None:
        self.service = service_of(text)
        self.dispatcher = self.service.dispatcher = FakeDispatcher()
        self.service.rest_s = 0.0
        self.client: FlaskClient = app_of(lambda: self.service).test_client()


@contextlib.contextmanager
def site(text: str) -> Iterator[Site]:
    made = Site(text)
    yield made
    made.service.close(0.0)


def site_fixture(text: str, scope: Any = "function") -> Any:
    """A fixture: the site of *text*."""

    @pytest.fixture(scope=scope)
    def made() -> Iterator[Site]:
        with site(text) as one:
            yield one

    return made
