"""Bytes pass both ways until either side ends, and then everything is given back."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from llmsnap.proxy import tunnel
from llmsnap.proxy.disconnect import ClientMonitor
from llmsnap.proxy.request import Request
from tests.fakes.calls import make_request
from tests.proxy.fakes import FakeExchange
from tests.server.raw import RawClient

ASKING = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "keep-alive, Upgrade"}
UPGRADE = [("Connection", "upgrade"), ("Upgrade", "WebSocket")]


def call_with(sock: Any = None, **facts: Any) -> Request:
    given = {"environ": ASKING, "monitor": ClientMonitor(None), "socket": sock}
    return make_request("/v1/realtime", **{**given, **facts})


class Ends:
    """The far ends of a client's connection and of a model server's."""

    def __init__(self, early: bytes = b"") -> None:
        client, self.near = socket.socketpair()
        upstream, inner = socket.socketpair()
        self.client, self.upstream = RawClient(None, client), RawClient(None, upstream)
        self.request, self.exchange = call_with(self.near), FakeExchange(sock=inner, early=early)
        self.ended: list[int] = []

    def run(self, *call: Any) -> None:
        self.greenlet = gevent.spawn(*call)

    def join(self) -> None:
        self.greenlet.get(timeout=3)
        assert self.ended == [1]

    def close(self) -> None:
        self.client.close()
        self.upstream.close()
        self.greenlet.join(timeout=3)
        assert self.greenlet.ready()
        self.near.close()
        self.exchange.close()


class Running(Ends):
    """A tunnel, not yet run."""

    def __init__(self, ahead: bytes = b"", early: bytes = b"") -> None:
        super().__init__(early)
        self.exchange.headers = [("Sec-WebSocket-Accept", "abc"), *UPGRADE]
        answer = tunnel.answer(self.request, self.exchange, lambda: self.ended.append(1))
        self.tunnel = answer.body
        self.run(self.tunnel.run, answer.headers, ahead)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running(ahead=b"from the client", early=b"from the upstream")
    yield made
    made.close()


@pytest.fixture
def started(running) -> Running:
    head = running.client.head()
    upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
    assert (head.status, head.headers) == (101, {"sec-websocket-accept": "abc", **upgrade})
    assert running.client.exactly(17) == b"from the upstream"
    assert running.upstream.exactly(15) == b"from the client"
    return running


def test_bytes_pass_both_ways_at_once_and_are_counted(started) -> None:
    size, up, down = 3_000_000, 15, 17
    ways = [
        gevent.spawn(started.client.send, b"a" * size),
        gevent.spawn(started.upstream.send, b"b" * size),
    ]
    assert started.upstream.exactly(size) == b"a" * size
    assert started.client.exactly(size) == b"b" * size
    gevent.joinall(ways, raise_error=True)
    assert (started.tunnel.received, started.tunnel.sent) == (size + up, size + down)


@pytest.mark.parametrize(("first", "second"), [("client", "upstream"), ("upstream", "client")])
def test_it_ends_when_either_side_does(started, first: str, second: str) -> None:
    ends, stays = getattr(started, first), getattr(started, second)
    ends.send(b"last words")
    ends.close()
    assert stays.rest() == b"last words"
    stays.close()
    started.join()


def test_a_side_that_has_said_all_may_still_listen(started) -> None:
    started.client.half_close()
    assert started.upstream.rest() == b""
    started.upstream.send(b"an answer")
    started.upstream.close()
    assert started.client.rest() == b"an answer"
    started.join()


@pytest.mark.parametrize("ends", ["client", "upstream"])
def test_but_not_for_ever(monkeypatch, started, ends: str) -> None:
    monkeypatch.setattr(tunnel, "HALF_OPEN_S", 0.01)
    getattr(started, ends).half_close()
    started.join()
    assert started.client.rest() == started.upstream.rest() == b""


def test_a_cut_ends_both_sides(started) -> None:
    started.tunnel.cut()
    assert started.client.rest() == started.upstream.rest() == b""
    started.join()
    started.tunnel.cut()


def test_a_cut_reaches_a_tunnel_whose_client_does_not_read(started) -> None:
    stuffed = gevent.spawn(started.upstream.send, b"x" * 10_000_000)
    while started.tunnel.sent <= 17:
        gevent.sleep(0)
    gevent.idle()
    assert not stuffed.ready(), "nothing is piled up for it"
    started.tunnel.cut()
    started.join()
    with pytest.raises(BrokenPipeError):
        stuffed.get()


def test_a_client_that_has_left_before_the_head(running) -> None:
    running.client.close()
    running.join()
    assert running.upstream.rest() == b""


def test_a_tunnel_that_is_never_run_gives_everything_back_too(running) -> None:
    running.greenlet.kill()
    running.tunnel.close()
    running.tunnel.close()
    assert running.ended == [1]
    assert running.upstream.rest() == b""


def test_tcp_peers_that_vanish_are_noticed() -> None:
    with socket.socket() as sock:
        tunnel.notice_lost_peer(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


ASKED = [
    ({}, True),
    ({"environ": {"HTTP_UPGRADE": "WebSocket", "HTTP_CONNECTION": "upgrade"}}, True),
    ({"environ": {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade"}}, False),
    ({"environ": {"HTTP_UPGRADE": "websocket"}}, False),
    ({"environ": {"HTTP_CONNECTION": "Upgrade"}}, False),
    ({"method": "POST"}, False),
    ({"length": 5}, False),
    ({"length": None}, False),
    ({"protocol": "HTTP/1.0"}, False),
    ({"socket": None}, False),
]


def test_what_asks_for_a_websocket() -> None:
    found = [tunnel.is_wanted(call_with(object(), **facts)) for facts, _ in ASKED]
    assert found == [wanted for _, wanted in ASKED]
