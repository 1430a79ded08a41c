"""The upstream client: connections kept and dropped, requests sent, answers read."""

import shutil
import struct
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest
from gevent import socket, ssl
from gevent.event import Event

from llmsnap.errors import ClientGone, Unreachable, UpstreamBroke, UpstreamTimeout
from llmsnap.models import parse_address
from llmsnap.proxy import pool as module
from llmsnap.proxy.client import Exchange, UpstreamRequest, UpstreamTimeouts
from llmsnap.proxy.pool import ConnectionPool, UpstreamConnection, connect, key_of
from tests.fakes.wire import Link, WireServer
from tests.server.test_tls import make as make_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

NONE = UpstreamTimeouts()


def post(body: object = b"{}", length: int | None = None) -> UpstreamRequest:
    return UpstreamRequest("POST", "/v1/x", [("Host", "x")], body, length)


def run(pool: ConnectionPool, wire: WireServer, request: UpstreamRequest, limits=NONE) -> bytes:
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


def once(answer: bytes):
    """A script: one answer, and then the end of the connection."""
    return lambda link: (link.read_request(), link.send(answer))


def test_the_request_goes_out_as_given(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK)]
    run(pool, wire, UpstreamRequest("POST", "/a%2F?c=d", [("Host", "h"), ("X", "é")], b"{}"))
    said = b"POST /a%2F?c=d HTTP/1.1\r\nHost: h\r\nX: \xe9\r\nContent-Length: 2\r\n\r\n{}"
    assert wire.requests == [said]


def test_a_body_in_pieces_is_sent_with_its_length_or_chunked(pool, wire: WireServer) -> None:
    got: list[bytes] = []

    def script(link: Link) -> None:
        while b"piece" not in link.buffer or not link.buffer.endswith((b"two", b"0\r\n\r\n")):
            link._more()
        got.append(link.buffer)
        link.send(OK)

    wire.scripts = [script]
    run(pool, wire, post(lambda: [b"piece", b"two"], 8))
    pool.close()
    run(pool, wire, post(lambda: [b"piece", b"", b"two"]))
    assert got[0].endswith(b"Content-Length: 8\r\n\r\npiecetwo")
    assert got[1].endswith(b"Transfer-Encoding: chunked\r\n\r\n5\r\npiece\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_each_chunk_is_handed_on_as_it_arrives(pool, wire: WireServer) -> None:
    more = Event()

    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        more.wait()
        link.send(b"3\r\ntwo\r\n0\r\n\r\n")
        link.wait_closed()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, UpstreamTimeouts())
    exchange.send(post())
    assert exchange.headers == [("Transfer-Encoding", "chunked")]
    assert exchange.read() == b"one"
    more.set()
    assert exchange.read() == b"two"
    assert exchange.read() == b""
    exchange.close()


def test_an_answer_without_length_ends_with_the_connection(pool, wire: WireServer) -> None:
    wire.scripts = [once(b"HTTP/1.1 200 OK\r\n\r\nall of it")]
    assert run(pool, wire, post()) == b"200 all of it"
    wire.scripts = [once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")]
    assert run(pool, wire, UpstreamRequest("HEAD", "/", [])) == b"200 "
    assert repr(pool) == "<ConnectionPool 0 idle>"


# --- which connections are kept, and what happens when one ends unasked ---------------------------

CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "local", "peer"),
    [
        (OK, 1, 1),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nhi", 1, 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1, 1),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\n" + CHUNKS, 0, 1),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKS, 0, 1),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + CHUNKS, 0, 0),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 0, 0),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 0, 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n" + CHUNKS, 0, 0),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 0, 0),
        (OK + OK, 0, 0),
    ],
)
def test_which_connections_are_kept(pool, wire, answer: bytes, local: int, peer: int) -> None:
    wire.scripts = [answer_all(answer)]
    for keeps_chunked, kept in ((False, local), (True, peer)):
        exchange = Exchange(pool, wire.address, NONE, keeps_chunked=keeps_chunked)
        exchange.send(post())
        while exchange.read():
            pass
        exchange.close()
        assert repr(pool) == f"<ConnectionPool {kept} idle>"
        pool.close()


