"""One connection as a client sees it: framing, keep-alive, slow clients, clients that leave."""

import math

import gevent
import pytest
from gevent.event import Event

from llmsnap.proxy.disconnect import EpollWatch
from llmsnap.server.connection import SOCKET, TAKE_OVER, ConnectionReader, DisconnectWatcher
from llmsnap.server.deadlines import ConnectionLimits, Deadline
from tests.fakes.clock import Clock
from tests.server.raw import answering, post, request, until

CHUNKED = "Transfer-Encoding: chunked"
WAITS = "Expect: 100-continue"


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def deaf(environ, start_response):
    start_response("413 Too Large", [("Content-Length", "3")])
    return [b"no\n"]


def test_the_environ(serve) -> None:
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return echo(environ, start_response)

    serving = serve(app)
    client = serving.connect()
    client.ask(request("/a%2Fb?c=%20", "GET", "X-A: 1"))
    assert (
        seen.items()
        >= {
            "PATH_INFO": "/a/b",
            "QUERY_STRING": "c=%20",
            "RAW_URI": "/a%2Fb?c=%20",
            "REQUEST_METHOD": "GET",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_X_A": "1",
            "HTTP_HOST": "localhost",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": str(client.sock.getsockname()[1]),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(serving.address[1]),
            "wsgi.url_scheme": "http",
            "wsgi.input_terminated": True,
        }.items()
    )
    assert seen[SOCKET].fileno() == -1 or seen[SOCKET].getpeername() == client.sock.getsockname()


def test_an_address_of_ipv4_looks_like_one_on_a_listener_for_both(serve, connect) -> None:
    serving = serve(lambda e, s: s("200 OK", []) and [e["REMOTE_ADDR"].encode()], ":0")
    client = connect(("127.0.0.1", serving.address[1]))
    assert client.ask(request()).body == b"127.0.0.1"


def test_requests_one_after_another_pipelined_in_chunks_and_in_pieces(serve) -> None:
    client = serve(echo).connect()
    assert client.ask(post(b"one")).body == b"one"
    chunks = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    chunked = request("/", "POST", CHUNKED, body=chunks)
    client.send(post(b"two") + request() + chunked + post(b"later")[:-4])
    for piece in (b"at", b"er"):
        client.send(piece)
    assert [client.answer().body for _ in range(4)] == [b"two", b"", b"hello", b"later"]


def test_100_continue_is_sent_to_a_client_that_expects_it(serve) -> None:
    client = serve(echo).connect()
    whole = post(b"hello", WAITS)
    client.send(whole[:-5])
    assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
    assert client.ask(b"hello").body == b"hello"


def test_a_small_unread_body_is_skipped(serve) -> None:
    client = serve(deaf).connect()
    for _ in range(2):
        answer = client.ask(post(b"x" * 1000))
        assert (answer.status, "connection" in answer.headers) == (413, False)


