"""A WebSocket that sends each message back: just enough of RFC 6455 to test a tunnel."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha1
from io import BufferedIOBase

from llmsnap.simulator.exchange import Refusal, SimRequest, SimResponse
from llmsnap.simulator.routes import Route
from llmsnap.simulator.state import SimState

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
CLOSE, PING, PONG = 0x8, 0x9, 0xA


def echo(state: SimState, request: SimRequest) -> SimResponse:
    """Accept the upgrade and echo until the client closes. Raises Refusal 426 without one."""
    del state
    key = request.header("Sec-WebSocket-Key")
    if request.header("Upgrade").lower() != "websocket" or not key:
        raise Refusal(426, "this path wants a WebSocket upgrade")
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(key)),
    ]
    protocol = request.header("Sec-WebSocket-Protocol").partition(",")[0].strip()
    if protocol:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    return SimResponse(101, headers, _session(request))


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept value for *key*."""
    digest = sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _session(request: SimRequest) -> Iterator[bytes]:
    try:
        yield from echo_frames(request.stream)
    finally:
        # The connection is no longer HTTP: no further request may be read from it.
        request.client.hang_up()


def echo_frames(stream: BufferedIOBase) -> Iterator[bytes]:
    """Yield each frame of *stream* unmasked, and a pong for each ping. Blocks."""
    while frame := _read_frame(stream):
        first, payload = frame
        opcode = first & 0x0F
        if opcode == PING:
            yield _frame(0x80 | PONG, payload)
        elif opcode != PONG:
            yield _frame(first, payload)
        if opcode == CLOSE:
            return


def _read_frame(stream: BufferedIOBase) -> tuple[int, bytes] | None:
    """Return the first byte and the payload of the next frame; None at the end of the stream."""
    head = stream.read(2)
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
    mask = stream.read(4) if head[1] & 0x80 else bytes(4)
    masked = stream.read(length)
    if len(masked) < length or len(mask) < 4:
        return None
    # XOR as one large integer, because a loop over bytes is slow for large frames.
    key = (mask * (length // 4 + 1))[:length]
    plain = int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")
    return head[0], plain.to_bytes(length, "big")


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    if length < 1 << 16:
        return bytes([first, 126]) + length.to_bytes(2, "big") + payload
    return bytes([first, 127]) + length.to_bytes(8, "big") + payload


ROUTES = (
    Route("/v1/responses", echo, ("GET",), inference=True),
    Route("/v1/realtime", echo, ("GET",), inference=True),
    Route("/ws", echo, ("GET",)),
)
