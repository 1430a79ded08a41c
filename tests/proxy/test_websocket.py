"""The first message names the model: what is read of it, and how a client learns what is wrong."""

from collections.abc import Iterator
from contextlib import closing

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap import errors
from llmsnap.proxy import websocket
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, server_frame
from tests.proxy.test_tunnel import Ends

LIMIT = 100_000
MASK = b"\x01\x02\x03\x04"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {"HTTP_SEC_WEBSOCKET_VERSION": "13", "HTTP_SEC_WEBSOCKET_KEY": KEY}


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    head = b"".join(websocket.client_message(payload))[: -4 - len(payload)]
    first = opcode | (0x80 if final else 0)
    return bytes([first]) + head[1:] + MASK + websocket.masked(payload, MASK)


# --- the handshake ------------------------------------------------------------------------------


def test_a_handshake_is_accepted_with_one_protocol_and_no_extension() -> None:
    asked = {**HANDSHAKE, "HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"}
    accepted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }
    headers, protocol = websocket.handshake(asked)
    assert (dict(headers), protocol) == (accepted, "")
    asked["HTTP_SEC_WEBSOCKET_PROTOCOL"] = "realtime, other"
    headers, protocol = websocket.handshake(asked)
    found = {**accepted, "Sec-WebSocket-Protocol": "realtime"}
    assert (dict(headers), protocol) == (found, "realtime")


def test_any_other_handshake_is_refused() -> None:
    for more, what in (
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, "Version must be 13"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "c2hvcnQ="}, "Key"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "~" * 24}, "Key"),
    ):
        with pytest.raises(errors.BadRequest, match=what):
            websocket.handshake({**HANDSHAKE, **more})


# --- the reader ---------------------------------------------------------------------------------

LONG = b"x" * 70_000
BEGUN = frame(TEXT, b"a", final=False)


FIRST = [
    (frame(TEXT, b"{}"), b"{}", b""),
    (frame(TEXT), b"", b""),
    (frame(TEXT, b"x" * 126), b"x" * 126, b""),
    (frame(TEXT, LONG), LONG, b""),
    (BEGUN + frame(CONTINUATION, final=False) + frame(CONTINUATION, b"defgh"), b"adefgh", b""),
    (frame(PING, b"?") + frame(TEXT, b"{}"), b"{}", server_frame(PONG, b"?")),
    (BEGUN + frame(PING) + frame(PONG) + frame(CONTINUATION), b"a", server_frame(PONG, b"")),
]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_the_first_message_is_read_and_nothing_behind_it(step: int) -> None:
    for frames, message, replies in FIRST:
        sizes = []
        reader = websocket.FirstMessage(LIMIT, sizes.append)
        behind = frame(BINARY, b"not ours")
        data, fed = frames + behind, 0
        while not reader.is_complete:
            size = step if fed < 1000 else 1 << 20
            reader.feed(data[fed : fed + size])
            fed += size
        assert reader.replies() == replies
        assert reader.replies() == b""
        assert reader.take_message() == message
        assert reader.take_rest() + data[fed:] == behind
        assert max(sizes) == len(message)


def too_long(size: int) -> bytes:
    return bytes([0x81, 0xFF]) + size.to_bytes(8, "big") + b"mask"


NO_MESSAGES = [
    (b"\x81\x02{}", websocket.PROTOCOL_ERROR),  # no mask
    (b"\xc1\x82mask{}", websocket.PROTOCOL_ERROR),  # a bit of an extension
    (frame(3, b"x"), websocket.PROTOCOL_ERROR),
    (frame(CONTINUATION, b"x"), websocket.PROTOCOL_ERROR),
    (BEGUN + frame(TEXT, b"x"), websocket.PROTOCOL_ERROR),
    (frame(PING, b"x", final=False), websocket.PROTOCOL_ERROR),
    (frame(PING, b"x" * 126), websocket.PROTOCOL_ERROR),
    (b"\x81\xfe\x00\x02mask{}", websocket.PROTOCOL_ERROR),  # a longer form than needed
    (frame(BINARY, b"x"), websocket.UNSUPPORTED),
    (too_long(LIMIT + 1), websocket.TOO_BIG),
    (too_long(1 << 63), websocket.TOO_BIG),
    (frame(TEXT, b"12345"), websocket.TOO_BIG),  # that may not be held
    (frame(TEXT, LONG, final=False) + frame(CONTINUATION, LONG), websocket.TOO_BIG),
]


