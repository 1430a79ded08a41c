"""llmsnap in a worker of gunicorn's: which one serves, its server, and its shutdown."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool

from llmsnap.errors import ConfigError, Problem
from llmsnap.server import gunicorn as module
from llmsnap.server import open_listener
from llmsnap.server.gunicorn import GunicornServer, acquire_lock, current_worker, take_connections
from llmsnap.statedir import StateDir
from tests.server.raw import request
from tests.server.test_listener import Gated, ok

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def worker_of(**settings: Any) -> SimpleNamespace:
    told: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: told.append(text % values))
    cfg = SimpleNamespace(**{"keepalive": 75, "accesslog": None, **settings})
    return SimpleNamespace(cfg=cfg, log=log, told=told, server_class=None)


@pytest.fixture
def serve_in_worker():
    made: list[GunicornServer] = []

    def make(app: Any = ok, listen: str = "127.0.0.1:0", **options: Any) -> GunicornServer:
        worker = worker_of()
        take_connections(worker)
        more = {"log": None, "handler_class": None, "environ": {"wsgi.multithread": True}}
        options = {"spawn": Pool(5), **more, **options}
        made.append(worker.server_class(open_listener(listen), application=app, **options))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.finish(0)


def test_worker_connections_is_the_limit(serve_in_worker, connect) -> None:
    server = serve_in_worker(spawn=Pool(1))
    assert server.pool.size == 1
    answer = connect(server.address).ask(request())
    assert (answer.status, answer.headers["connection"]) == (200, "close"), "its seat is the last"


def test_clients_get_what_our_own_listeners_give_them() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = GunicornServer(listener, ok, spawn=Pool(5), idle_s=1)
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server.finish(0)


def test_closing_ends_idle_connections_and_lets_the_others_answer(serve_in_worker, connect) -> None:
    app = Gated()
    server = serve_in_worker(app)
    idle, busy = connect(server.address), connect(server.address)
    assert idle.ask(request()).status == 200
    busy.send(request("/slow"))
    app.entered.wait()
    server.close()
    assert idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        connect(server.address)
    assert server.pool.free_count() == server.pool.size - 1, "gunicorn waits for it"
    app.gate.set()
    assert busy.answer().headers["connection"] == "close"
    busy.close()
    server.stop(timeout=1)
    assert server.pool.free_count() == server.pool.size


def test_the_socket_file_is_left_to_the_next_worker(serve_in_worker, connect, tmp_path) -> None:
    path = tmp_path / "s"
    server = serve_in_worker(listen=f"unix:{path}")
    assert connect(server.address).ask(request()).status == 200
    server.finish(0)
    assert path.exists()


def test_gunicorns_certificate_is_used(serve_in_worker, connect) -> None:
    wrapped: list[dict[str, Any]] = []

    def wrap_socket(sock: socket.socket, **how: Any) -> socket.socket:
        wrapped.append(how)
        raise OSError("no handshake in this test")

    server = serve_in_worker(ssl_context=SimpleNamespace(wrap_socket=wrap_socket))
    assert connect(server.address).rest() == b""
    assert wrapped == [{"server_side": True, "do_handshake_on_connect": False}]


def test_settings_that_only_gunicorn_can_apply_leave_the_connections_to_it() -> None:
    worker = worker_of(accesslog="-", proxy_protocol="auto", statsd_host=None)
    take_connections(worker)
    assert worker.server_class is None
    assert worker.told == ["gunicorn reads the requests itself, for accesslog, proxy_protocol"]
    worker = worker_of(proxy_protocol="off", statsd_host=None)
    take_connections(worker)
    assert worker.server_class is not None
    assert worker.told == []


class FakeWorker:
    def __init__(self) -> None:
        self.alive = True
        self.log = self
        self.lines: list[str] = []
        self.sockets: list[socket.socket] = []
        self.notified = Event()
        self.heard: list[int] = []

    def notify(self) -> None:
        self.notified.set()

    def warning(self, text: str, *args: object) -> None:
        self.lines.append(text % args)

    error = warning

    def handle(self, number: int, frame: object) -> None:
        self.heard.append(number)
        self.alive = False


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWorker]:
    """A worker whose handlers are set, as gunicorn does before it imports the application."""
    base = ModuleType("gunicorn.workers.base")
    base.Worker = FakeWorker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gunicorn.workers.base", base)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    fake = FakeWorker()
    for number in SIGNALS:
        signal.signal(number, fake.handle)
    yield fake
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Expects that the process would have ended, once and without an error."""
    codes: list[int] = []
    monkeypatch.setattr(module.sys, "exit", codes.append)
    monkeypatch.setattr(module, "FINISH_S", 0)
    monkeypatch.setattr(module, "SETTLE_S", 0)
    yield
    while not codes:
        gevent.sleep(0)
    assert codes == [0]


@pytest.fixture
def left(gunicorn, leaves, service) -> list[int]:
    """The codes with which an installed shutdown of *service* leaves at once."""
    codes: list[int] = []
    service.drained.set()
    module.GracefulShutdown(gunicorn, service, service.close, codes.append).install()
    return codes


def test_a_worker_is_recognized_by_its_handler_and_no_other_program(gunicorn) -> None:
    assert current_worker() is gunicorn
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert current_worker() is None
    del sys.modules["gunicorn.workers.base"]
    signal.signal(signal.SIGTERM, gunicorn.handle)
    assert current_worker() is None


def test_an_extra_worker_waits_for_the_lock_and_stays_alive_for_gunicorn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_POLL_S", 0.001)
    monkeypatch.setattr(module, "REMIND_S", 0)
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    worker = FakeWorker()
    acquire_lock(first, worker)
    assert worker.lines == [], "a free lock is taken at once"
    waiting = gevent.spawn(acquire_lock, second, worker)
    while len(worker.lines) < 3:  # with reminders
        worker.notified.clear()
        worker.notified.wait()
    for words in (f"waits for pid {os.getpid()}", str(tmp_path), "run exactly one worker"):
        assert words in worker.lines[0]
    first.unlock()
    waiting.get()
    worker.alive = False
    with pytest.raises(SystemExit, match="0"):
        acquire_lock(first, worker)
    second.unlock()


def test_an_invalid_configuration_is_logged_and_stops_gunicorn() -> None:
    fake = FakeWorker()
    problem = Problem("models.a.cmd", "is missing", line=3, column=5)
    with pytest.raises(SystemExit, match="3"):
        module.fail_boot(fake, ConfigError([problem], "c.yaml"))
    assert fake.lines == ["c.yaml:3:5: models.a.cmd: is missing"]


@pytest.mark.parametrize("number", SIGNALS)
def test_feeds_end_first_and_gunicorn_gets_one_signal(gunicorn, left, service, number) -> None:
    signal.raise_signal(number)
    signal.raise_signal(number)
    service.closed.wait()
    assert service.calls == ["end feeds", "close within 0"]
    assert (gunicorn.heard, left) == ([number], [])


@pytest.mark.usefixtures("left")
def test_at_term_the_models_stop_once_the_listeners_are_closed(gunicorn, service) -> None:
    listener = socket.socket()
    gunicorn.sockets = [listener]
    signal.raise_signal(signal.SIGTERM)
    while not service.calls:
        gevent.sleep(0)
    assert service.calls == ["end feeds"]
    listener.close()
    service.closed.wait()


def test_a_later_second_signal_does_not_wait(left, service, monkeypatch) -> None:
    monkeypatch.setattr(module, "REPEAT_S", -1)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert left == []
    signal.raise_signal(signal.SIGQUIT)
    assert (service.calls[0], left) == ("kill", [1])
    service.closed.wait()