def test_what_a_kept_connection_lost_counts_as_not_sent(pool, wire: WireServer) -> None:
    """So that another peer may be asked."""
    wire.scripts = [keep_then(Link.read_request)]
    assert run(pool, wire, post()) == b"200 hi"
    wire.server.stop_accepting()
    wire.server.socket.close()
    exchange = Exchange(pool, wire.address, NONE)
    with pytest.raises(Unreachable, match="cannot connect"):
        exchange.send(post())
    assert not exchange.was_sent


def test_an_answer_not_read_to_its_end_costs_the_connection(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK)]
    exchange = Exchange(pool, wire.address, NONE)
    exchange.send(post())
    exchange.close()
    assert repr(pool) == "<ConnectionPool 1 idle>", "all of it came with the head"
    wire.scripts = [answer_all(OK[:-1])]
    pool.close()
    exchange = Exchange(pool, wire.address, NONE)
    exchange.send(post())
    exchange.close()
    assert repr(pool) == "<ConnectionPool 0 idle>"


def keep_then(behave):
    """A script: one good answer, then *behave* when the next request begins to arrive."""

    def script(link: Link) -> None:
        link.read_request()
        link.send(OK)
        gevent.socket.wait_read(link.sock.fileno())
        behave(link)

    return script


def reset(link: Link) -> None:
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def shut_down_then_close(link: Link) -> None:
    link.sock.shutdown(socket.SHUT_WR)
    gevent.sleep(0.002)  # the client has seen the end by now, and not yet the reset


def read_a_part(link: Link) -> None:
    link.sock.recv(5)


ENDINGS = {
    "reset": reset,
    "closed unread": lambda link: None,
    "shut down, then closed": shut_down_then_close,
    "closed after a part": read_a_part,
    "reset after a part": lambda link: (read_a_part(link), reset(link)),
    "closed after all": Link.read_request,
    "reset after all": lambda link: (link.read_request(), reset(link)),
}
BODIES = {
    "none": (b"", None),
    "short": (b"{}", None),
    "long": (b"x" * 3_000_000, None),
    "pieces": (lambda: [b"x" * 65536] * 40, 65536 * 40),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_what_ends_without_a_byte_of_an_answer_is_sent_again(pool, wire, ending) -> None:
    for name, body in BODIES.items():
        wire.scripts, wire.connections = [keep_then(ending), answer_all(OK)], 0
        assert run(pool, wire, post()) == b"200 hi"
        method = "POST" if body[0] else "GET"
        assert run(pool, wire, UpstreamRequest(method, "/", [], *body)) == b"200 hi", name
        assert wire.connections == 2
        whole = body[0] if isinstance(body[0], bytes) else b"".join(body[0]())
        assert wire.requests[-1].partition(b"\r\n\r\n")[2] == whole, name
        pool.close()


def test_what_may_not_be_sent_twice_begins_with_a_new_connection(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK, OK)]
    once = UpstreamRequest("POST", "/", [], b"{}", is_resendable=False)
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, once) == b"200 hi"
    assert wire.connections == 2
    assert repr(pool) == "<ConnectionPool 2 idle>"


def test_what_has_begun_to_answer_is_not_was_resent(pool, wire: WireServer) -> None:
    wire.scripts = [keep_then(once(b"HTTP/1.1 2"))]
    assert run(pool, wire, post()) == b"200 hi"
    with pytest.raises(UpstreamBroke, match="in the head of its answer"):
        run(pool, wire, post())
    assert wire.connections == 1


# --- answers that come before the request was sent -----------------------------------------------