def test_what_is_no_first_message_has_a_close_code() -> None:
    def may_hold(size: int) -> None:
        if size == 5:
            raise errors.TooLarge(f"{size} bytes")

    for data, code in NO_MESSAGES:
        with pytest.raises((websocket.BadFrame, errors.TooLarge)) as caught:
            websocket.FirstMessage(LIMIT, may_hold).feed(data)
        assert websocket.close_code(caught.value) == code, data[:20]


def test_a_close_is_answered_and_ends_it() -> None:
    for sent, said in ((b"", b""), (b"\x03\xe8bye", b"\x03\xe8"), (b"x", b"")):
        reader = websocket.FirstMessage(LIMIT, int)
        reader.feed(frame(CLOSE, sent) + frame(TEXT, b"late"))
        assert (reader.is_closed, reader.is_complete) == (True, False)
        assert reader.replies() == server_frame(CLOSE, said)


def test_a_long_reason_is_cut_between_characters() -> None:
    made = websocket.close_frame(1008, "x" + "ü" * 100)
    assert made[1] == len(made) - 2 <= 125
    assert made[4:].decode() == "x" + "ü" * 61


# --- a whole connection -------------------------------------------------------------------------


class Accepted(Ends):
    """An accepted WebSocket under way, with its client and the far end of the model's server."""

    def __init__(self) -> None:
        super().__init__()
        self.context = RequestContext(self.request)
        self.failed: list[errors.LlmsnapError] = []
        self.refusal: BaseException | None = None
        self.loading, self.loaded = Event(), Event()
        self.loaded.set()
        self.body = websocket.AcceptedWebSocket(self.context, LIMIT, self.open_tunnel, self.fail)
        self.run(self.body.run, [("X-Request-Id", "r-1")], b"")
        assert self.client.head().headers == {"x-request-id": "r-1"}

    def open_tunnel(self, message: bytes):
        self.loading.set()
        self.loaded.wait()
        if self.refusal is not None:
            raise self.refusal
        made = websocket.Tunnel(self.request, self.exchange, lambda: self.ended.append(1))
        return made, websocket.client_message(message)

    def fail(self, error: errors.LlmsnapError) -> None:
        self.failed.append(error)
        self.context.close(error)

    def closed_with(self) -> tuple[int, str]:
        """The close frame the client gets, and the end behind it."""
        opcode, size = self.client.exactly(2)
        assert opcode == 0x80 | CLOSE
        payload = self.client.exactly(size)
        self.client.close()
        self.greenlet.get(timeout=3)
        assert self.context.closed
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    made = Accepted()
    yield made
    made.close()


def test_the_first_message_goes_ahead_of_what_follows_unread(accepted) -> None:
    accepted.client.send(frame(PING, b"?"))
    assert accepted.client.exactly(3) == server_frame(PONG, b"?")
    rest = frame(BINARY, b"anything") + b"no frame at all"
    accepted.client.send(frame(TEXT, b"{", final=False) + frame(CONTINUATION, b"}") + rest)
    first = accepted.upstream.exactly(2 + 4 + 2)
    assert first[:2] == b"\x81\x82"
    assert websocket.masked(first[6:], first[2:6]) == b"{}"
    assert accepted.upstream.exactly(len(rest)) == rest
    accepted.upstream.send(b"an answer")
    assert accepted.client.exactly(9) == b"an answer"
    accepted.upstream.close()
    assert accepted.client.rest() == b""
    accepted.client.close()
    accepted.join()
    assert not accepted.failed
    assert accepted.body.sent == 3 + 9
    assert accepted.context.closed


