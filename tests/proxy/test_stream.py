"""Answers on their way to the client: heads, streams, redirects, and how they end."""

import errno
import json
import struct

import pytest
from gevent import socket

from llmsnap.errors import Aborted, ClientGone, LoadAborted, UpstreamBroke
from llmsnap.models import parse_address
from llmsnap.proxy import stream
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.payload import parse_request, parse_upstream
from llmsnap.proxy.stream import ProxyStream, reset_on_close
from tests.fakes.calls import make_request, runtime
from tests.proxy.fakes import FakeContext, FakeExchange


def words(error, sent: bytes) -> bytes:
    return b"<%b after %b>" % (str(error).encode(), sent)


def test_pieces_pass_and_are_shown_to_the_observer() -> None:
    context = FakeContext()
    stream = ProxyStream(context, FakeExchange(b"a", b"bc", b""))
    assert (list(stream), context.seen) == ([b"a", b"bc"], b"abc")
    stream.close()
    ProxyStream(context, FakeExchange(b"a")).close()
    assert context.ends[0] is None
    assert isinstance(context.ends[1], ClientGone), "what is not read to its end lost its client"
    assert context.status == 499
    asked_for_the_head = FakeContext(method="HEAD")
    ProxyStream(asked_for_the_head, FakeExchange(b"a")).close()
    assert asked_for_the_head.ends == [None]


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


@pytest.mark.parametrize(
    ("why", "status"), [(LoadAborted("a was unloaded"), 503), (ClientGone("the client left"), 499)]
)
def test_what_interrupted_the_request_is_told_unless_the_client_left(why, status: int) -> None:
    context = FakeContext()
    context.why = why
    stream = ProxyStream(context, FakeExchange(UpstreamBroke("broke")), words)
    if status == 499:
        with pytest.raises(Aborted):
            next(stream)
    else:
        assert next(stream) == b"<a was unloaded after >"
    assert context.status == status


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


def test_http_1_0_cannot_tell_an_end_from_a_break_but_by_a_reset() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = FakeContext(protocol="HTTP/1.0", socket=ours)
        with pytest.raises(Aborted):
            next(ProxyStream(context, FakeExchange(UpstreamBroke("broke"))))
        linger = ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)
    reset_on_close(None)


SNAPSHOT = runtime("models: {a: {cmd: x, proxy: 'http://localhost:1'}}")


def context_of(path: str = "/v1/chat/completions", **more) -> RequestContext:
    parse = parse_upstream if path.startswith("/upstream/") else parse_request
    made = make_request(path, {"model": "a"}, **more)
    context = RequestContext(made)
    context.payload = parse(made, SNAPSHOT)
    return context


def exchange_of(*pieces: bytes | Exception, headers, status: int = 200) -> FakeExchange:
    exchange = FakeExchange(*pieces, status=status)
    exchange.headers, exchange.address = headers, parse_address("http://127.0.0.1:9000")
    return exchange


def test_an_answer_passes_without_what_concerns_one_hop_or_what_we_say_ourselves() -> None:
    hop = [("Connection", "keep-alive, X-Hop"), ("X-Hop", "1")]
    ours = [("x-request-id", "theirs"), ("X-Queue-Ms", "1"), ("X-Load-Ms", "1")]
    passed = [("Content-Length", "2"), ("X-A", "1"), ("X-A", "2"), ("Location", "/x")]
    context, exchange = context_of(), exchange_of(b"ok", headers=passed + hop + ours, status=201)
    answer = stream.answer(context, exchange)
    assert (answer.status, answer.reason, answer.headers) == (201, exchange.reason, passed)
    assert b"".join(answer.body) == b"ok"
    answer.body.close()
    assert context.closed


@pytest.mark.parametrize("header", ["", "Content-Encoding", "Content-Length"])
def test_a_broken_stream_ends_with_an_event_unless_it_is_packed_or_counted(header: str) -> None:
    headers = [("Content-Type", "text/event-stream"), *([(header, "100")] if header else [])]
    exchange = exchange_of(b'data: {"a', UpstreamBroke("it broke"), headers=headers)
    body = stream.answer(context_of(), exchange).body
    assert next(body) == b'data: {"a'
    if header:
        with pytest.raises(ConnectionResetError):
            next(body)
    else:
        (last,) = body
        assert last.startswith(b"\n\ndata: "), "half a frame is ended first"
        assert json.loads(last[8:])["error"]["message"] == "it broke"
    body.close()


def test_error_event_speaks_the_dialect_of_the_route() -> None:
    error = UpstreamBroke("broke")
    said = stream.error_event(context_of("/v1/messages").request)(error, b"x\n\n")
    assert said.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error"')
    speak = stream.error_event(context_of("/v1/responses").request)
    sent = b'data: {"type":"x","sequence_number":7}\n\ndata: {"sequence_number": 8}\n\n'
    assert json.loads(speak(error, sent).partition(b"data: ")[2])["sequence_number"] == 9
    assert json.loads(speak(error, b"").partition(b"data: ")[2])["sequence_number"] == 0


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308)])
def test_a_redirect_keeps_the_method(method: str, status: int) -> None:
    answer = stream.redirect(make_request("/upstream/a", method=method), "/upstream/a/")
    assert (answer.status, answer.headers[0]) == (status, ("Location", "../upstream/a/"))


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/x?y#z", "../../upstream/a/x?y#z"),
        ("http://127.0.0.1:9000/x", "../../upstream/a/x"),
        ("http://localhost:9000/x", "../../upstream/a/x"),
        ("http://our.example/x", "../../upstream/a/x"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
    ],
)
def test_a_location_stays_below_the_prefix(location: str, seen: str) -> None:
    context = context_of("/upstream/a/old", headers=[("Host", "our.example")])
    answer = stream.answer(context, exchange_of(headers=[("Location", location)]))
    assert ("Location", seen) in answer.headers
    answer.body.close()
