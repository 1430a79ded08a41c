"""Bytes pass both ways until either side ends, and then everything is given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.proxy import tunnel
from llmsnap.proxy.disconnect import ClientMonitor
from llmsnap.proxy.request import Request
from tests.fakes.calls import make_request
from tests.server.raw import RawClient

ASKING = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "keep-alive, Upgrade"}


def call_with(sock: Any = None, environ: dict[str, str] | None = None, **facts: Any) -> Request:
    given = {"environ": ASKING if environ is None else environ, "monitor": ClientMonitor(None)}
    return make_request("/v1/realtime", **{**given, "socket": sock, **facts})


class FakeExchange:
    status = 101
    reason = "Switching Protocols"
    headers = (("Sec-WebSocket-Accept", "abc"), ("Connection", "upgrade"), ("Upgrade", "WebSocket"))

    def __init__(self, sock: socket.socket, early: bytes) -> None:
        self.sock = sock
        self.early = early

    def upgraded(self) -> tuple[socket.socket, bytes]:
        return self.sock, self.early

    def close(self) -> None:
        self.sock.close()


class Running:
    """A tunnel under way, with the far ends of both its sockets."""

    def __init__(self, ahead: bytes = b"", early: bytes = b"") -> None:
        client, self.near = socket.socketpair()
        upstream, inner = socket.socketpair()
        self.client, self.upstream = RawClient(None, client), RawClient(None, upstream)
        self.ended: list[int] = []
        answer = tunnel.answer(
            call_with(self.near), FakeExchange(inner, early), lambda: self.ended.append(1)
        )
        self.tunnel = answer.body
        self.greenlet = gevent.Greenlet(self.tunnel.run, answer.headers, ahead)
        self.greenlet.start()

    def join(self) -> None:
        self.greenlet.get(timeout=3)
        assert self.ended == [1]

    def close(self) -> None:
        self.client.close()
        self.upstream.close()
        self.greenlet.join()
        self.near.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    made.client.until(b"\r\n\r\n")
    yield made
    made.close()


def test_the_head_passes_with_what_an_upgrade_needs_and_what_came_early() -> None:
    made = Running(ahead=b"from the client", early=b"from the upstream")
    head = made.client.head()
    upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
    assert (head.status, head.headers) == (101, {"sec-websocket-accept": "abc", **upgrade})
    assert made.client.exactly(17) == b"from the upstream"
    assert made.upstream.exactly(15) == b"from the client"
    made.close()


def test_bytes_pass_both_ways_at_once_and_are_counted(running) -> None:
    size = 3_000_000
    ways = [
        gevent.Greenlet(running.client.send, b"a" * size),
        gevent.Greenlet(running.upstream.send, b"b" * size),
    ]
    for way in ways:
        way.start()
    assert running.upstream.exactly(size) == b"a" * size
    assert running.client.exactly(size) == b"b" * size
    gevent.joinall(ways, raise_error=True)
    assert (running.tunnel.received, running.tunnel.sent) == (size, size)
    assert repr(running.tunnel) == f"<tunnel r-1, {size} bytes up, {size} down>"


@pytest.mark.parametrize(("first", "second"), [("client", "upstream"), ("upstream", "client")])
def test_it_ends_when_either_side_does(running, first: str, second: str) -> None:
    ends, stays = getattr(running, first), getattr(running, second)
    ends.send(b"last words")
    ends.close()
    assert stays.rest() == b"last words"
    stays.close()
    running.join()


def test_a_side_that_has_said_all_may_still_listen(running) -> None:
    running.client.half_close()
    assert running.upstream.rest() == b""
    running.upstream.send(b"an answer")
    running.upstream.close()
    assert running.client.rest() == b"an answer"
    running.join()


@pytest.mark.parametrize("ends", ["client", "upstream"])
def test_but_not_for_ever(monkeypatch, ends: str) -> None:
    monkeypatch.setattr(tunnel, "HALF_OPEN_S", 0.01)
    made = Running()
    made.client.head()
    getattr(made, ends).half_close()
    made.join()
    assert made.client.rest() == made.upstream.rest() == b""
    made.close()


def test_a_cut_ends_both_sides(running) -> None:
    running.tunnel.cut()
    assert running.client.rest() == running.upstream.rest() == b""
    running.join()
    running.tunnel.cut()


def test_a_cut_reaches_a_tunnel_whose_client_does_not_read(running) -> None:
    stuffed = gevent.Greenlet(running.upstream.send, b"x" * 10_000_000)
    stuffed.start()
    while running.tunnel.sent == 0:
        gevent.sleep(0)
    gevent.idle()
    assert not stuffed.ready(), "nothing is piled up for it"
    running.tunnel.cut()
    running.join()
    with pytest.raises(BrokenPipeError):
        stuffed.get()


def test_a_client_that_has_left_before_the_head(monkeypatch) -> None:
    client, near = socket.socketpair()
    upstream, inner = socket.socketpair()
    client.close()
    ended = Event()
    answer = tunnel.answer(call_with(near), FakeExchange(inner, b""), ended.set)
    answer.body.run(answer.headers, b"")
    assert ended.is_set()
    assert upstream.recv(10) == b""
    upstream.close()
    near.close()


def test_a_tunnel_that_is_never_run_gives_everything_back_too() -> None:
    client, near = socket.socketpair()
    upstream, inner = socket.socketpair()
    ended: list[int] = []
    made = tunnel.Tunnel(call_with(near), FakeExchange(inner, b""), lambda: ended.append(1))
    made.close()
    made.close()
    assert ended == [1]
    assert upstream.recv(10) == b""
    for sock in (client, near, upstream):
        sock.close()


def test_tcp_peers_that_vanish_are_noticed() -> None:
    with socket.socket() as sock:
        tunnel.notice_lost_peer(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    ("environ", "facts", "wanted"),
    [
        (ASKING, {}, True),
        ({"HTTP_UPGRADE": "WebSocket", "HTTP_CONNECTION": "upgrade"}, {}, True),
        ({"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade, HTTP2-Settings"}, {}, False),
        ({"HTTP_UPGRADE": "websocket"}, {}, False),
        ({}, {}, False),
        (ASKING, {"method": "POST"}, False),
        (ASKING, {"length": 5}, False),
        (ASKING, {"length": None}, False),
        (ASKING, {"protocol": "HTTP/1.0"}, False),
        (ASKING, {"sock": None}, False),
    ],
)
def test_what_asks_for_a_websocket(environ, facts, wanted: bool) -> None:
    call = call_with(**{"sock": object(), "environ": environ, **facts})
    assert tunnel.is_wanted(call) is wanted
