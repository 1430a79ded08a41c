import struct

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.errors import ClientGone, Unreachable, UpstreamBroke, UpstreamTimeout
from llmsnap.proxy.client import Exchange, Limits, Outgoing
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.upstream.control import parse_address
from tests.fakes.wire import Link, WireServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

NONE = Limits()


@pytest.fixture
def pool():
    made = ConnectionPool()
    yield made
    made.close()


def get(path: str = "/") -> Outgoing:
    return Outgoing("GET", path, [("Host", "x")])


def post(body: object = b"{}", length: int | None = None) -> Outgoing:
    return Outgoing("POST", "/v1/x", [("Host", "x")], body, length)


def run(pool: ConnectionPool, wire: WireServer, request: Outgoing, limits=NONE) -> bytes:
    exchange = Exchange(pool, wire.address, limits)
    try:
        exchange.send(request)
        pieces = []
        while data := exchange.read():
            pieces.append(data)
        return b"%d %b" % (exchange.status, b"".join(pieces))
    finally:
        exchange.close()


def answer_all(*answers: bytes):
    def script(link: Link) -> None:
        for answer in answers:
            if not link.read_request():
                return
            link.send(answer)
        link.wait_closed()

    return script


def test_a_connection_is_kept_and_used_again(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK, OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, post()) == b"200 hi"
    assert wire.connections == 1


def test_the_request_goes_out_as_given(pool, wire: WireServer) -> None:
    seen: list[bytes] = []

    def script(link: Link) -> None:
        seen.append(link.read_request())
        link.send(OK)

    wire.scripts = [script]
    run(pool, wire, Outgoing("POST", "/a%2Fb?c=d", [("Host", "h"), ("X-One", "é")], b"body"))
    assert seen == [
        b"POST /a%2Fb?c=d HTTP/1.1\r\nHost: h\r\nX-One: \xe9\r\nContent-Length: 4\r\n\r\nbody"
    ]


def test_a_body_in_pieces_is_sent_with_its_length_or_chunked(pool, wire: WireServer) -> None:
    seen: list[bytes] = []

    def script(link: Link) -> None:
        while b"piece" not in link.buffer or not link.buffer.endswith((b"two", b"0\r\n\r\n")):
            link._more()
        seen.append(link.buffer)
        link.send(OK)

    wire.scripts = [script]
    run(pool, wire, post(iter([b"piece", b"two"]), 8))
    pool.close()
    run(pool, wire, post(iter([b"piece", b"two"])))
    assert seen[0].endswith(b"Content-Length: 8\r\n\r\npiecetwo")
    assert seen[1].endswith(
        b"Transfer-Encoding: chunked\r\n\r\n5\r\npiece\r\n3\r\ntwo\r\n0\r\n\r\n"
    )


def test_each_chunk_is_handed_on_as_it_arrives(pool, wire: WireServer) -> None:
    more = Event()

    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        more.wait()
        link.send(b"3\r\ntwo\r\n0\r\n\r\n")
        link.wait_closed()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, Limits())
    exchange.send(post())
    assert exchange.headers == [("Transfer-Encoding", "chunked")]
    assert exchange.read() == b"one"
    more.set()
    assert exchange.read() == b"two"
    assert exchange.read() == b""
    exchange.close()
    assert repr(pool) == "<ConnectionPool 1 idle>"


def test_an_answer_without_length_ends_with_the_connection(pool, wire: WireServer) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    wire.scripts = [script]
    assert run(pool, wire, post()) == b"200 all of it"
    assert repr(pool) == "<ConnectionPool 0 idle>"


@pytest.mark.parametrize(
    "head", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["length", "chunks"]
)
def test_an_answer_that_ends_too_early_is_broken(pool, wire: WireServer, head: bytes) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n4\r\nhalf\r\n"[: 10 if b"C" in head else 9])

    wire.scripts = [script]
    with pytest.raises(UpstreamBroke, match="too early"):
        run(pool, wire, post())


def test_interim_answers_are_passed_over(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + OK)]
    assert run(pool, wire, post()) == b"200 hi"


