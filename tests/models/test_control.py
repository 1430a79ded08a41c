import gzip
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from gevent.event import Event

from llmsnap.config import Endpoint
from llmsnap.errors import SleepFailed, Unreachable, UpstreamTimeout, WakeFailed
from llmsnap.models.control import (
    MAX_BODY_BYTES,
    Address,
    ControlCall,
    find_listener,
    is_sleeping,
    parse_address,
    run_endpoints,
    send,
)
from tests.fakes.errors import says
from tests.fakes.upstream import FakeUpstream
from tests.fakes.wire import Link, WireServer


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("http://localhost:5800", "/health", "http://127.0.0.1:5800/health"),
        ("http://localhost:5800/base/", "/health", "http://127.0.0.1:5800/health"),
        ("http://localhost:5800/base", "health", "http://127.0.0.1:5800/base/health"),
        ("http://localhost:5800", "http://other:9/x", "http://other:9/x"),
        ("http://localhost", "/sleep?level=1", "http://127.0.0.1:80/sleep?level=1"),
        ("https://box.lan", "/health", "https://box.lan/health"),
    ],
)
def test_control_paths_are_resolved_as_references(url: str, path: str, expected: str) -> None:
    address = parse_address(url)
    found = Address(address.scheme, address.host, address.port, "127.0.0.1", address.base_path)
    assert found.url(path) == expected


