"""Facts about llmsnap.proxy.stream."""

import errno
import struct

import pytest
from gevent import socket

from llmsnap.errors import Aborted, ClientGone, LoadAborted, UpstreamBroke
from llmsnap.proxy.stream import ProxyStream, reset_on_close
from tests.fakes.calls import call


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


class FakeJob:
    def __init__(self, **facts) -> None:
        self.call = call(**facts)
        self.tap = self
        self.seen = b""
        self.ends: list = []
        self.why = None

    def feed(self, data: bytes) -> None:
        self.seen += data

    def reason(self, error):
        return self.why or error

    def close(self, error) -> None:
        self.ends.append(error)


def words(error, sent: bytes) -> bytes:
    return b"<%b after %b>" % (str(error).encode(), sent)


def test_pieces_pass_and_are_shown_to_the_tap() -> None:
    job = FakeJob()
    stream = ProxyStream(job, FakeExchange(b"a", b"bc", b""))
    assert list(stream) == [b"a", b"bc"]
    assert job.seen == b"abc"
    assert job.call.first_byte_at is not None
    stream.close()
    assert job.ends == [None]


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_a_stream_that_breaks_says_so_and_then_ends(protocol: str) -> None:
    """As any other: clients such as aiohttp take a missing last chunk for the failure itself."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        job = FakeJob(protocol=protocol, socket=ours)
        stream = ProxyStream(job, FakeExchange(b"a", UpstreamBroke("broke")), words)
        assert list(stream) == [b"a", b"<broke after a>"]
        assert list(stream) == []
        assert stream.sent == 16
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) == 0, "no reset"
    stream.close()
    assert [str(end) for end in job.ends] == ["broke"]
    assert (job.call.status, job.call.error) == (502, "broke")


LAST = {
    "chat": b"data: {}\n\ndata: [DONE]\n\n",
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "responses": b"event: response.completed\ndata: {}\n\n",
}


@pytest.mark.parametrize("last", LAST.values(), ids=LAST)
def test_a_stream_that_breaks_behind_its_last_frame_is_whole(last: bytes) -> None:
    job = FakeJob()
    stream = ProxyStream(job, FakeExchange(last, UpstreamBroke("no last chunk")), words)
    assert list(stream) == [last]
    stream.close()
    assert job.ends == [None]


def test_what_is_no_stream_of_events_has_no_last_frame() -> None:
    stream = ProxyStream(FakeJob(), FakeExchange(LAST["chat"], UpstreamBroke("broke")))
    next(stream)
    for _ in range(2):
        with pytest.raises(Aborted) as caught:
            next(stream)
        assert caught.value.errno == errno.ECONNRESET, "servers close quietly on it"


def test_an_answer_that_takes_no_words_just_breaks() -> None:
    stream = ProxyStream(FakeJob(), FakeExchange(UpstreamBroke("broke")))
    with pytest.raises(Aborted):
        next(stream)


def test_the_reason_is_what_interrupted_the_request() -> None:
    job = FakeJob()
    job.why = LoadAborted("a was unloaded")
    stream = ProxyStream(job, FakeExchange(UpstreamBroke("broke")), words)
    assert next(stream) == b"<a was unloaded after >"
    assert job.call.status == 503


def test_a_client_that_left_is_told_nothing() -> None:
    job = FakeJob()
    job.why = ClientGone("the client left")
    stream = ProxyStream(job, FakeExchange(UpstreamBroke("broke")), words)
    with pytest.raises(Aborted):
        next(stream)
    assert job.call.status == 499


def test_an_answer_nobody_reads_to_its_end_has_lost_its_client() -> None:
    job = FakeJob()
    stream = ProxyStream(job, FakeExchange(b"a", b"b"))
    next(stream)
    stream.close()
    assert isinstance(job.ends[0], ClientGone)
    assert job.call.status == 499


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_client_that_leaves_at_the_last_frame_has_its_answer(interrupted: bool) -> None:
    job = FakeJob()
    job.why = ClientGone("the client left")
    exchange = FakeExchange(b"data: {}\n\n", b"data: [DONE]\n\n", UpstreamBroke("aborted"))
    stream = ProxyStream(job, exchange)
    assert [next(stream), next(stream)][-1] == b"data: [DONE]\n\n"
    if interrupted:
        with pytest.raises(StopIteration):
            next(stream)
    stream.close()
    assert job.ends == [None]
    assert job.call.status != 499


def test_after_a_head_request_the_body_is_not_missed() -> None:
    job = FakeJob(method="HEAD")
    ProxyStream(job, FakeExchange(b"a")).close()
    assert job.ends == [None]


def test_http_1_0_cannot_tell_an_end_from_a_break_but_by_a_reset() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        job = FakeJob(protocol="HTTP/1.0", socket=ours)
        with pytest.raises(Aborted):
            next(ProxyStream(job, FakeExchange(UpstreamBroke("broke"))))
        linger = ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)
    reset_on_close(None)
