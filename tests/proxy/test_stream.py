"""Facts about llmsnap.proxy.stream."""

import errno
import struct

import pytest
from gevent import socket

from llmsnap.errors import Aborted, ClientGone, LoadAborted, UpstreamBroke
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.stream import ProxyStream, reset_on_close
from tests.fakes.calls import make_request


class FakeExchange:
    """Reads *pieces*; an error among them is raised."""

    def __init__(self, *pieces) -> None:
        self.pieces = list(pieces)

    @property
    def is_complete(self) -> bool:
        return not self.pieces

    def read(self) -> bytes:
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


class FakeContext(RequestContext):
    """Notes what its observer is shown, and how it ends."""

    def __init__(self, **facts) -> None:
        super().__init__(make_request(**facts))
        self.observer = self
        self.seen = b""
        self.ends: list = []
        self.why = None

    def feed(self, data: bytes) -> None:
        self.seen += data

    def reason(self, error):
        return self.why or error

    def close(self, error=None) -> None:
        self.ends.append(error)


def words(error, sent: bytes) -> bytes:
    return b"<%b after %b>" % (str(error).encode(), sent)


def test_pieces_pass_and_are_shown_to_the_observer() -> None:
    context = FakeContext()
    stream = ProxyStream(context, FakeExchange(b"a", b"bc", b""))
    assert list(stream) == [b"a", b"bc"]
    assert context.seen == b"abc"
    stream.close()
    assert context.ends == [None]


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_a_stream_that_breaks_says_so_and_then_ends(protocol: str) -> None:
    """As any other: clients such as aiohttp take a missing last chunk for the failure itself."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = FakeContext(protocol=protocol, socket=ours)
        stream = ProxyStream(context, FakeExchange(b"a", UpstreamBroke("broke")), words)
        assert list(stream) == [b"a", b"<broke after a>"]
        assert list(stream) == []
        assert stream.sent == 16
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) == 0, "no reset"
    stream.close()
    assert [str(end) for end in context.ends] == ["broke"]
    assert context.status == 502


LAST = {
    "chat": b"data: {}\n\ndata: [DONE]\n\n",
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "responses": b"event: response.completed\ndata: {}\n\n",
}


@pytest.mark.parametrize("last", LAST.values(), ids=LAST)
def test_a_stream_that_breaks_behind_its_last_frame_is_whole(last: bytes) -> None:
    context = FakeContext()
    stream = ProxyStream(context, FakeExchange(last, UpstreamBroke("no last chunk")), words)
    assert list(stream) == [last]
    stream.close()
    assert context.ends == [None]


def test_what_is_no_stream_of_events_has_no_last_frame() -> None:
    stream = ProxyStream(FakeContext(), FakeExchange(LAST["chat"], UpstreamBroke("broke")))
    next(stream)
    for _ in range(2):
        with pytest.raises(Aborted) as caught:
            next(stream)
        assert caught.value.errno == errno.ECONNRESET, "servers close quietly on it"


def test_an_answer_that_takes_no_words_just_breaks() -> None:
    stream = ProxyStream(FakeContext(), FakeExchange(UpstreamBroke("broke")))
    with pytest.raises(Aborted):
        next(stream)


def test_the_reason_is_what_interrupted_the_request() -> None:
    context = FakeContext()
    context.why = LoadAborted("a was unloaded")
    stream = ProxyStream(context, FakeExchange(UpstreamBroke("broke")), words)
    assert next(stream) == b"<a was unloaded after >"
    assert context.status == 503


def test_a_client_that_left_is_delivered_nothing() -> None:
    context = FakeContext()
    context.why = ClientGone("the client left")
    stream = ProxyStream(context, FakeExchange(UpstreamBroke("broke")), words)
    with pytest.raises(Aborted):
        next(stream)
    assert context.status == 499


def test_an_answer_nobody_reads_to_its_end_has_lost_its_client() -> None:
    context = FakeContext()
    stream = ProxyStream(context, FakeExchange(b"a", b"b"))
    next(stream)
    stream.close()
    assert isinstance(context.ends[0], ClientGone)
    assert context.status == 499


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_client_that_leaves_at_the_last_frame_has_its_answer(interrupted: bool) -> None:
    context = FakeContext()
    context.why = ClientGone("the client left")
    exchange = FakeExchange(b"data: {}\n\n", b"data: [DONE]\n\n", UpstreamBroke("aborted"))
    stream = ProxyStream(context, exchange)
    assert [next(stream), next(stream)][-1] == b"data: [DONE]\n\n"
    if interrupted:
        with pytest.raises(StopIteration):
            next(stream)
    stream.close()
    assert context.ends == [None]
    assert context.status != 499


def test_after_a_head_request_the_body_is_not_missed() -> None:
    context = FakeContext(method="HEAD")
    ProxyStream(context, FakeExchange(b"a")).close()
    assert context.ends == [None]


def test_http_1_0_cannot_tell_an_end_from_a_break_but_by_a_reset() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = FakeContext(protocol="HTTP/1.0", socket=ours)
        with pytest.raises(Aborted):
            next(ProxyStream(context, FakeExchange(UpstreamBroke("broke"))))
        linger = ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)
    reset_on_close(None)