LARGE = 8_000_000  # more than two sockets hold
PIECES = [b"x" * 65536] * (LARGE // 65536)
UPLOADS = {
    "in memory": (b"x" * LARGE, None),
    "in pieces": (lambda: iter(PIECES), 65536 * len(PIECES)),
    "chunked": (lambda: iter(PIECES), None),
}
REFUSED = b"HTTP/1.1 413 Too Large\r\n"
REFUSALS = {
    "with a length": REFUSED + b"Content-Length: 3\r\n\r\nbig",
    "in chunks": REFUSED + b"Transfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n",
    "till it closes": REFUSED + b"Connection: close\r\n\r\nbig",
    "after an interim one": b"HTTP/1.1 103 Early Hints\r\n\r\n"
    + REFUSED
    + b"Content-Length: 3\r\n\r\nbig",
}

AFTERWARDS = {
    "closes": lambda link: None,  # with the upload unread, which resets the connection
    "shuts down": lambda link: (link.sock.shutdown(socket.SHUT_WR), link.wait_closed()),
    "reads all": Link.wait_closed,
    "does nothing": lambda link: gevent.sleep(60),
}
ENDLESS = {("till it closes", "reads all"), ("till it closes", "does nothing")}


@pytest.mark.parametrize(
    ("upload", "refusal", "afterwards"),
    [(upload, "with a length", end) for upload in UPLOADS for end in AFTERWARDS]
    + [
        ("in memory", refusal, end)
        for refusal in REFUSALS
        for end in AFTERWARDS
        if refusal != "with a length" and (refusal, end) not in ENDLESS
    ],
)
def test_a_refusal_before_the_upload_was_read_arrives(
    pool, wire: WireServer, upload: str, refusal: str, afterwards: str
) -> None:
    """On a new connection, and on one that was kept."""

    def refuse(link: Link) -> None:
        link.sock.recv(1000)
        link.send(REFUSALS[refusal])
        AFTERWARDS[afterwards](link)

    wire.scripts = [refuse, lambda link: (once(OK)(link), refuse(link))]
    request = UpstreamRequest("POST", "/", [], *UPLOADS[upload])
    assert run(pool, wire, request) == b"413 big"
    assert repr(pool) == "<ConnectionPool 0 idle>", "the rest of the upload is still owed"
    assert run(pool, wire, post()) == b"200 hi"
    assert run(pool, wire, request) == b"413 big"
    assert wire.connections == 2
    assert repr(pool) == "<ConnectionPool 0 idle>"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    make_certificate(folder, "localhost")
    return folder


@pytest.fixture
def secure(certificate, monkeypatch):
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    monkeypatch.setattr("llmsnap.proxy.pool._tls", lambda: trusting)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = WireServer(context)
    server.start()
    yield server
    server.stop()


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")


@pytest.fixture(params=["wire", pytest.param("secure", marks=needs_openssl)])
def server(request) -> WireServer:
    """One that speaks HTTP, and one that speaks HTTPS."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize("early", [0, len(OK) - 1], ids=["at the end", "early"])
def test_an_answer_that_is_no_refusal_gets_the_whole_upload(pool, server, upload, early) -> None:
    """Also an early one, and where the tickets of TLS come first."""

    def script(link: Link) -> None:
        size = len(link.sock.recv(1000))
        link.send(OK[:early])
        while size < LARGE * 0.99 and (data := link.sock.recv(1 << 20)):
            size += len(data)
        link.send(OK[early:])
        link.wait_closed()

    server.scripts = [script]
    assert run(pool, server, UpstreamRequest("POST", "/", [], *UPLOADS[upload])) == b"200 hi"


@needs_openssl
@pytest.mark.parametrize("afterwards", ["closes", "reads all", "does nothing"])
def test_a_refusal_over_tls_arrives(pool, secure, afterwards: str) -> None:
    def script(link: Link) -> None:
        link.sock.recv(1000)
        link.send(REFUSALS["after an interim one"])
        AFTERWARDS[afterwards](link)

    secure.scripts = [script]
    assert run(pool, secure, post(b"x" * LARGE)) == b"413 big"


# --- limits of time, leaving, and what is no answer ----------------------------------------------


def breaking():
    """A body whose client breaks off."""
    yield b"one"
    raise ConnectionResetError("the client")


HEAD = b"HTTP/1.1 200 OK\r\n"
ONCE = UpstreamRequest("POST", "/", [], b"{}", is_resendable=False)
SPLIT = UpstreamRequest("GET", "/", [("X", "a\r\nY: b")])


@pytest.mark.parametrize(
    ("script", "asked", "error", "words"),
    [
        (once(HEAD + b"Content-Length: 9\r\n\r\nhalf"), post(), UpstreamBroke, "too early"),
        (once(OK[:-6]), post(), UpstreamBroke, "in the head of its answer"),
        (once(HEAD + CHUNKS[:-5]), post(), UpstreamBroke, "too early"),
        (once(b"HTTP/1.1 20 OK\r\n\r\n"), post(), UpstreamBroke, r"does not speak HTTP/1\.1"),
        (
            once(HEAD + b"X: %b\r\n" % (b"b" * 9_000) * 30),
            post(),
            UpstreamBroke,
            "longer than 262144 ",
        ),
        (answer_all(OK), SPLIT, UpstreamBroke, "line break"),
        (Link.read_request, post(), Unreachable, "without an answer"),
        (Link.read_request, ONCE, Unreachable, "without an answer"),
        (lambda link: link.sock.recv(1000), post(b"x" * LARGE), Unreachable, "no answer from"),
        (Link.wait_closed, post(breaking), ConnectionResetError, "the client"),
    ],
)
def test_what_fails_is_named_and_not_tried_again(pool, wire, script, asked, error, words) -> None:
    wire.scripts = [script]
    with pytest.raises(error, match=words):
        run(pool, wire, asked)
    assert wire.connections <= 1
    assert repr(pool) == "<ConnectionPool 0 idle>"


def patiently(pool, server, request: UpstreamRequest, limits=NONE) -> tuple[int, bytes]:
    """Send *request* and wait in short steps; return how many were in vain, and the answer."""
    exchange = Exchange(pool, server.address, limits)
    try:
        steps = 0
        has_come = exchange.send(request, max_wait_s=0.01)
        while not has_come:
            assert exchange.status == 0
            steps += 1
            if steps == 3:
                server.go_on.set()
            has_come = exchange.wait_head(0.01)
        return steps, exchange.read()
    finally:
        exchange.close()


@pytest.mark.parametrize("head_s", [0.0, 20.0])
def test_a_head_can_be_waited_for_in_steps(pool, server, head_s: float) -> None:
    server.go_on = Event()

    def script(link: Link) -> None:
        link.read_request()
        link.send(OK[:9])
        server.go_on.wait()
        link.send(OK[9:])

    server.scripts = [script]
    steps, said = patiently(pool, server, post(), UpstreamTimeouts(head_s=head_s))
    assert (steps >= 3, said) == (True, b"hi")


def test_a_kept_connection_that_ends_after_long_silence_is_replaced(pool, server) -> None:
    server.go_on = Event()
    end_late = keep_then(lambda link: (link.read_request(), server.go_on.wait()))
    server.scripts = [end_late, answer_all(OK)]
    assert run(pool, server, post()) == b"200 hi"
    assert patiently(pool, server, post(b"x" * 200_000))[1] == b"hi"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("script", "ask", "asked", "words"),
    [
        (answer_all(b""), run, post(), "did not answer within"),
        (answer_all(b""), patiently, post(), "did not answer within"),
        (answer_all(OK[:-1]), run, post(), "sent nothing for"),
        (AFTERWARDS["does nothing"], run, post(b"x" * LARGE), r"took nothing of .* for 0\.05 s"),
    ],
)
def test_there_are_limits_of_time(pool, wire: WireServer, script, ask, asked, words: str) -> None:
    wire.scripts, wire.go_on = [script], Event()
    with pytest.raises(UpstreamTimeout, match=words):
        ask(pool, wire, asked, UpstreamTimeouts(connect_s=4, head_s=0.05, idle_s=0.05))


def test_an_exchange_closed_before_its_head_costs_the_connection(pool, wire: WireServer) -> None:
    closed = Event()
    wire.scripts = [lambda link: (link.read_request(), link.wait_closed(), closed.set())]
    exchange = Exchange(pool, wire.address, NONE)
    assert not exchange.send(post(), max_wait_s=0.01)
    exchange.close()
    assert closed.wait(4)


@pytest.mark.parametrize("body", [b"{}", b"x" * LARGE], ids=["head", "room"])
def test_abort_wakes_whoever_waits_for_the_head_or_for_room(pool, wire, body: bytes) -> None:
    asked, aborted, closed = Event(), Event(), Event()

    def script(link: Link) -> None:
        link.sock.recv(1000)
        asked.set()
        aborted.wait()
        link.wait_closed()
        closed.set()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, UpstreamTimeouts())
    sender = gevent.Greenlet(exchange.send, post(body))
    sender.start()
    assert asked.wait(4)
    gevent.idle()
    exchange.abort()
    with pytest.raises(ClientGone):
        sender.get()
    aborted.set()
    assert closed.wait(4), "the upstream sees its client leave"


def test_abort_before_the_connection_exists_counts(pool, wire: WireServer) -> None:
    wire.scripts = [answer_all(OK)]
    exchange = Exchange(pool, wire.address, UpstreamTimeouts())
    exchange.abort()
    with pytest.raises(ClientGone):
        exchange.send(post())


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 20, len(SWITCH) - 1, len(SWITCH), len(SWITCH) + 2])
def test_an_upgrade_leaves_the_socket_and_what_came_behind_its_head(pool, wire, cut) -> None:
    def script(link: Link) -> None:
        link.read_request()
        sent = SWITCH + b"early"
        link.send(sent[:cut])
        gevent.idle()
        link.send(sent[cut:])
        link.wait_closed()

    wire.scripts = [script]
    exchange = Exchange(pool, wire.address, UpstreamTimeouts(idle_s=5))
    exchange.send(UpstreamRequest("GET", "/", [("Host", "x")]))
    assert exchange.status == 101
    sock, early = exchange.upgraded()
    while len(early) < 5:
        early += sock.recv(10)
    assert early == b"early"
    assert sock.gettimeout() is None
    exchange.close()
    assert repr(pool) == "<ConnectionPool 0 idle>"


ADDRESS = parse_address("http://127.0.0.1:9")


@pytest.fixture
def pairs():
    with ExitStack() as stack:

        def make() -> tuple[UpstreamConnection, socket.socket]:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            return UpstreamConnection(key_of(ADDRESS), ours), theirs

        yield make


def test_the_newest_idle_connection_is_lent_first_none_that_closed_or_talks(pool, pairs) -> None:
    (first, _), (second, _), (closed, theirs), (talking, other) = (pairs() for _ in range(4))
    for one in (first, second, closed, talking):
        pool.give_back(one)
    theirs.close()
    other.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert pool.take(key_of(ADDRESS)) is second
    assert pool.take(key_of(ADDRESS)) is first
    assert pool.take(key_of(ADDRESS)) is None


def test_old_forgotten_and_too_many_connections_are_not_kept(pool, pairs, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 1)
    pool.give_back(pairs()[0])
    newest = pairs()[0]
    pool.give_back(newest)
    assert repr(pool) == "<ConnectionPool 1 idle>"
    assert pool.take(key_of(ADDRESS)) is newest
    pool.give_back(newest)
    pool.forget(ADDRESS)
    pool.forget(ADDRESS)
    assert repr(pool) == "<ConnectionPool 0 idle>"
    pool.give_back(pairs()[0])
    monkeypatch.setattr(module, "IDLE_LIMIT_S", -1)
    assert pool.take(key_of(ADDRESS)) is None


def test_localhost_is_tried_on_both_loopback_addresses_and_a_name_is_looked_up(port: int) -> None:
    module._dial("localhost", port, 4).close()
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with connect(parse_address(f"http://localhost:{port}"), 4) as link:
            assert link.getpeername()[0] == "::1"
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(Unreachable, match=f"cannot connect to localhost:{port}"):
        connect(parse_address(f"http://localhost:{port}"), 4)


@pytest.mark.parametrize("at_once", [True, False])
def test_on_this_machine_only_a_handshake_that_takes_long_is_waited_for(
    monkeypatch, port: int, at_once: bool
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a thread was asked, or the loop waited")

    monkeypatch.setattr(socket, "create_connection", never)
    if at_once:
        monkeypatch.setattr(socket.socket, "connect", never)
    else:
        monkeypatch.setattr(module, "_is_connected", lambda _: False)
    with connect(parse_address(f"http://127.0.0.1:{port}"), 4) as link:
        assert link.gettimeout() == 4
        link.sendall(b"x")
    monkeypatch.undo()
    with pytest.raises(Unreachable, match="Connection refused"):
        connect(parse_address("http://127.0.0.1:1"), 2)


def test_nobody_accepts_within_the_limit(port: int) -> None:
    filling = [socket.socket() for _ in range(3)]
    for one in filling:
        one.settimeout(0)
        one.connect_ex(("127.0.0.1", port))
    with pytest.raises(UpstreamTimeout):
        connect(parse_address(f"http://127.0.0.1:{port}"), 0.05)
    for one in filling:
        one.close()
