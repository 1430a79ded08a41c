"""WebSockets through to the model and back: bytes intact, counted, ended with either side."""

import os

import gevent
import pytest

from tests.server.raw import Answer, RawClient, request

pytestmark = pytest.mark.e2e

UPGRADE = [
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Extensions: permessage-deflate",
]
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATHS = ["/upstream/alpha/ws", "/v1/realtime?model=alpha"]


def frame(opcode: int, payload: bytes, *, end: bool = True) -> bytes:
    """A client's frame; a mask of zeros leaves the payload readable."""
    size = len(payload)
    first = (0x80 if end else 0) | opcode
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def read_frame(client: RawClient) -> tuple[int, bytes]:
    first, size = client.exactly(2)
    if size >= 126:
        size = int.from_bytes(client.exactly(2 if size == 126 else 8), "big")
    return first & 15, client.exactly(size)


def upgrade(client: RawClient, path: str = PATHS[0], behind: bytes = b"") -> Answer:
    client.send(request(path, "GET", *UPGRADE) + behind)
    head = client.head()
    assert head.status == 101, client.rest()
    assert head.headers["sec-websocket-accept"] == ACCEPT
    assert head.headers["connection"].lower() == "upgrade"
    assert head.headers["upgrade"].lower() == "websocket"
    return head


def in_flight(server) -> int:
    entries = server.get("/running").json()["running"]
    return sum(entry.get("inFlight", entry.get("in_flight", 0)) for entry in entries)


@pytest.mark.parametrize("path", PATHS)
def test_messages_fragments_pings_and_the_close_handshake(server, connect, path: str) -> None:
    client = connect()
    head = upgrade(client, path, behind=frame(TEXT, b"eager"))
    assert "x-request-id" in head.headers
    assert read_frame(client) == (TEXT, b"eager")
    client.send(frame(TEXT, b"one ", end=False) + frame(0, b"two"))
    assert read_frame(client) == (TEXT, b"one ")
    assert read_frame(client) == (0, b"two")
    client.send(frame(PING, b"?"))
    assert read_frame(client) == (PONG, b"?")
    client.send(frame(CLOSE, b"\x03\xe8"))
    assert read_frame(client) == (CLOSE, b"\x03\xe8")
    client.half_close()
    assert client.rest() == b""


def test_a_large_message_is_intact(server, connect) -> None:
    client = connect()
    upgrade(client)
    payload = os.urandom(1 << 20) * 16
    sender = gevent.Greenlet(client.send, frame(BINARY, payload))
    sender.start()
    opcode, echoed = read_frame(client)
    sender.get()
    assert opcode == BINARY
    assert echoed == payload


def test_the_end_of_the_client_reaches_the_model(server, connect) -> None:
    client = connect()
    upgrade(client)
    server.wait_for(lambda: in_flight(server) == 1)
    client.close()
    server.wait_for(lambda: in_flight(server) == 0)
    server.wait_output(r'"GET /upstream/alpha/ws HTTP/1.1" 101')


def test_an_unload_cuts_it_and_the_model_is_loaded_for_the_next_one(server, connect) -> None:
    client = connect()
    upgrade(client)
    assert server.get("/unload").text == "OK"
    assert client.rest() == b""
    client = connect()
    upgrade(client)
    client.send(frame(TEXT, b"hello"))
    assert read_frame(client) == (TEXT, b"hello")


def test_a_refusal_is_an_ordinary_answer_and_the_connection_goes_on(server, connect) -> None:
    client = connect()
    no_key = [line for line in UPGRADE if "-Key" not in line]
    assert client.ask(request(PATHS[0], "GET", *no_key)).status == 426
    h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARA"]
    assert client.ask(request("/upstream/alpha/health", "GET", *h2c)).status == 200
    assert client.ask(request("/upstream/nobody/ws", "GET", *UPGRADE)).status == 404
    assert client.ask(request("/health", "GET")).body == b"OK"
