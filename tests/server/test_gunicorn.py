"""Facts about llmsnap.server.gunicorn: a server that a worker of gunicorn's makes and closes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gevent import socket
from gevent.pool import Pool

from llmsnap.server.bind import bind
from llmsnap.server.gunicorn import GuestServer, take_connections
from tests.server.raw import RawClient, request
from tests.server.test_listener import Gated, ok


def worker_of(**settings: Any) -> SimpleNamespace:
    told: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: told.append(text % values))
    cfg = SimpleNamespace(**{"keepalive": 75, "accesslog": None, **settings})
    return SimpleNamespace(cfg=cfg, log=log, told=told, server_class=None)


@pytest.fixture
def guest():
    made: list[GuestServer] = []

    def make(app: Any = ok, listen: str = "127.0.0.1:0", **options: Any) -> GuestServer:
        worker = worker_of()
        take_connections(worker)
        more = {"log": None, "handler_class": None, "environ": {"wsgi.multithread": True}}
        options = {"spawn": Pool(5), **more, **options}
        made.append(worker.server_class(bind(listen), application=app, **options))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.finish(0)


def connect(server: GuestServer) -> RawClient:
    return RawClient(server.address)


def test_it_serves_as_many_as_gunicorn_was_told(guest) -> None:
    server = guest(spawn=Pool(1))
    assert server.pool.size == 1
    client = connect(server)
    answer = client.ask(request())
    assert (answer.status, answer.headers["connection"]) == (200, "close"), "its seat is the last"
    client.close()


def test_idle_connections_have_gunicorns_time(guest) -> None:
    server = guest()
    client = connect(server)
    assert client.ask(request()).status == 200
    assert repr(server.connections.idle) == "<Deadline of 75 s for 1>"
    client.close()


def test_clients_get_what_our_own_listeners_give_them() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = GuestServer(listener, ok, spawn=Pool(5), idle_s=1)
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server.finish(0)


def test_closing_ends_idle_connections_and_lets_the_others_answer(guest) -> None:
    app = Gated()
    server = guest(app)
    idle, busy = connect(server), connect(server)
    assert idle.ask(request()).status == 200
    busy.send(request("/slow"))
    app.entered.wait()
    server.close()
    assert idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    assert server.pool.free_count() == server.pool.size - 1, "gunicorn waits for it"
    app.gate.set()
    assert busy.answer().headers["connection"] == "close"
    busy.close()
    server.stop(timeout=1)
    assert server.pool.free_count() == server.pool.size
    idle.close()


def test_the_socket_file_is_left_to_the_next_worker(guest, tmp_path) -> None:
    path = tmp_path / "s"
    server = guest(listen=f"unix:{path}")
    client = connect(server)
    assert client.ask(request()).status == 200
    client.close()
    server.finish(0)
    assert path.exists()


def test_gunicorns_certificate_is_used(guest) -> None:
    wrapped: list[dict[str, Any]] = []

    def wrap_socket(sock: socket.socket, **how: Any) -> socket.socket:
        wrapped.append(how)
        raise OSError("no handshake in this test")

    server = guest(ssl_context=SimpleNamespace(wrap_socket=wrap_socket))
    client = connect(server)
    assert client.rest() == b""
    assert wrapped == [{"server_side": True, "do_handshake_on_connect": False}]
    client.close()


def test_what_only_gunicorn_can_do_is_left_to_it() -> None:
    worker = worker_of(accesslog="-", proxy_protocol="auto", statsd_host=None)
    take_connections(worker)
    assert worker.server_class is None
    assert worker.told == ["gunicorn reads the requests itself, for accesslog, proxy_protocol"]
    worker = worker_of(proxy_protocol="off", statsd_host=None)
    take_connections(worker)
    assert worker.server_class is not None
    assert worker.told == []