def test_an_answer_to_head_has_no_body(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")]
    assert run(pool, wire, Outgoing("HEAD", "/", [])) == b"200 "


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 20 OK\r\n\r\n"])
def test_what_is_not_http_is_said_so(pool, wire: WireServer, answer: bytes) -> None:
    wire.scripts = [answer_all(answer)]
    with pytest.raises(UpstreamBroke, match=r"does not speak HTTP/1\.1"):
        run(pool, wire, post())


def test_nothing_there_is_unreachable(pool) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = parse_address(f"http://localhost:{closed.getsockname()[1]}")
        exchange = Exchange(pool, address, Limits())
        with pytest.raises(Unreachable, match=r"cannot connect to localhost:\d+: "):
            exchange.send(post())


def test_a_kept_connection_closed_meanwhile_is_replaced(pool, wire: WireServer) -> None:
    closed = Event()

    def once(link: Link) -> None:
        link.read_request()
        link.send(OK)
        link.sock.close()
        closed.set()

    wire.scripts = [once, answer_all(OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert closed.wait(2)
    assert run(pool, wire, post()) == b"200 hi"
    assert wire.connections == 2


def keep_then(behave):
    """A script: one good answer, then *behave* when the next request begins to arrive."""

    def script(link: Link) -> None:
        link.read_request()
        link.send(OK)
        behave(link)

    return script


def test_a_request_refused_unread_is_sent_again(pool, wire: WireServer) -> None:
    def reset(link: Link) -> None:
        gevent.socket.wait_read(link.sock.fileno())
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    wire.scripts = [keep_then(reset), answer_all(OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, post()) == b"200 hi"
    assert wire.connections == 2


def test_a_request_refused_a_moment_after_the_end_is_sent_again(pool, wire: WireServer) -> None:
    def shut_down_then_close(link: Link) -> None:
        gevent.socket.wait_read(link.sock.fileno())
        link.sock.shutdown(socket.SHUT_WR)
        gevent.sleep(0.002)  # the client has seen the end by now
        link.sock.close()  # with the request unread: a RST

    wire.scripts = [keep_then(shut_down_then_close), answer_all(OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, post()) == b"200 hi"
    assert wire.connections == 2


def test_a_request_that_may_have_been_begun_is_not_sent_again(pool, wire: WireServer) -> None:
    def read_and_die(link: Link) -> None:
        link.read_request()

    wire.scripts = [keep_then(read_and_die), answer_all(OK)]
    assert run(pool, wire, post()) == b"200 hi"
    with pytest.raises(Unreachable, match="without an answer"):
        run(pool, wire, post())
    assert wire.connections == 1


def test_an_idempotent_request_is_sent_again_in_any_case(pool, wire: WireServer) -> None:
    wire.scripts = [keep_then(lambda link: link.read_request() and None), answer_all(OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, get()) == b"200 hi"
    assert wire.connections == 2


def test_time_limits_on_head_and_silence(pool, wire: WireServer) -> None:
    hold = Event()

    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na" if wire.connections > 1 else b"")
        hold.wait()

    wire.scripts = [script]
    limits = Limits(connect_s=1, head_s=0.05, idle_s=0.05)
    with pytest.raises(UpstreamTimeout, match="did not answer within"):
        run(pool, wire, post(), limits)
    with pytest.raises(UpstreamTimeout, match="sent nothing for"):
        run(pool, wire, post(), limits)
    hold.set()


def test_abort_wakes_whoever_waits_for_the_head(pool, wire: WireServer) -> None:
    asked, closed = Event(), Event()

    def script(link: Link) -> None:
        link.read_request()
        asked.set()
        link.wait_closed()
        closed.set()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, Limits())
    errors: list[Exception] = []

    def send() -> None:
        try:
            exchange.send(post())
        except ClientGone as error:
            errors.append(error)

    sender = gevent.Greenlet(send)
    sender.start()
    assert asked.wait(2)
    exchange.abort()
    sender.join()
    assert errors
    assert closed.wait(2), "the upstream sees its client leave"


def test_abort_before_the_connection_exists_counts(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK)]
    exchange = Exchange(pool, wire.address, Limits())
    exchange.abort()
    with pytest.raises(ClientGone):
        exchange.send(post())


def test_a_header_with_a_line_break_is_never_sent(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK)]
    with pytest.raises(UpstreamBroke, match="line break"):
        run(pool, wire, Outgoing("GET", "/", [("X", "a\r\nY: b")]))


def test_more_bytes_than_one_answer_spoil_the_connection(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK + OK)]
    assert run(pool, wire, post()) == b"200 hi"
    assert repr(pool) == "<ConnectionPool 0 idle>"


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 20, len(SWITCH) - 1, len(SWITCH), len(SWITCH) + 2])
def test_an_upgrade_leaves_the_socket_and_what_came_behind_its_head(
    pool, wire: WireServer, cut: int
) -> None:
    def script(link: Link) -> None:
        link.read_request()
        sent = SWITCH + b"early"
        link.send(sent[:cut])
        gevent.idle()
        link.send(sent[cut:])
        link.wait_closed()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, Limits(idle_s=5))
    exchange.send(get())
    assert exchange.status == 101
    sock, early = exchange.upgraded()
    while len(early) < 5:
        early += sock.recv(10)
    assert early == b"early"
    assert sock.gettimeout() is None
    exchange.close()
    assert repr(pool) == "<ConnectionPool 0 idle>"