@pytest.mark.parametrize(
    "sent",
    [
        post(b"x" * 4_000_000),
        request("/", "POST", CHUNKED, body=b"1\r\nx\r\n"),
        post(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", WAITS)[:-27],
    ],
    ids=["large", "chunked", "not continued"],
)
def test_a_large_one_ends_the_connection_but_the_answer_arrives(serve, sent: bytes) -> None:
    client = serve(deaf).connect()
    sender = gevent.spawn(client.send, sent)
    answer = client.answer()
    assert (answer.status, answer.interim, answer.headers["connection"]) == (413, [], "close")
    sender.join()
    assert sender.successful(), "it was not cut off while it sent"
    client.half_close()
    assert client.rest() == b""


INVALID, LATE = b'"type":"invalid_request_error"', b"request_timeout"


@pytest.mark.parametrize(
    ("limits", "sent", "statuses", "words"),
    [
        ({}, b"GET / HTTP/1.1\r\n\r\n" + b"the rest of it", [400], INVALID),
        ({}, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * 100_000, [431], INVALID),
        ({}, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", [505], b""),
        ({}, post(b"good") + b"bad\r\n\r\n", [200, 400], b""),
        ({}, request("/", "POST", CHUNKED, body=b"zz\r\n"), [400], b"chunked"),
        ({}, request("/", "GET", "Connection: close") + request(), [200], b""),
        ({"head_s": 0.01}, b"", [], b""),
        ({"idle_s": 0.01}, request(), [200], b""),
        *(
            ({"body_s": 0.01}, request("/", "POST", *headers, body=begun), [408], LATE)
            for headers, begun in [
                (["Content-Length: 5"], b""),
                (["Content-Length: 5"], b"hell"),
                (["Content-Length: 5", WAITS], b""),
                ([CHUNKED], b"5"),
                ([CHUNKED], b"5\r\nhell"),
                ([CHUNKED], b"5\r\nhello\r\n0\r\nX: "),
            ]
        ),
    ],
    ids=range(14),
)
def test_what_ends_a_connection_and_the_last_word(serve, limits, sent, statuses, words) -> None:
    client = serve(answering(echo), limits=ConnectionLimits(**limits)).connect()
    client.send(sent)
    answers = [client.answer() for _ in statuses]
    assert [answer.status for answer in answers] == statuses
    if not limits:
        client.half_close()
    assert client.rest() == b""
    if statuses and "idle_s" not in limits:
        assert answers[-1].headers["connection"] == "close"
        assert words in answers[-1].body


def test_a_bug_is_a_500_as_json_and_logged(serve, caplog) -> None:
    client = serve(lambda environ, start_response: 1 / 0).connect()
    answer = client.ask(request())
    assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
    assert client.rest() == b""
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("error", "logged"),
    [(RuntimeError("halfway"), "halfway"), (ConnectionResetError(104, "the upstream"), "")],
)
def test_an_answer_that_fails_behind_its_head_is_visibly_incomplete(
    serve, caplog, error: Exception, logged: str
) -> None:
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        raise error

    answer = serve(app).connect().ask(request())
    assert (answer.body, answer.complete) == (b"begun", False)
    assert logged in caplog.text
    assert bool(caplog.text) is bool(logged)


# --- slow clients -------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [True, False])
def test_the_body_is_closed_when_its_client_leaves_or_takes_nothing_for_a_while(
    serve, caplog, monkeypatch, leaves: bool
) -> None:
    if not leaves:
        monkeypatch.setattr("llmsnap.server.bind.STALL_S", 0.2)
    closed = Event()

    class Endless:
        def __iter__(self):
            return iter(lambda: b"x" * 100_000, b"")

        def close(self) -> None:
            closed.set()

    client = serve(lambda e, s: s("200 OK", []) and Endless()).connect()
    client.send(request())
    client.until(b"\r\n\r\n")
    if leaves:
        client.close()
    assert closed.wait(4)
    assert caplog.text == "", "it is the client's doing"


@pytest.mark.parametrize("asks", [False, True])
def test_a_client_that_has_begun_a_head_gets_408(serve, asks: bool) -> None:
    serving = serve(echo)
    heads, client = serving.server.deadlines.heads, serving.connect()
    if asks:
        assert client.ask(request()).status == 200
    until(lambda: len(heads) != asks)
    since = heads.oldest()
    client.send(b"GET / HT")
    until(lambda: heads.oldest() not in {since, math.inf})
    heads.hang_up_oldest()
    answer = client.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert client.rest() == b""


def test_an_unread_body_must_arrive_in_time(serve) -> None:
    serving = serve(deaf)
    client = serving.connect()
    assert client.ask(post(b"hello")[:-1]).status == 413
    until(serving.server.deadlines.heads.hang_up_oldest)
    assert client.rest() == b""


def test_each_byte_restarts_the_deadline_of_a_body(serve) -> None:
    serving, clock = serve(answering(echo)), Clock(100.0)
    bodies = serving.server.deadlines.bodies = Deadline(60.0, clock)
    client = serving.connect()
    client.send(request("/", "POST", "Content-Length: 5"))
    for byte in (b"h", b"e", b"l"):
        until(lambda: bodies.oldest() == clock.now)
        clock.now += 59
        bodies.hang_up_late()
        client.send(byte)
    until(lambda: bodies.oldest() == clock.now)
    clock.now += 60
    bodies.hang_up_late()
    assert client.answer().status == 408
    assert len(bodies) == 0


def test_a_body_may_take_its_time(serve) -> None:
    serving = serve(echo)
    client, deadlines = serving.connect(), serving.server.deadlines
    client.send(post(b"hello")[:-5])
    until(lambda: len(deadlines.bodies))
    assert len(deadlines.heads) == len(deadlines.idle) == 0
    assert client.ask(b"hello").body == b"hello"


# --- taken over ---------------------------------------------------------------------------------


def test_a_connection_taken_over_belongs_to_the_application(serve) -> None:
    def app(environ, start_response):
        early = environ[TAKE_OVER]()
        sock = environ[SOCKET]
        sock.sendall(b"raw " + early)
        sock.sendall(sock.recv(100))
        start_response("200 OK", [("Content-Length", "7")])
        return [b"nothing"]

    client = serve(app).connect()
    client.send(request("/", "GET", "Upgrade: x") + b"early")
    assert client.exactly(9) == b"raw early"
    client.send(b"later")
    assert client.rest() == b"later"


def test_a_library_made_for_pywsgi_finds_the_socket(serve) -> None:
    from simple_websocket import Server as WebSocket

    def app(environ, start_response):
        environ[TAKE_OVER]()
        ws = WebSocket.accept({**environ, "SERVER_SOFTWARE": "gevent/1"})
        ws.send(ws.receive())
        ws.close()
        return []

    client = serve(app).connect()
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    client.send(request("/", "GET", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    assert client.head().status == 101
    client.send(b"\x81\x82\0\0\0\0hi")
    assert client.exactly(4) == b"\x81\x02hi"
    assert client.rest()[:1] == b"\x88"


def test_a_request_starts_when_the_throttle_lets_it(serve, monkeypatch) -> None:
    started, came, opened = [], Event(), Event()

    def app(environ, start_response):
        started.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    def wait_turn() -> None:
        came.set()
        assert opened.wait(5)

    serving = serve(app)
    monkeypatch.setattr(serving.server.throttle, "wait_turn", wait_turn)
    client = serving.connect()
    client.send(post(b"x"))
    assert came.wait(5)
    assert started == []
    opened.set()
    assert client.answer().body == b"x"


# --- clients that leave ---------------------------------------------------------------------------


@pytest.fixture
def others():
    made = EpollWatch()
    yield made
    made.close()


@pytest.fixture
def reader(pair):
    return ConnectionReader(pair[0])


@pytest.fixture
def watcher(pair, reader, others):
    made = DisconnectWatcher(pair[0], reader, others)
    yield made
    made.close()


def let_the_loop_look() -> None:
    for _ in range(3):
        gevent.idle()


def test_a_pipelined_request_is_no_disconnect_but_its_end_is(pair, watcher, others) -> None:
    ours, theirs = pair
    gone = Event()
    watcher.add(ours.fileno(), gone.set)
    theirs.sendall(b"GET /next")
    let_the_loop_look()
    assert not gone.is_set()
    assert repr(others) == "<EpollWatch 1 clients>"
    theirs.close()
    assert gone.wait(2)


def test_bytes_between_requests_are_left_to_the_reader(pair, watcher, others) -> None:
    ours, theirs = pair
    watcher.turn_on()
    theirs.sendall(b"a body in pieces")
    let_the_loop_look()
    assert not watcher.is_on
    assert repr(others) == "<EpollWatch 0 clients>"
    assert ours.recv(100) == b"a body in pieces"


def test_the_reader_of_a_body_finds_its_end_before_the_watcher(pair, reader, watcher) -> None:
    ours, theirs = pair
    gone = Event()
    watcher.add(ours.fileno(), gone.set)
    for act in (lambda: theirs.sendall(b"x"), theirs.close):
        reading = gevent.spawn(reader.read_some, 100)
        gevent.idle()
        assert reader.is_reading
        act()
        assert reading.get() in (b"x", b"")
        assert not gone.is_set()
    assert gone.wait(2), "and then the end is noticed as before"


def test_it_serves_request_after_request(pair, watcher) -> None:
    ours, theirs = pair
    gone = Event()
    for _ in range(3):
        watcher.add(ours.fileno(), gone.set)
        watcher.remove(ours.fileno())
        waiting = gevent.spawn(watcher.wait)
        theirs.sendall(b"x")
        waiting.get()
        assert ours.recv(1) == b"x"
    assert not gone.is_set()