@pytest.mark.parametrize("before", [b"", frame(PONG)])
def test_pings_are_answered_while_the_model_loads_and_all_else_is_for_it(accepted, before) -> None:
    accepted.loaded.clear()
    accepted.client.send(frame(TEXT, b"{}") + before)
    accepted.loading.wait()
    accepted.client.send(frame(PING, b"1"))
    assert accepted.client.exactly(3) == server_frame(PONG, b"1")
    rest = frame(BINARY, b"next") + frame(PING, b"2")
    accepted.client.send(frame(PING, b"3") + rest)
    assert accepted.client.exactly(3) == server_frame(PONG, b"3")
    accepted.loaded.set()
    accepted.upstream.exactly(2 + 4 + 2)
    assert accepted.upstream.exactly(len(rest)) == rest


def test_a_pong_that_could_not_be_sent_whole_ends_the_connection(accepted) -> None:
    """What the model's server sends would be taken for the rest of the pong."""
    accepted.loaded.clear()
    accepted.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    accepted.client.send(frame(TEXT, b'{"model":"m"}'))
    assert accepted.loading.wait(2)
    pings = gevent.spawn(accepted.client.sock.sendall, frame(PING, b"x" * 125) * 10_000)
    with gevent.Timeout(4):
        while not accepted.body._is_sending:
            gevent.sleep(0)
    accepted.loaded.set()
    accepted.greenlet.join(4)
    pings.kill()
    assert isinstance(accepted.failed[0], errors.ClientGone)
    assert accepted.ended == [1]


def test_a_client_that_leaves_while_the_model_loads_interrupts_it(accepted) -> None:
    accepted.loaded.clear()
    accepted.context.on_interrupt(accepted.loaded.set)
    accepted.client.send(frame(TEXT, b"{}"))
    accepted.loading.wait()
    accepted.client.close()
    assert accepted.loaded.wait(timeout=3)
    assert accepted.context.interrupted.status == 499


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (errors.UnknownModel('model not found: "x"'), 1008, 'model not found: "x"'),
        (errors.UpstreamError("no WebSocket"), 1011, "no WebSocket"),
        (ValueError("a secret"), 1011, "internal error; the log says more"),
    ],
)
def test_what_fails_behind_the_first_message_is_a_close(accepted, refusal, code, reason) -> None:
    accepted.refusal = refusal
    accepted.client.send(frame(TEXT, b"{}"))
    assert accepted.closed_with() == (code, reason)
    assert len(accepted.failed) == 1
    assert accepted.context.status == accepted.failed[0].status


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (too_long(LIMIT + 1) + LONG, websocket.TOO_BIG, "maxRequestBody"),
        (b"", websocket.POLICY, "did not come within"),
    ],
)
def test_a_client_that_sends_too_much_or_nothing_reads_why(monkeypatch, sent, code, words) -> None:
    monkeypatch.setattr(websocket, "FIRST_MESSAGE_S", 60 if sent else 0.01)
    with closing(Accepted()) as accepted:
        accepted.client.send(sent)
        found, reason = accepted.closed_with()
    assert (found, words in reason) == (code, True)


@pytest.mark.parametrize("last", [b"", frame(TEXT, b"{", final=False), frame(CLOSE)])
def test_a_client_that_leaves_first_is_gone(accepted, last: bytes) -> None:
    if last:
        accepted.client.send(last)
    accepted.client.half_close()
    assert accepted.client.rest() == (server_frame(CLOSE, b"") if last == frame(CLOSE) else b"")
    accepted.greenlet.get(timeout=3)
    assert [error.status for error in accepted.failed] == [499]
