"""From bind to the last signal, around a service that only writes down what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import gevent
import pytest
from gevent.event import AsyncResult, Event

from llmsnap.installation import identify
from llmsnap.options import Options
from llmsnap.server import run, serve
from tests.server.raw import RawClient, request


class FakeService:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.closing = Event()
        self.drained = Event()

    def open(self) -> None:
        self.told.append("open")

    def close(self, drain_timeout_s: float) -> None:
        self.told.append(f"close within {drain_timeout_s:g}")
        self.closing.set()
        self.drained.wait()

    def kill(self) -> None:
        self.told.append("kill")


def ok(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def start(service: FakeService, app=ok) -> tuple[gevent.Greenlet, RawClient]:
    said: AsyncResult[str] = AsyncResult()
    server = gevent.Greenlet(
        serve, Options(listen="127.0.0.1:0", drain_timeout=3), service, app, said.set
    )
    server.start()
    line = said.get(timeout=3)
    assert line.startswith(f"{identify().short} listening on http://127.0.0.1:")
    return server, RawClient(("127.0.0.1", int(line.rpartition(":")[2])))


def test_the_end_comes_from_outside_in(service) -> None:
    server, client = start(service)
    assert client.ask(request()).body == b"ok"
    os.kill(os.getpid(), signal.SIGTERM)
    service.closing.wait()
    assert client.rest() == b"", "idle connections end before the models"
    assert not server.ready()
    service.drained.set()
    assert server.get(timeout=3) == 0
    assert service.told == ["open", "close within 3"]
    client.close()


def test_requests_in_flight_get_their_answers_and_the_last_word(service, monkeypatch) -> None:
    monkeypatch.setattr(run, "FINISH_S", 3)
    gate, entered = Event(), Event()

    def app(environ, start_response):
        entered.set()
        gate.wait()
        return ok(environ, start_response)

    server, client = start(service, app)
    client.send(request())
    entered.wait()
    os.kill(os.getpid(), signal.SIGINT)
    service.closing.wait()
    service.drained.set()
    gate.set()
    answer = client.answer()
    assert (answer.body, answer.headers["connection"]) == (b"ok", "close")
    assert server.get(timeout=3) == 0
    client.close()


def test_an_address_in_use_is_an_error_before_anything_opens(service) -> None:
    from llmsnap.server.bind import bind

    with bind("127.0.0.1:0") as taken:
        options = Options(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            serve(options, service, ok, pytest.fail)
    assert service.told == []


def test_a_certificate_that_is_not_there_too(service) -> None:
    options = Options(listen="127.0.0.1:0", tls_cert_file="/no/cert", tls_key_file="/no/key")
    with pytest.raises(OSError, match="/no/cert"):
        serve(options, service, ok, pytest.fail)
    assert service.told == []


IMPORTED_BEFORE_SERVING = """
import sys
import llmsnap._monkey
from llmsnap import cli
import llmsnap.server
seen = []
llmsnap.server.serve = lambda *_, **__: seen.append("flask" in sys.modules) or 0
assert cli.main(["--config", sys.argv[1], "--listen", "127.0.0.1:0"]) == 0
print(seen)
"""


@pytest.mark.e2e
def test_nothing_large_is_imported_while_streams_may_be_open(tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("models:\n  a:\n    cmd: server ${PORT}\n")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BEFORE_SERVING, str(config)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LLMSNAP_STATE_DIR": str(tmp_path)},
    )
    assert done.stdout == "[True]\n"
