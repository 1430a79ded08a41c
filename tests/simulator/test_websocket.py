import io
from contextlib import closing

import pytest
from gevent import socket

from llmsnap.simulator.websocket import accept_key, echo_frames

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"


def masked(first, payload):
    length = len(payload)
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        head = bytes([first, 0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + length.to_bytes(8, "big")
    return head + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))


def answers(*frames):
    return list(echo_frames(io.BytesIO(b"".join(frames))))


def test_the_key_of_the_standard():
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_messages_of_every_length_class(length):
    (answer,) = answers(masked(0x82, b"x" * length))
    assert answer.endswith(b"x" * length)
    assert len(answer) - length == (2 if length < 126 else 4 if length < 65536 else 10)


@pytest.mark.parametrize(
    ("frames", "answered"),
    [
        ([masked(0x01, b"a"), masked(0x80, b"b")], [b"\x01\x01a", b"\x80\x01b"]),  # fragments
        ([masked(0x89, b"x"), masked(0x8A, b"y")], [b"\x8a\x01x"]),  # a ping; a pong
        ([masked(0x88, b"\x03\xe8"), masked(0x81, b"late")], [b"\x88\x02\x03\xe8"]),  # a close
        ([], []),
        ([b"\x81"], []),
        ([masked(0x81, b"hello")[:-1]], []),
    ],
)
def test_how_frames_are_answered(frames, answered):
    assert answers(*frames) == answered


@pytest.mark.parametrize("path", ["/ws", "/v1/realtime?model=m", "/v1/responses"])
def test_an_upgrade_then_an_echo_then_the_end(sim, path):
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: chat, other\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", sim.server.port))) as sock:
        sock.sendall(head.encode())
        stream = sock.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 101 ")
        headers = dict(line.strip().split(b": ") for line in iter(stream.readline, b"\r\n"))
        assert headers[b"Sec-WebSocket-Accept"].decode() == accept_key(KEY)
        assert headers[b"Sec-WebSocket-Protocol"] == b"chat"
        sock.sendall(masked(0x81, b"hello"))
        assert stream.read(7) == b"\x81\x05hello"
        sock.sendall(masked(0x88, b""))
        assert stream.read() == b"\x88\x00"
