"""How many connections there may be, what becomes of the rest, and the end of all."""

import errno

import gevent
import pytest
from gevent.event import Event

from llmsnap.server import listener as listener_module
from llmsnap.server.connections import Limits
from tests.server.raw import answering, request


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
    serving = serve(ok, limits=Limits(connections=3))
    clients = [serving.connect() for _ in range(2)]
    for client in clients:
        assert client.ask(request()).status == 200
    third = serving.connect()
    assert third.ask(request()).headers["connection"] == "close", "all seats are taken"
    fourth, fifth = serving.connect(), serving.connect()
    assert fourth.ask(request()).status == 200
    assert fifth.ask(request()).status == 200
    assert clients[0].rest() == b""


def test_connections_that_are_served_are_never_closed_for_others(serve) -> None:
    app = Gated()
    serving = serve(app, limits=Limits(connections=1))
    first = serving.connect()
    first.send(request("/slow"))
    app.entered.wait()
    second = serving.connect()
    second.send(request())
    gevent.idle()
    assert len(serving.server.pool) == 1
    app.gate.set()
    assert first.answer().headers["connection"] == "close", "somebody waits for its place"
    assert second.answer().body == b"ok"


def test_silent_connections_go_when_there_are_no_idle_ones(serve) -> None:
    serving = serve(ok, limits=Limits(connections=2))
    silent = [serving.connect() for _ in range(5)]
    assert serving.connect().ask(request()).status == 200
    assert silent[0].rest() == b""


def read(environ, start_response):
    environ["wsgi.input"].read()
    return ok(environ, start_response)


def until(fact) -> None:
    while not fact():
        gevent.idle()


@pytest.mark.parametrize(
    "begun",
    [
        request("/", "POST", "Content-Length: 5"),
        request("/", "POST", "Content-Length: 5", body=b"hell"),
        request("/", "POST", "Transfer-Encoding: chunked"),
        request("/", "POST", "Transfer-Encoding: chunked", body=b"5\r\nhel"),
        request("/", "POST", "Content-Length: 5", "Expect: 100-continue"),
    ],
)
def test_bodies_that_do_not_come_make_room(serve, begun: bytes) -> None:
    serving = serve(answering(read), limits=Limits(connections=3))
    stalled = [serving.connect() for _ in range(3)]
    for count, client in enumerate(stalled, 1):
        client.send(begun)
        until(lambda count=count: len(serving.server.connections.bodies) == count)
    assert serving.connect().ask(request()).status == 200
    answer = stalled[0].answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert stalled[0].rest() == b""
    assert len(serving.server.connections.bodies) == 2


def test_who_does_not_stop_sending_after_the_last_answer_makes_room(serve) -> None:
    serving = serve(ok, limits=Limits(connections=1))
    client = serving.connect()
    client.send(request("/", "POST", "Content-Length: 9999999"))
    assert client.answer().headers["connection"] == "close"
    assert len(serving.server.connections.lingering) == 1
    assert serving.connect().ask(request()).status == 200


class Failing:
    """Has some of the server's attempts to accept fail."""

    def __init__(self, monkeypatch) -> None:
        self.failures: list[OSError] = []
        true_read = listener_module.WSGIServer.do_read

        def do_read(server):
            if self.failures:
                raise self.failures.pop()
            return true_read(server)

        monkeypatch.setattr(listener_module.WSGIServer, "do_read", do_read)


@pytest.fixture
def failing(monkeypatch) -> Failing:
    monkeypatch.setattr(listener_module, "PAUSE_S", 0.01)
    return Failing(monkeypatch)


def test_running_out_of_descriptors_is_logged_once_and_survived(serve, failing, caplog) -> None:
    serving = serve(ok)
    for _ in range(2):
        failing.failures += [OSError(errno.EMFILE, "Too many open files")] * 3
        assert serving.connect().ask(request()).status == 200
        assert not failing.failures
    assert caplog.text.count("cannot accept connections for now: Too many open files") == 1


def test_a_later_shortage_is_logged_again(serve, failing, caplog, monkeypatch) -> None:
    monkeypatch.setattr(listener_module, "SHORTAGE_OVER_S", 0)
    serving = serve(ok)
    for _ in range(2):
        failing.failures.append(OSError(errno.ENFILE, "Too many open files in system"))
        assert serving.connect().ask(request()).status == 200
    assert caplog.text.count("Too many open files in system") == 2


def test_a_shortage_costs_an_idle_connection_its_place(serve, failing) -> None:
    serving = serve(ok)
    idle = serving.connect()
    assert idle.ask(request()).status == 200
    failing.failures.append(OSError(errno.EMFILE, "Too many open files"))
    assert serving.connect().ask(request()).status == 200
    assert idle.rest() == b""


def test_a_connection_gone_before_it_was_accepted_is_nothing_new(serve, failing, caplog) -> None:
    serving = serve(ok)
    failing.failures.append(OSError(errno.ECONNABORTED, "gone"))
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


def test_who_had_just_connected_when_draining_began_is_still_answered(serve) -> None:
    serving = serve(ok)
    late = serving.connect()
    with gevent.Timeout(5):
        while not len(serving.server.connections.heads):
            gevent.sleep(0.001)
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


def test_a_unix_socket_goes_with_its_server(serve, tmp_path) -> None:
    serving = serve(ok, f"unix:{tmp_path}/s")
    assert (tmp_path / "s").exists()
    serving.server.drain()
    assert not (tmp_path / "s").exists()


def test_and_a_successor_keeps_its_own(serve, tmp_path) -> None:
    first = serve(ok, f"unix:{tmp_path}/s")
    first.server.drain()
    second = serve(ok, f"unix:{tmp_path}/s")
    first.server.finish(0)
    assert second.connect().ask(request()).status == 200


def test_there_are_no_more_places_than_descriptors_allow(serve, monkeypatch, caplog) -> None:
    monkeypatch.setattr(listener_module, "open_files", lambda: 70)
    serving = serve(ok)
    assert serving.server.places == 3
    assert "3 connections at a time: open files are limited to 70" in caplog.text
    clients = [serving.connect() for _ in range(20)]
    assert clients[-1].ask(request()).status == 200
    assert len(serving.server.pool) <= 3


@pytest.mark.parametrize(("seats", "at_once"), [(1000, 8), (8, 1), (2, 1)])
def test_many_are_accepted_at_once_unless_seats_are_few(serve, seats, at_once) -> None:
    serving = serve(ok, limits=Limits(connections=seats))
    assert serving.server.max_accept == at_once
    clients = [serving.connect() for _ in range(min(seats - 1, 70))]
    assert [client.ask(request()).status for client in clients] == [200] * len(clients)
