"""Listening sockets, the limit of connections, the greenlets that serve them, and draining."""

import errno
import os
import weakref
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.server import deadlines
from llmsnap.server import listener as module
from llmsnap.server.bind import address_of, open_listener, remove_socket, split_host_port
from llmsnap.server.deadlines import ConnectionLimits, Deadlines
from llmsnap.server.listener import GreenletPool
from tests.server.raw import answering, request, until


def ok(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


class Gated:
    """Answers ``/slow`` when the gate opens."""

    def __init__(self) -> None:
        self.gate = Event()
        self.entered = Event()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            self.entered.set()
            self.gate.wait()
        return ok(environ, start_response)


def test_beyond_the_limit_the_oldest_idle_connection_goes(serve) -> None:
    serving = serve(ok, limits=ConnectionLimits(connections=3))
    clients = [serving.connect() for _ in range(2)]
    for client in clients:
        assert client.ask(request()).status == 200
    third = serving.connect()
    assert third.ask(request()).headers["connection"] == "close", "all pool are taken"
    assert [client.ask(request()).status for client in clients] == [200, 200], "none left for it"
    fourth, fifth = serving.connect(), serving.connect()
    assert fourth.ask(request()).status == 200
    assert fifth.ask(request()).status == 200
    assert clients[0].rest() == b""


def test_connections_that_are_served_are_never_closed_for_others(serve) -> None:
    app = Gated()
    serving = serve(app, limits=ConnectionLimits(connections=1))
    first = serving.connect()
    first.send(request("/slow"))
    app.entered.wait()
    second = serving.connect()
    second.send(request())
    gevent.idle()
    assert len(serving.server.pool) == 1
    app.gate.set()
    assert first.answer().headers["connection"] == "close", "another client waits for its place"
    assert second.answer().body == b"ok"


def read(environ, start_response):
    environ["wsgi.input"].read()
    return ok(environ, start_response)


@pytest.mark.parametrize(
    "begun",
    [
        request("/", "POST", "Transfer-Encoding: chunked", body=b"5\r\nhel"),
        request("/", "POST", "Content-Length: 5", "Expect: 100-continue"),
    ],
)
def test_bodies_that_do_not_come_make_room(serve, begun: bytes) -> None:
    serving = serve(answering(read), limits=ConnectionLimits(connections=3))
    stalled = [serving.connect() for _ in range(3)]
    for count, client in enumerate(stalled, 1):
        client.send(begun)
        until(lambda count=count: len(serving.server.deadlines.bodies) == count)
    assert serving.connect().ask(request()).status == 200
    answer = stalled[0].answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert stalled[0].rest() == b""
    assert len(serving.server.deadlines.bodies) == 2


def test_a_lingering_connection_makes_room(serve) -> None:
    serving = serve(ok, limits=ConnectionLimits(connections=1))
    client = serving.connect()
    client.send(request("/", "POST", "Content-Length: 9999999"))
    assert client.answer().headers["connection"] == "close"
    until(lambda: len(serving.server.deadlines.lingering))
    assert serving.connect().ask(request()).status == 200


@pytest.fixture
def failures(monkeypatch) -> list[OSError]:
    """What the server's next attempts to accept raise."""
    made: list[OSError] = []
    true_read = module.WSGIServer.do_read

    def do_read(server):
        if made:
            raise made.pop()
        return true_read(server)

    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    monkeypatch.setattr(module.WSGIServer, "do_read", do_read)
    return made


@pytest.mark.parametrize("goes_on", [True, False])
def test_running_out_of_descriptors_is_survived_and_logged_once_per_shortage(
    serve, failures, caplog, monkeypatch, goes_on: bool
) -> None:
    if not goes_on:
        monkeypatch.setattr(module, "SHORTAGE_OVER_S", 0)
    serving = serve(ok)
    for _ in range(2):
        failures += [OSError(errno.EMFILE, "Too many open files")] * 3
        assert serving.connect().ask(request()).status == 200
        assert not failures
        if not goes_on:
            gevent.sleep(0.001)
    told = caplog.text.count("cannot accept connections for now: Too many open files")
    assert told == 1 if goes_on else told > 1


def test_a_shortage_costs_an_idle_connection_its_place(serve, failures) -> None:
    serving = serve(ok)
    idle = serving.connect()
    assert idle.ask(request()).status == 200
    failures.append(OSError(errno.EMFILE, "Too many open files"))
    assert serving.connect().ask(request()).status == 200
    assert idle.rest() == b""


def test_a_connection_gone_before_it_was_accepted_is_nothing_new(serve, failures, caplog) -> None:
    serving = serve(ok)
    failures.append(OSError(errno.ECONNABORTED, "gone"))
    assert serving.connect().ask(request()).status == 200
    assert caplog.text == ""


def test_draining_ends_idle_connections_and_lets_the_others_answer(serve) -> None:
    app = Gated()
    serving = serve(app)
    idle, busy, silent = serving.connect(), serving.connect(), serving.connect()
    assert idle.ask(request()).status == 200
    busy.send(request("/slow") + request())
    app.entered.wait()
    serving.server.drain()
    assert idle.rest() == b""
    assert silent.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        serving.connect()
    app.gate.set()
    assert busy.answer().headers["connection"] == "close"
    serving.server.finish(0.1)
    assert busy.rest() == b""


def test_a_client_that_just_connected_when_draining_began_is_answered(serve, monkeypatch) -> None:
    monkeypatch.setattr(deadlines, "LAST_HEAD_S", 60)
    serving = serve(ok)
    late = serving.connect()
    until(lambda: len(serving.server.deadlines.heads))
    serving.server.drain()
    answer = late.ask(request())
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_what_does_not_end_in_time_is_ended(serve) -> None:
    app = Gated()
    serving = serve(app)
    client = serving.connect()
    client.send(request("/slow"))
    app.entered.wait()
    serving.server.finish(0.01)
    assert client.rest() == b""
    serving.server.finish(0)


def test_a_unix_socket_goes_with_its_server_and_a_successor_keeps_its_own(serve, tmp_path) -> None:
    first = serve(ok, f"unix:{tmp_path}/s")
    assert (tmp_path / "s").exists()
    first.server.drain()
    assert not (tmp_path / "s").exists()
    second = serve(ok, f"unix:{tmp_path}/s")
    first.server.finish(0)
    assert second.connect().ask(request()).status == 200


def test_there_are_no_more_places_than_descriptors_allow(serve, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "open_files", lambda: 70)
    serving = serve(ok)
    assert serving.server.max_connections == 3
    assert "3 connections at a time: open files are limited to 70" in caplog.text
    clients = [serving.connect() for _ in range(20)]
    assert clients[-1].ask(request()).status == 200
    assert len(serving.server.pool) <= 3


# --- the pool of greenlets ------------------------------------------------------------------------


class Served:
    """One connection, served until the gate opens."""

    def __init__(self) -> None:
        self.gate = Event()
        self.greenlet: object = None

    def serve(self) -> None:
        self.greenlet = gevent.getcurrent()
        self.gate.wait()


@pytest.fixture
def pool():
    made = GreenletPool(3, Deadlines(ConnectionLimits()))
    yield made
    made.kill()
    made.close()


def take(pool: GreenletPool, count: int = 1) -> list[Served]:
    served = [Served() for _ in range(count)]
    for one in served:
        pool.spawn(one.serve)
    gevent.idle()
    return served


def leave(*served: Served) -> None:
    for one in served:
        one.gate.set()
    gevent.idle()


def test_reused_greenlets_count_as_much_as_new_ones(pool) -> None:
    served = take(pool, 3)
    assert pool.is_full
    leave(*served[:2])
    assert pool.free_count() == 2
    again = take(pool, 2)
    assert pool.is_full
    assert {one.greenlet for one in again} == {one.greenlet for one in served[:2]}
    leave(served[2], *again)
    assert pool.free_count() == 3


def test_few_idle_greenlets_are_kept(pool, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 1)
    served = take(pool, 3)
    leave(*served)
    assert sum(one.greenlet.dead for one in served) == 2


def test_an_idle_greenlet_keeps_nothing_of_its_connection(pool) -> None:
    for _ in range(2):  # the first of a greenlet, and one that it was given later
        (one,) = take(pool)
        leave(one)
        gone = weakref.ref(one)
        del one
        assert gone() is None, "without the collector"


def test_a_connection_that_fails_ends_its_greenlet_and_frees_its_place(pool) -> None:
    def fail() -> None:
        raise OSError("as gevent prints it")

    (first,) = take(pool)
    leave(first)
    gevent.get_hub().exception_stream, before = None, gevent.get_hub().exception_stream
    try:
        pool.spawn(fail)
        gevent.idle()
    finally:
        gevent.get_hub().exception_stream = before
    assert first.greenlet.dead
    assert pool.free_count() == 3
    (second,) = take(pool)
    assert second.greenlet is not first.greenlet


def test_close_ends_idle_greenlets_now_and_the_others_after_their_connection(pool) -> None:
    stays, goes = take(pool, 2)
    leave(goes)
    pool.close()
    assert goes.greenlet.dead
    leave(stays)
    assert stays.greenlet.dead
    assert pool.free_count() == 3


# --- listening sockets ----------------------------------------------------------------------------


ADDRESSES = {
    ":8080": ("", 8080),
    "0.0.0.0:80": ("0.0.0.0", 80),
    "localhost:0": ("localhost", 0),
    "[::1]:65535": ("::1", 65535),
}


def test_addresses() -> None:
    assert {text: split_host_port(text) for text in ADDRESSES} == ADDRESSES
    for text in ("", "8080", "host", "host:", "host:http", ":65536", ":\u0661"):
        with pytest.raises(ValueError, match="not an address to listen on"):
            split_host_port(text)


def test_accepted_sockets_send_at_once_and_notice_lost_clients() -> None:
    with open_listener("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


def test_no_host_means_both_families_and_ipv6_has_brackets() -> None:
    with open_listener(":0") as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, tls=False) == f"http://[::]:{port}"
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()
    with open_listener("[::1]:0") as listener:
        assert address_of(listener, tls=True) == f"https://[::1]:{listener.getsockname()[1]}"


def test_a_port_in_use_is_said_so() -> None:
    with open_listener("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(OSError, match=rf"{address}: Address already in use"):
            open_listener(address)
    with open_listener(":0") as listener, pytest.raises(OSError, match="in use"):
        open_listener(f":{listener.getsockname()[1]}")


def test_a_unix_socket_replaces_what_a_dead_server_left(tmp_path) -> None:
    listen = f"unix:{tmp_path}/s"
    open_listener(listen).close()
    with open_listener(listen) as listener:
        assert address_of(listener, tls=False) == listen
        with pytest.raises(OSError, match="in use by a running server") as caught:
            open_listener(listen)
        assert caught.value.errno == errno.EADDRINUSE
    remove_socket(str(tmp_path / "s"))
    remove_socket(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def a_link_to_a_socket(path: Path) -> None:
    open_listener(f"unix:{path}-other").close()
    path.symlink_to(f"{path.name}-other")


@pytest.mark.parametrize(
    "make",
    [Path.touch, a_link_to_a_socket, lambda path: path.symlink_to("none"), Path.mkdir, os.mkfifo],
    ids=["file", "link to a socket", "dangling link", "folder", "fifo"],
)
def test_what_is_no_socket_is_never_removed(tmp_path, make) -> None:
    path = tmp_path / "s"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=r"s exists and is not a socket: remove it, or give"):
        open_listener(f"unix:{path}")
    remove_socket(str(path))
    assert path.lstat().st_ino == before.st_ino


def test_a_socket_that_something_else_has_is_left_to_it(tmp_path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:{path}")
        assert (tmp_path / "s").exists()
    with pytest.raises(OSError, match="No such file"):
        open_listener(f"unix:{tmp_path}/no/such/s")
