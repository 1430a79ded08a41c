"""A real server with models that are ready at once, for commands to talk to."""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from textwrap import dedent
from typing import Any

import pytest
from gevent import pywsgi
from gevent.pool import Pool

from llmsnap.config import loads
from llmsnap.routing import change_of
from llmsnap.server import HttpServer, open_listener
from llmsnap.service import Service
from tests.fakes.launcher import FakeLauncher
from tests.web.serving import app_of

MODELS = """
    models:
      llama: {cmd: serve, proxy: MODEL, checkEndpoint: none, aliases: [first], ttl: 300}
      coder: {cmd: serve, proxy: MODEL, checkEndpoint: none}
"""


@contextlib.contextmanager
def serving(application: Callable[..., Iterable[bytes]]) -> Iterator[str]:
    """The address of a server of *application*."""
    server = pywsgi.WSGIServer(("127.0.0.1", 0), application, log=None, spawn=Pool())
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.stop(1)


class Running:
    """*service* behind its real gateway on a port; *environ* leads a command to it.

    MODEL in the configuration becomes the address of a server that notes its *calls*.
    """

    def __init__(self, text: str) -> None:
        self.calls: list[str] = []
        self._open = contextlib.ExitStack()
        text = text.replace("MODEL", self._open.enter_context(serving(self._answer)))
        self.launcher = FakeLauncher()
        self.service = Service(loads(dedent(text), environ={}), launchers={"local": self.launcher})
        self.service.driver.reconfigure(change_of(self.service.runtime.config))
        self.service.accepts = True
        listener = open_listener("127.0.0.1:0")
        self._server = HttpServer(listener, app_of(lambda: self.service))
        self._server.start()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.environ = {"LLMSNAP_URL": self.url}

    def close(self) -> None:
        self.service.facts._tasks.close()  # a question killed half way leaves its socket open
        self._server.drain()
        self.service.close(0.0)
        self._server.finish(0.1)
        self._open.close()

    def run(self, main: Callable[..., int], *argv: str, key: str = "", out: Any = None) -> Any:
        """What the command *main* prints; it has to end well."""
        out = io.StringIO() if out is None else out
        assert main(argv, out, {**self.environ, "LLMSNAP_API_KEY": key}) == 0
        return out.getvalue()

    def _answer(self, environ, start_response):
        self.calls.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"{}"]

    def states(self) -> dict[str, str]:
        return {name: str(self.service.state(name)) for name in self.service.runtime.config.models}


@contextlib.contextmanager
def running(text: str) -> Iterator[Running]:
    server = Running(text)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def ready_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmsnap.models.health.UNCHECKED_S", 0.001)


@pytest.fixture
def server() -> Iterator[Running]:
    with running(MODELS) as made:
        yield made


@pytest.fixture
def guarded() -> Iterator[Running]:
    """One that asks for keys: ``boss`` may do all, ``guest`` may use llama."""
    keys = """
        apiKeys:
          - {key: boss, name: boss, admin: true}
          - {key: guest, name: guest, admin: false, models: [llama]}
    """
    with running(dedent(keys) + dedent(MODELS)) as made:
        yield made
