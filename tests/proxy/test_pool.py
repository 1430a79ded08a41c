import pytest
from gevent import socket

from llmsnap.errors import Unreachable
from llmsnap.proxy import pool as module
from llmsnap.proxy.pool import Connection, ConnectionPool, connect, key_of
from llmsnap.upstream.control import parse_address

ADDRESS = parse_address("http://127.0.0.1:9")


@pytest.fixture
def pool():
    made = ConnectionPool()
    yield made
    made.close()


@pytest.fixture
def pairs():
    made: list[tuple[socket.socket, socket.socket]] = []

    def make() -> tuple[Connection, socket.socket]:
        ours, theirs = socket.socketpair()
        made.append((ours, theirs))
        return Connection(key_of(ADDRESS), ours), theirs

    yield make
    for pair in made:
        for sock in pair:
            sock.close()


def test_the_newest_idle_connection_is_lent_first(pool: ConnectionPool, pairs) -> None:
    first, second = pairs()[0], pairs()[0]
    pool.give_back(first)
    pool.give_back(second)
    assert pool.take(key_of(ADDRESS)) is second
    assert pool.take(key_of(ADDRESS)) is first
    assert pool.take(key_of(ADDRESS)) is None


def test_a_closed_or_talking_connection_is_not_lent(pool: ConnectionPool, pairs) -> None:
    (closed, theirs), (talking, other) = pairs(), pairs()
    pool.give_back(closed)
    pool.give_back(talking)
    theirs.close()
    other.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert pool.take(key_of(ADDRESS)) is None


def test_an_old_connection_is_not_lent(pool: ConnectionPool, pairs, monkeypatch) -> None:
    pool.give_back(pairs()[0])
    monkeypatch.setattr(module, "IDLE_LIMIT_S", -1)
    assert pool.take(key_of(ADDRESS)) is None


def test_only_so_many_are_kept(pool: ConnectionPool, pairs, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 1)
    pool.give_back(pairs()[0])
    newest = pairs()[0]
    pool.give_back(newest)
    assert repr(pool) == "<ConnectionPool 1 idle>"
    assert pool.take(key_of(ADDRESS)) is newest


def test_those_to_an_upstream_that_has_gone_are_forgotten(pool: ConnectionPool, pairs) -> None:
    pool.give_back(pairs()[0])
    pool.forget(ADDRESS)
    pool.forget(ADDRESS)
    assert repr(pool) == "<ConnectionPool 0 idle>"


def test_localhost_is_tried_on_both_loopback_addresses() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with connect(parse_address(f"http://localhost:{port}"), 2) as link:
            assert link.getpeername()[0] == "::1"
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(Unreachable, match=f"cannot connect to localhost:{port}"):
        connect(parse_address(f"http://localhost:{port}"), 2)