@pytest.mark.parametrize("url", ["localhost:99", "ftp://x", "http://", "", "/relative"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        parse_address(url)
    address = parse_address("http://[::1]:5800/x/")
    assert (address.host, address.netloc, address.base_path) == ("::1", "[::1]:5800", "/x")
    assert address.url("/health") == "http://[::1]:5800/health"


class Recorder:
    """A server that keeps what it was sent and answers *body*."""

    def __init__(
        self, upstream: FakeUpstream, body: Iterable[bytes], status: str = "200 -"
    ) -> None:
        self.body, self.status = body, status
        self.headers: list[tuple[str, str]] = []
        self.seen: list[dict[str, Any]] = []
        upstream.handler = self.answer
        upstream.start()

    def answer(self, environ, start_response) -> Iterable[bytes]:
        self.seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response(self.status.format(environ["QUERY_STRING"]), self.headers)
        return self.body


def test_localhost_is_the_loopback_address_that_listens(upstream: FakeUpstream) -> None:
    address = parse_address(f"http://localhost:{upstream.port}")
    upstream.start()
    found = find_listener(address)
    assert found is not None
    assert (found.ip, found.netloc) == ("127.0.0.1", f"localhost:{upstream.port}")
    upstream.stop()
    assert find_listener(address) is None


def test_each_call_sends_its_body_as_json_to_the_name_as_host_on_its_own_connection(
    upstream: FakeUpstream,
) -> None:
    server = Recorder(upstream, [b"done"], "201 Created")
    address = Address("http", "localhost", upstream.port, "127.0.0.1")
    for _ in range(2):
        assert send(address, ControlCall("PUT", "/x", '{"a": 1}')) == (201, b"done")
    shown = [(each["HTTP_HOST"], each["CONTENT_TYPE"], each["body"]) for each in server.seen]
    assert shown == [(f"localhost:{upstream.port}", "application/json", b'{"a": 1}')] * 2
    assert len({each["REMOTE_PORT"] for each in server.seen}) == 2


def test_failures_are_ours_and_short(upstream: FakeUpstream) -> None:
    address = parse_address(upstream.url)
    upstream.gates["/hang"] = Event()
    upstream.start()
    with pytest.raises(UpstreamTimeout, match=r"GET /hang did not answer within 0\.05 s"):
        send(address, ControlCall("GET", "/hang", limit_s=0.05))
    upstream.gates["/hang"].set()
    upstream.stop()
    with pytest.raises(Unreachable, match=r"POST /sleep failed: .*refused"):
        send(address, ControlCall("POST", "/sleep"))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_is_not_followed(upstream: FakeUpstream, method: str) -> None:
    server = Recorder(upstream, [b"there"], "{} -")
    server.headers = [("Location", f"{upstream.url}/elsewhere")]
    for status in (301, 302, 303, 307, 308):
        call = ControlCall(method, f"/x?{status}", '{"a":1}')
        assert send(parse_address(upstream.url), call) == (status, b"there")
    assert upstream.calls == [f"{method} /x"] * 5


@pytest.mark.parametrize("length", [None, 1 << 40])
def test_of_a_body_without_end_the_beginning_is_read(upstream: FakeUpstream, length) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        while len(sent) < 10_000:
            sent.append(1 << 16)
            yield b"x" * (1 << 16)

    server = Recorder(upstream, endless())
    server.headers = [("Content-Length", str(length))] if length else []
    status, body = send(parse_address(upstream.url), ControlCall("GET", "/x"))
    assert (status, len(body)) == (200, MAX_BODY_BYTES)
    assert sum(sent) < 64 * MAX_BODY_BYTES, "the connection was closed"


def test_what_is_packed_unasked_is_not_unpacked(upstream: FakeUpstream) -> None:
    server = Recorder(upstream, [gzip.compress(b"0" * 10_000)])
    server.headers = [("Content-Encoding", "gzip")]
    assert send(parse_address(upstream.url), ControlCall("GET", "/x")) == (200, b"")
    assert [each["HTTP_ACCEPT_ENCODING"] for each in server.seen] == ["identity"]


@pytest.mark.parametrize("slow", ["head", "body"])
def test_the_limit_of_time_is_for_the_whole_call(wire: WireServer, slow: str) -> None:
    done = Event()

    def drip(link: Link) -> None:
        link.read_request()
        if slow == "body":
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        else:
            link.send(b"HTTP/1.1 200 OK\r\nX-A: ")
        while not done.wait(0.01):
            link.send(b"x")

    wire.scripts = [drip]
    with pytest.raises(UpstreamTimeout, match=r"GET /x did not answer within 0\.2 s"):
        send(wire.address, ControlCall("GET", "/x", limit_s=0.2))
    done.set()


def test_a_call_whose_body_breaks_off_has_failed(wire: WireServer) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal")

    wire.scripts = [script]
    with pytest.raises(Unreachable, match="GET /x failed"):
        send(wire.address, ControlCall("GET", "/x"))


STEPS = (Endpoint("/one"), Endpoint("/two?x=1", "PUT", '{"a":1}', 10), Endpoint("/three"))


def test_steps_run_in_order_and_any_2xx_is_success(upstream: FakeUpstream, interrupt) -> None:
    upstream.statuses = {"/one": 200, "/two": 202, "/three": 204}
    upstream.start()
    run_endpoints("sleep", STEPS, parse_address(upstream.url), interrupt, SleepFailed)
    assert upstream.calls == ["POST /one", "PUT /two", "POST /three"]


@pytest.mark.parametrize(
    ("hangs", "reason"),
    [
        (False, r"wake step 2 of 3 failed: PUT /two\?x=1 answered 500"),
        (True, r"did not answer within 0\.1 s"),
    ],
)
def test_the_first_failure_ends_it_and_names_the_step(
    upstream: FakeUpstream, interrupt, hangs: bool, reason: str
) -> None:
    upstream.statuses = {"/one": 200, "/two": 500}
    gate = upstream.gates["/two"] = Event()
    if not hangs:
        gate.set()
    upstream.start()
    first, second, third = STEPS
    steps = (first, replace(second, timeout_s=0.1 if hangs else 10), third)
    with pytest.raises(WakeFailed, check=says(reason)):
        run_endpoints("wake", steps, parse_address(upstream.url), interrupt, WakeFailed)
    assert "POST /three" not in upstream.calls
    gate.set()


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"is_sleeping": true}', True),
        (200, b'{"is_sleeping": false}', False),
        (200, b"true", None),
        (200, b"not json", None),
        (200, b'{"is_sleeping": 1}', None),
        (404, b'{"is_sleeping": true}', None),
    ],
)
def test_a_server_that_can_tell_is_believed(upstream, interrupt, status, body, answer) -> None:
    Recorder(upstream, [body], f"{status} -")
    assert is_sleeping(parse_address(upstream.url), interrupt) is answer
