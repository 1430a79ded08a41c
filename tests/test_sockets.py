"""Facts about llmsnap.sockets."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket

from llmsnap.sockets import send_all


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


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
