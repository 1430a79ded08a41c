import os
import select
import stat
from pathlib import Path

import gevent
import pytest
from gevent import socket

from llmsnap.sockets import (
    Readiness,
    exposed_addresses,
    listening_descriptors,
    occupy,
    send_all,
)


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 65536, 8_000_000])
def test_all_arrives_however_much_the_socket_takes_at_once(pair, size) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    reader = gevent.spawn(read_all, theirs)
    send_all(ours, data)
    ours.shutdown(socket.SHUT_WR)
    assert reader.get() == data


def test_whoever_does_not_read_is_waited_for_no_longer_than_the_sockets_timeout(pair) -> None:
    ours, _ = pair
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError):
        send_all(ours, b"x" * 8_000_000)


def test_a_peer_that_left_is_an_error(pair) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(BrokenPipeError):
        send_all(ours, b"x")


@pytest.fixture
def readiness(pair):
    made = Readiness(pair[0])
    yield made
    made.close()


def test_who_waits_is_woken_by_bytes_and_by_an_end(pair, readiness) -> None:
    ours, theirs = pair
    waiting = gevent.spawn(readiness.wait)
    gevent.idle()
    waiting.kill()  # which leaves it usable
    for act in (lambda: theirs.sendall(b"x"), lambda: theirs.sendall(b"x"), theirs.close):
        waiting = gevent.spawn(readiness.wait)
        gevent.idle()
        assert not waiting.ready()
        act()
        waiting.get()
        assert readiness.is_on
        ours.recv(1)


def test_bytes_that_no_greenlet_waits_for_are_reported_once_and_stop_the_watcher(pair) -> None:
    class Noting(Readiness):
        heard = 0

        def on_readable(self) -> None:
            self.heard += 1

    ours, theirs = pair
    noting = Noting(ours)
    noting.turn_on()
    theirs.sendall(b"x")
    for _ in range(3):
        gevent.idle()
    assert (noting.heard, noting.is_on) == (1, False)
    noting.wait()  # on again, and there is something still
    assert noting.heard == 1
    noting.close()


@pytest.mark.parametrize(
    ("family", "address", "exposed"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), ""),
        (socket.AF_INET, ("127.8.9.1", 0), ""),
        (socket.AF_INET6, ("::1", 0), ""),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 0), ""),
        (socket.AF_UNIX, "listener", ""),
        (socket.AF_INET, ("0.0.0.0", 0), "0.0.0.0:{}"),
        (socket.AF_INET6, ("::", 0), "[::]:{}"),
    ],
)
def test_what_is_reached_from_beyond_this_machine(
    family: int, address, exposed: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = exposed_addresses()
    with socket.socket(family) as listener:
        listener.bind(address)
        assert exposed_addresses() == before, "it does not listen yet"
        listener.listen()
        before_looks = len(list(Path("/dev/fd").iterdir()))
        looks = [exposed_addresses() for _ in range(20)]
        # Threads of the test run may open some meanwhile.
        assert len(list(Path("/dev/fd").iterdir())) - before_looks < len(looks)
        found = looks[0]
        port = listener.getsockname()[1] if family != socket.AF_UNIX else 0
        assert sorted(found) == sorted([*before, *([exposed.format(port)] if exposed else [])])
        assert listener.gettimeout() is None
    assert exposed_addresses() == before


def test_a_closed_listener_stays_occupied() -> None:
    with socket.socket() as listener, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        number = listener.fileno()
        assert number in listening_descriptors()
        assert other.fileno() not in listening_descriptors()
        listener.close()
        occupy([number, other.fileno()])
        assert stat.S_ISFIFO(os.fstat(number).st_mode)
        assert stat.S_ISSOCK(os.fstat(other.fileno()).st_mode), "it was open"
    assert select.select([number], [], [], 0) == ([], [], [])
    os.close(number)
