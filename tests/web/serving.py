"""A service that nothing has started, behind the real application, for a test client."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import cache
from textwrap import dedent

from flask import Flask
from flask.testing import FlaskClient

from llmsnap.config.loader import loads
from llmsnap.proxy.call import Answer, Call
from llmsnap.routing.setup import change_of
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


class FakeDispatcher:
    """Notes what reaches it; answers with *answer*, or raises it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Call]] = []
        self.answer: Answer | Exception = Answer(200, "OK", [("X-Model", "yes")], [b"said"])

    def handle(self, call: Call, snapshot: object) -> Answer:
        return self._answer("handle", call)

    def handle_upstream(self, call: Call, snapshot: object) -> Answer:
        return self._answer("upstream", call)

    def handle_props(self, call: Call, snapshot: object) -> Answer:
        return self._answer("props", call)

    def _answer(self, name: str, call: Call) -> Answer:
        self.calls.append((name, call))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Site:
    """*service* accepts requests, *client* sends some, *dispatcher* gets those for models."""

    def __init__(self, text: str) -> None:
        self.service = Service(loads(dedent(text), environ={}), launcher=FakeLauncher())
        self.dispatcher = self.service.dispatcher = FakeDispatcher()
        self.service.driver.reconfigure(change_of(self.service.runtime.config))
        self.service.accepts = True
        self.client: FlaskClient = app_of(lambda: self.service).test_client()


@contextlib.contextmanager
def site(text: str) -> Iterator[Site]:
    made = Site(text)
    yield made
    made.service.close(0.0)
