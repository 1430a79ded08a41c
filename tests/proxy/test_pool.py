import pytest
from gevent import socket

from llmsnap.errors import Unreachable, UpstreamTimeout
from llmsnap.models import parse_address
from llmsnap.proxy import client as module
from llmsnap.proxy.client import ConnectionPool, UpstreamConnection, connect, key_of

ADDRESS = parse_address("http://127.0.0.1:9")


@pytest.fixture
def pool():
    made = ConnectionPool()
    yield made
    made.close()


@pytest.fixture
def pairs():
    made: list[tuple[socket.socket, socket.socket]] = []

    def make() -> tuple[UpstreamConnection, socket.socket]:
        ours, theirs = socket.socketpair()
        made.append((ours, theirs))
        return UpstreamConnection(key_of(ADDRESS), ours), theirs

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


def test_on_this_machine_nobody_is_asked_nor_waited_for(monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a thread was asked, or the loop waited")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr(socket, "create_connection", never)
        monkeypatch.setattr(socket.socket, "connect", never)
        with connect(parse_address(f"http://127.0.0.1:{port}"), 2) as link:
            assert link.gettimeout() == 2
            link.sendall(b"x")


def test_a_handshake_that_is_not_over_at_once_is_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(module, "_is_connected", lambda _: False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with connect(parse_address(f"http://127.0.0.1:{port}"), 2) as link:
            link.sendall(b"x")
    with pytest.raises(Unreachable, match="Connection refused"):
        connect(parse_address(f"http://127.0.0.1:{port}"), 2)


def test_nobody_accepts_within_the_limit() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        filling = [socket.socket() for _ in range(3)]
        for one in filling:
            one.settimeout(0)
            one.connect_ex(address)
        with pytest.raises(UpstreamTimeout):
            connect(parse_address(f"http://127.0.0.1:{address[1]}"), 0.05)
        for one in filling:
            one.close()


def test_a_name_is_looked_up() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        module._dial("localhost", port, 2).close()
