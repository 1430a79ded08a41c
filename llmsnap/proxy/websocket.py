"""WebSockets whose first message names the model: accepted first, then connected to the model.

The handshake is answered before a model is known, so it negotiates no extension and at most the
first subprotocol; the model's server, whose handshake follows, is offered the same. Later errors
are reported by a close frame. Frames are parsed up to the end of the first message, and pings
answered, also while the model loads; everything else passes through a ``Tunnel`` unparsed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha1
from typing import Any

from gevent import socket

from llmsnap.errors import BadRequest, BodyTimeout, ClientGone, LlmsnapError, TooLarge
from llmsnap.http import Headers
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.tunnel import HALF_OPEN_S, PROTOCOL, Tunnel, shut_down
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

FIRST_MESSAGE_S = 30.0
"""How long the first message may take, from the handshake to its last byte."""
READ_BYTES = 65536
MASK_BYTES = 1 << 20  # a multiple of the four bytes of a mask
CONTROL_BYTES = 125
REASON_BYTES = 123
"""What a control frame has room for, and a close frame behind its code."""
VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL, RESERVED, MASKED = 0x80, 0x70, 0x80
PROTOCOL_ERROR, UNSUPPORTED, POLICY, TOO_BIG, INTERNAL = 1002, 1003, 1008, 1009, 1011


class BadFrame(BadRequest):
    """A frame that RFC 6455 does not allow, or this use of it; *close_code* goes with it."""

    def __init__(self, message: str, close_code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.close_code = close_code


def handshake(environ: Mapping[str, Any]) -> tuple[Headers, str]:
    """Return the headers that accept a handshake, and the subprotocol, "" for none.

    Raises: BadRequest for one that is not of RFC 6455.
    """
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "")
    if version != VERSION:
        raise BadRequest(f"Sec-WebSocket-Version must be {VERSION}, not {version[:16]!r}")
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        is_key = False
    if not is_key:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")
    digest = sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    headers: Headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", PROTOCOL),
        ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
    ]
    protocol = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "").partition(",")[0].strip()
    if protocol:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    return headers, protocol


class FirstMessage:
    """Parses the first message of a client, a text in one frame or in fragments.

    *on_size* is called with the size so far, and may raise an error that ends the parsing.
    """

    def __init__(self, limit_bytes: int, on_size: Callable[[int], object]) -> None:
        self.is_complete = False
        self.is_closed = False
        """Whether the client has sent a close frame instead."""
        self._limit_bytes = limit_bytes
        self._on_size = on_size
        self._received = bytearray()
        self._message = bytearray()
        self._replies = bytearray()
        self._has_begun = False
        self._in_data = False
        self._is_last = False
        self._left = 0
        self._key = b""

    def __repr__(self) -> str:
        return f"<FirstMessage, {len(self._message)} bytes so far>"

    def feed(self, data: bytes) -> None:
        """Go on with *data*. Raises: BadFrame, TooLarge."""
        self._received += data
        while not (self.is_complete or self.is_closed) and self._advance():
            pass

    def replies(self) -> bytes:
        """Return what answers the control frames since the last call."""
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    def take_message(self) -> bytes:
        """Return the complete message; once only."""
        message = bytes(self._message)
        self._message.clear()
        return message

    def take_rest(self) -> bytes:
        """Return what was received behind the message; once only."""
        rest = bytes(self._received)
        self._received.clear()
        return rest

    def answer_pings(self, data: bytes) -> bool:
        """Go on with *data* behind the message; return whether there were only pings and pongs.

        Anything else stays, to be sent on. Raises: BadFrame.
        """
        self._received += data
        while self._received:
            if self._received[0] & 0x0F not in {PING, PONG}:
                return False
            if not self._advance():
                break
        return True

    def _advance(self) -> bool:
        """Take one step; return whether there may be another without more data."""
        if self._in_data:
            return self._take_data()
        received = self._received
        if len(received) < 2:
            return False
        first, second = received[0], received[1]
        self._check_head(first, second)
        short = second & ~MASKED
        extra = {126: 2, 127: 8}.get(short, 0)
        head_bytes = 2 + extra + 4
        if len(received) < head_bytes:
            return False
        size = int.from_bytes(received[2 : 2 + extra], "big") if extra else short
        key = bytes(received[2 + extra : head_bytes])
        if first & 0x0F >= CLOSE:
            return self._take_control(first & 0x0F, key, size)
        if extra and size < (126 if extra == 2 else 1 << 16):
            raise BadFrame("the length of a frame is not in its shortest form")
        held = len(self._message) + size
        if held > self._limit_bytes:
            raise TooLarge(
                f"the first message has {held} bytes or more; maxRequestBody allows "
                f"{self._limit_bytes}"
            )
        del received[:head_bytes]
        self._left, self._key, self._is_last = size, key, bool(first & FINAL)
        self._has_begun = self._in_data = True
        return True

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & RESERVED:
            raise BadFrame("reserved bits are set, and no extension was agreed on")
        if not second & MASKED:
            raise BadFrame("frames of a client must be masked")
        if opcode in {CLOSE, PING, PONG}:
            if not first & FINAL or second & ~MASKED > CONTROL_BYTES:
                raise BadFrame("a control frame is fragmented or too long")
        elif opcode == BINARY and not self._has_begun:
            raise BadFrame("the first message must be a text, in JSON, not binary", UNSUPPORTED)
        elif opcode != (CONTINUATION if self._has_begun else TEXT):
            raise BadFrame(f"a frame of opcode {opcode} cannot come here")

    def _take_control(self, opcode: int, key: bytes, size: int) -> bool:
        whole = 2 + 4 + size
        if len(self._received) < whole:
            return False
        payload = masked(bytes(self._received[6:whole]), key)
        del self._received[:whole]
        if opcode == PING:
            self._replies += server_frame(PONG, payload)
        elif opcode == CLOSE:
            self._replies += server_frame(CLOSE, payload[:2] if size >= 2 else b"")
            self.is_closed = True
        return True

    def _take_data(self) -> bool:
        data = bytes(self._received[: self._left])
        if len(data) < self._left:
            data = data[: len(data) // 4 * 4]  # the mask begins anew with the next piece
            if not data:
                return False
        self._on_size(len(self._message) + len(data))
        self._message += masked(data, self._key)
        del self._received[: len(data)]
        self._left -= len(data)
        if not self._left:
            self._in_data, self.is_complete = False, self._is_last
        return True


class AcceptedWebSocket:
    """The body of a 101 response that is sent before the model is known.

    *open_tunnel* takes the first message, and returns the tunnel to the model's server and the
    chunks to send there first. *fail* is called with an error that occurs before that.
    """

    def __init__(
        self,
        context: RequestContext,
        limit_bytes: int,
        open_tunnel: Callable[[bytes], tuple[Tunnel, list[bytes]]],
        fail: Callable[[LlmsnapError], None],
    ) -> None:
        self._context = context
        self._client = context.request.socket
        self._limit_bytes = limit_bytes
        self._open_tunnel = open_tunnel
        self._fail = fail
        self._tasks = TaskGroup(f"websocket {context.request.id}")
        self._tunnel: Tunnel | None = None
        self._sent = 0
        self._is_sending = False

    def __repr__(self) -> str:
        return f"<AcceptedWebSocket of {self._context!r}>"

    @property
    def sent(self) -> int:
        """Bytes to the client, behind the head."""
        return self._sent + (self._tunnel.sent if self._tunnel is not None else 0)

    def run(self, headers: Headers, ahead: bytes) -> None:
        """Send the head with *headers*, read the first message, and run the tunnel. Blocks.

        The client's first bytes are *ahead*; its socket is shut down afterwards.
        """
        try:
            self._send(_head(headers))
            self._sent = 0
            self._tunnel, first = self._connect(ahead)
        except LlmsnapError as error:
            self._refuse(error)
        except Exception:
            log.exception("request failed", extra=self._context.log_ids)
            self._refuse(LlmsnapError("internal error; the log says more"))
        else:
            self._tunnel.resume(first)
        finally:
            shut_down(self._client, socket.SHUT_RDWR)
            self._context.close()

    def close(self) -> None:
        """Release everything if ``run`` was not called. Never switches."""
        self._context.close()

    def _connect(self, ahead: bytes) -> tuple[Tunnel, list[bytes]]:
        reader = self._receive(ahead)
        self._tasks.spawn("pings", self._answer_pings, reader)
        try:
            tunnel, first = self._open_tunnel(reader.take_message())
        finally:
            self._tasks.kill()
        if self._is_sending:  # killed within a pong: what follows would be taken for its rest
            tunnel.close()
            raise ClientGone("the client did not read the answers to its pings")
        if rest := reader.take_rest():
            first.append(rest)
        return tunnel, first

    def _answer_pings(self, reader: FirstMessage) -> None:
        """Answer pings while the model loads; clients disconnect without pongs. Blocks.

        Ends when killed, or at the first frame of another kind, which goes to the model's server.
        """
        data = b""
        try:
            while reader.answer_pings(data):
                if replies := reader.replies():
                    self._send(replies)
                data = self._client.recv(READ_BYTES)
                if not data:
                    self._context.client_left()
                    return
            if replies := reader.replies():
                self._send(replies)
        except (OSError, ClientGone, BadFrame) as error:
            log.debug("%r: %s", self, error)

    def _receive(self, ahead: bytes) -> FirstMessage:
        """Return the reader that has the first message. Blocks.

        Raises: BadFrame, TooLarge, NoRoom, BodyTimeout, ClientGone.
        """
        reader = FirstMessage(self._limit_bytes, self._context.request.body_share.in_memory)
        before, ends_at = self._client.gettimeout(), time.monotonic() + FIRST_MESSAGE_S
        data = ahead
        try:
            while True:
                reader.feed(data)
                if replies := reader.replies():
                    self._send(replies)
                if reader.is_closed:
                    raise ClientGone("the client closed before its first message")
                if reader.is_complete:
                    return reader
                data = self._read(ends_at)
        finally:
            self._client.settimeout(before)

    def _read(self, ends_at: float) -> bytes:
        left_s = ends_at - time.monotonic()
        try:
            self._client.settimeout(max(left_s, 0.0))
            data: bytes = self._client.recv(READ_BYTES)
        except (TimeoutError, BlockingIOError) as error:
            raise BodyTimeout(
                f"the first message, which names the model, did not come within "
                f"{FIRST_MESSAGE_S:g} s"
            ) from error
        except OSError as error:
            raise ClientGone("the client left before its first message") from error
        if not data:
            raise ClientGone("the client left before its first message")
        return data

    def _send(self, data: bytes) -> None:
        self._is_sending = True
        try:
            self._client.sendall(data)
        except OSError as error:
            raise ClientGone("the client left before its first message") from error
        self._is_sending = False
        self._sent += len(data)

    def _refuse(self, error: LlmsnapError) -> None:
        """Close request and WebSocket with the reason. Blocks until the client has read it."""
        context = self._context
        context.status = error.status
        if not context.closed:
            self._fail(error)
        if isinstance(error, ClientGone):
            return
        if error.status >= 500:
            path = context.request.path
            log.warning("WebSocket %s: %s", path, error, extra=context.log_ids)
        ends_at = time.monotonic() + HALF_OPEN_S
        try:
            self._client.settimeout(HALF_OPEN_S)
            self._send(close_frame(close_code(error), context.request.explain(error)))
            # Closing with input unread would reset the connection, and with it lose the reason.
            while time.monotonic() < ends_at and self._client.recv(READ_BYTES):
                pass
        except (OSError, ClientGone):
            return


def close_code(error: LlmsnapError) -> int:
    """Return the code of RFC 6455 that closes a WebSocket because of *error*."""
    if isinstance(error, BadFrame):
        return error.close_code
    if isinstance(error, TooLarge):
        return TOO_BIG
    return POLICY if error.status < 500 else INTERNAL


def close_frame(code: int, reason: str) -> bytes:
    """Return a server's close frame; a long *reason* is cut."""
    text = reason.encode()[:REASON_BYTES].decode(errors="ignore").encode()
    return server_frame(CLOSE, code.to_bytes(2, "big") + text)


def server_frame(opcode: int, payload: bytes) -> bytes:
    """Return a control frame of a server; its *payload* has CONTROL_BYTES at most."""
    return bytes([FINAL | opcode, len(payload)]) + payload


def client_message(payload: bytes) -> list[bytes]:
    """Return a client's text message in one frame: the pieces to send, masked with a new key."""
    size, key = len(payload), os.urandom(4)
    if size < 126:
        length = bytes([MASKED | size])
    elif size < 1 << 16:
        length = bytes([MASKED | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([MASKED | 127]) + size.to_bytes(8, "big")
    pieces = (
        masked(payload[start : start + MASK_BYTES], key) for start in range(0, size, MASK_BYTES)
    )
    return [bytes([FINAL | TEXT]) + length + key, *pieces]


def masked(data: bytes, key: bytes) -> bytes:
    """Return *data* masked, or unmasked, with the four bytes of *key*."""
    size = len(data)
    # As one large number: a loop over bytes would make large messages slow.
    keys = (key * (size // 4 + 1))[:size]
    number = int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")
    return number.to_bytes(size, "big")


def _head(headers: Headers) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
