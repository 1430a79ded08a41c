"""What sockets of the hot path have in common."""

from __future__ import annotations

from gevent import socket


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send all of *data*. Blocks while the peer does not read. Raises: OSError.

    Nearly always one system call takes everything; ``sendall`` asks for the size of the send
    buffer first, and wraps the data three times, which costs as much again.
    """
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])
