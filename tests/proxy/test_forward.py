"""Facts about llmsnap.proxy.stream."""

import json

import pytest

from llmsnap.errors import Draining, Unreachable, UpstreamBroke
from llmsnap.models import parse_address
from llmsnap.proxy import stream
from llmsnap.proxy.client import ConnectionPool, Exchange, UpstreamTimeouts, nothing
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.payload import parse_request, parse_upstream
from tests.fakes.calls import make_request, runtime

SNAPSHOT = runtime("models: {a: {cmd: x, proxy: 'http://localhost:1'}}")


@pytest.fixture
def pool():
    made = ConnectionPool()
    yield made
    made.close()


def context_of(path: str = "/v1/chat/completions", **more) -> RequestContext:
    if path.startswith("/upstream/"):
        made = make_request(path, **more)
        context = RequestContext(made)
        context.payload = parse_upstream(made, SNAPSHOT)
        return context
    made = make_request(path, {"model": "a"}, **more)
    context = RequestContext(made)
    context.payload = parse_request(made, SNAPSHOT)
    return context


def answering(wire, *headers: str, status: str = "200 OK", body: bytes = b"") -> None:
    lines = [f"HTTP/1.1 {status}", *headers]

    def script(link) -> None:
        link.request = link.read_request()
        wire.requests.append(link.request)
        link.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    wire.requests = []
    wire.scripts = [script]


def asked(wire, pool, context: RequestContext, headers=()) -> Exchange:
    exchange = Exchange(pool, wire.address, UpstreamTimeouts())
    context.abort_on_interrupt(exchange)
    context.headers = list(headers)
    stream.send(context, exchange, nothing)
    return exchange


# --- sending ------------------------------------------------------------------------------------


def test_a_request_goes_below_the_base_path_of_its_upstream(wire, pool) -> None:
    answering(wire, "Content-Length: 0")
    address = parse_address(f"http://127.0.0.1:{wire.address.port}/base")
    context = context_of("/v1/embeddings?q=1")
    exchange = Exchange(pool, address, UpstreamTimeouts())
    context.headers = [("X-A", "b")]
    stream.send(context, exchange, nothing)
    exchange.close()
    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/v1/embeddings?q=1 HTTP/1.1\r\nX-A: b\r\n")
    assert body == b'{"model": "a"}'


def test_why_it_was_interrupted_is_why_it_failed(wire, pool) -> None:
    context = context_of()

    def interrupting(link) -> None:
        link.read_request()
        context.cancel()
        link.wait_closed()

    wire.scripts = [interrupting]
    with pytest.raises(Draining, match="cancelled"):
        asked(wire, pool, context)


def test_a_failure_of_its_own_stays_itself(wire, pool) -> None:
    wire.scripts = [lambda link: link.read_request()]
    with pytest.raises(Unreachable, match="closed the connection without an answer"):
        asked(wire, pool, context_of())


# --- the answer ---------------------------------------------------------------------------------


def test_an_answer_passes_without_what_concerns_one_hop(wire, pool) -> None:
    answering(
        wire,
        *(
            "Content-Length: 2",
            "X-A: 1",
            "X-A: 2",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
        ),
        status="201 Made",
        body=b"ok",
    )
    context = context_of()
    answer = stream.answer(context, asked(wire, pool, context))
    assert (answer.status, answer.reason) == (201, "Made")
    assert answer.headers == [("Content-Length", "2"), ("X-A", "1"), ("X-A", "2")]
    assert b"".join(answer.body) == b"ok"
    answer.body.close()
    assert context.closed


def test_what_we_say_ourselves_is_not_said_twice(wire, pool) -> None:
    answering(wire, "Content-Length: 0", "x-request-id: theirs", "X-Queue-Ms: 1", "X-Load-Ms: 1")
    context = context_of()
    answer = stream.answer(context, asked(wire, pool, context))
    assert answer.headers == [("Content-Length", "0")]
    answer.body.close()


def ended_early(wire, pool, *headers: str) -> tuple[list[bytes], bool]:
    """The pieces of a stream whose upstream goes before its end; whether it was broken off."""
    answering(wire, "Content-Type: text/event-stream", *headers, body=b'9\r\ndata: {"a\r\n')
    context = context_of()
    body, pieces, broke = stream.answer(context, asked(wire, pool, context)).body, [], False
    try:
        pieces.extend(body)
    except ConnectionResetError:
        broke = True
    body.close()
    return pieces, broke


def test_a_broken_stream_ends_with_an_event_of_its_own(wire, pool) -> None:
    (half, last), broke = ended_early(wire, pool, "Transfer-Encoding: chunked")
    assert not broke
    assert half == b'data: {"a'
    assert last.startswith(b"\n\ndata: "), "half a frame is ended first"
    assert "ended its answer too early" in json.loads(last[8:])["error"]["message"]


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Length: 100"])
def test_into_what_is_packed_or_counted_nothing_is_put(wire, pool, header: str) -> None:
    framing = [] if "Length" in header else ["Transfer-Encoding: chunked"]
    pieces, broke = ended_early(wire, pool, header, *framing)
    assert broke
    assert b"error" not in b"".join(pieces)


def test_error_event_speaks_the_dialect_of_the_route() -> None:
    error = UpstreamBroke("broke")
    said = stream.error_event(context_of("/v1/messages").request)(error, b"x\n\n")
    assert said.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error"')
    speak = stream.error_event(context_of("/v1/responses").request)
    sent = b'data: {"type":"x","sequence_number":7}\n\ndata: {"sequence_number": 8}\n\n'
    assert json.loads(speak(error, sent).partition(b"data: ")[2])["sequence_number"] == 9
    assert json.loads(speak(error, b"").partition(b"data: ")[2])["sequence_number"] == 0


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)]
)
def test_a_redirect_keeps_the_method(method: str, status: int) -> None:
    answer = stream.redirect(make_request("/upstream/a", method=method), "/upstream/a/")
    assert (answer.status, answer.headers[0]) == (status, ("Location", "../upstream/a/"))


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/x?y#z", "../../upstream/a/x?y#z"),
        ("http://127.0.0.1:{port}/x", "../../upstream/a/x"),
        ("http://localhost:{port}/x", "../../upstream/a/x"),
        ("http://[::1]:{port}/x", "../../upstream/a/x"),
        ("http://our.example/x", "../../upstream/a/x"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:1/x"),
        ("x", "x"),
    ],
)
def test_a_location_stays_below_the_prefix(wire, pool, location: str, seen: str) -> None:
    port = wire.address.port
    answering(wire, f"Location: {location.format(port=port)}", "Content-Length: 0")
    context = context_of("/upstream/a/old", headers=[("Host", "our.example")])
    answer = stream.answer(context, asked(wire, pool, context))
    assert ("Location", seen) in answer.headers
    answer.body.close()


def test_elsewhere_a_location_passes_as_it_is(wire, pool) -> None:
    answering(wire, "Location: /x", "Content-Length: 0")
    context = context_of()
    answer = stream.answer(context, asked(wire, pool, context))
    assert ("Location", "/x") in answer.headers
    answer.body.close()
