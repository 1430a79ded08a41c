"""Facts about llmsnap.proxy.dispatch: real greenlets, a queue the test opens, a real upstream."""

from __future__ import annotations

import json

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.errors import (
    Aborted,
    BadRequest,
    BodyTimeout,
    ChildExited,
    ClientGone,
    Forbidden,
    LoadAborted,
    ModelLeft,
    NotReady,
    TooManyInFlight,
    UnknownModel,
    Unreachable,
    UpstreamTimeout,
)
from llmsnap.http.auth import Keyring
from llmsnap.http.headers import PAGE_SANDBOX
from llmsnap.http.routes import RESOURCES, ROUTES, ModelPlace
from llmsnap.models import parse_address
from llmsnap.proxy import dispatch, stream
from llmsnap.proxy.client import ConnectionPool
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.disconnect import ClientMonitor
from llmsnap.proxy.dispatch import Dispatcher
from llmsnap.proxy.payload import RESEND_BYTES
from llmsnap.proxy.request import BodyBudget, BodyShare
from llmsnap.routing import Ticket
from tests.fakes.calls import FakeQueue, make_request, recorder, runtime
from tests.fakes.upstream import SOCKET, FakeUpstream
from tests.garbage import leftovers, of_ours

EVENTS = [("Content-Type", "text/event-stream")]
POSTS = [row for row in ROUTES if row.model is ModelPlace.JSON]
WITH_EVENTS = [row.path for row in POSTS if row.stream]
NO_EVENTS = [row.path for row in POSTS if not row.stream]
TEXT = """\
apiKeys: [{{key: all}}, {{key: some, name: laptop, models: [a], admin: false}}]
models:
  a:
    cmd: x
    proxy: {url}
    aliases: [first]
    useModelName: up
    filters: {{setParams: {{top_k: 5}}}}
  shown: {{cmd: x, proxy: "{url}", sendLoadingState: true}}
  own: {{cmd: x, proxy: "{url}", apiKey: ours, headers: {{X-Team: blue-0001}}}}
peers:
  dead: {{proxy: "http://127.0.0.1:1", models: [r, lost], filters: {{setParams: {{dead: 1}}}}}}
  live: {{proxy: "{url}/base", models: [r, only], apiKey: pk}}
profiles:
  work: {{pins: {{gpt: own, own: , shown: a, far: live/only}}}}
"""


def asks(*args, **facts) -> RequestContext:
    return RequestContext(make_request(*args, **facts))


class Servers:
    """One server for all models. *ends* tell how it ended, one for each time it is asked."""

    def __init__(self, url: str) -> None:
        self.address = parse_address(url)
        self.ends: list[ChildExited | None] = []
        self.is_ready = [True]
        self.known: dict[str, dict] = {}

    def address_of(self, model_id: str):
        if not (self.is_ready.pop() if len(self.is_ready) > 1 else self.is_ready[0]):
            raise NotReady(f"{model_id} is stopped")
        return self.address

    def wait_end(self, model_id: str, address, limit_s: float):
        assert address is self.address
        assert limit_s > 0
        return self.ends.pop(0) if self.ends else None

    def known_properties(self, model):
        return self.known.get(model.id)


class World:
    """A dispatcher whose models and peers are all one server, which keeps what it was sent."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.upstream.handler = self.serve
        self.upstream.start()
        self.requests: list[dict] = []
        self.answer = ("200 OK", [("Content-Type", "application/json")], [b'{"ok":1}'])
        self.queue = FakeQueue()
        self.pool = ConnectionPool()
        self.recorder = recorder()
        self.snapshot = runtime(TEXT.format(url=self.upstream.url))
        self.servers = Servers(self.upstream.url)
        self.dispatcher = Dispatcher(self.queue, self.servers, self.pool, self.recorder)

    def serve(self, environ, start_response):
        self.requests.append(
            {
                "path": environ["PATH_INFO"],
                "query": environ["QUERY_STRING"],
                "body": environ["wsgi.input"].read(),
                **{name: value for name, value in environ.items() if name.startswith("HTTP_")},
            }
        )
        status, headers, body = self.answer
        start_response(status, headers)
        return body

    def handle(self, *args, **facts) -> bytes:
        """The body of the answer to one request, all of it settled."""
        made = asks(*args, **facts)
        body = self.dispatcher.handle(made, self.snapshot).body
        said = b"".join(body)
        body.close()
        return said

    @property
    def sent(self) -> dict:
        return json.loads(self.requests[-1]["body"])

    @property
    def records(self) -> list:
        return self.recorder.activity.snapshot()


@pytest.fixture
def world():
    made = World()
    yield made
    assert not made.recorder.in_flight(), "every request is filed"
    given = [ticket for ticket in made.queue.tickets if ticket._error is None]
    assert not given, "every lease is taken"
    made.pool.close()
    made.upstream.stop()


# --- a model of our own -------------------------------------------------------------------------


def test_a_request_is_adapted_sent_and_recorded(world) -> None:
    assert world.handle(body={"model": "first"}) == b'{"ok":1}'
    assert world.sent == {"model": "up", "top_k": 5}
    assert len(world.queue.returned) == 1
    (record,) = world.records
    assert (record.requested, record.model_id, record.status) == ("first", "a", 200)
    assert record.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/chat/completions", {"model": "first", "stream": True}, []),
        ("/v1/chat/completions", {"model": "only"}, []),
        ("/upstream/a/x", b"x" * 1000, []),
        (
            "/v1/audio/transcriptions",
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n',
            [("Content-Type", "multipart/form-data; boundary=b")],
        ),
    ],
    ids=["stream", "peer", "passed through", "form"],
)
def test_a_body_is_held_until_its_answer_begins(world, path, body, headers) -> None:
    bodies = BodyBudget()
    thinks = world.upstream.gates[path.removeprefix("/upstream/a")] = Event()
    world.upstream.gates["/base" + path] = thinks
    made = asks(path, body, method="POST", headers=headers, body_share=BodyShare(bodies))
    is_upstream = path.startswith("/upstream")
    handle = world.dispatcher.handle_upstream if is_upstream else world.dispatcher.handle
    answer = gevent.Greenlet(handle, made, world.snapshot)
    answer.start()
    while not world.upstream.calls:
        gevent.idle()
    assert bodies.memory.used_bytes > 0
    thinks.set()
    said = answer.get().body
    assert bodies.memory.used_bytes == 0
    assert b"".join(said)
    said.close()
    assert world.requests[0]["body"]


def test_a_body_that_stops_on_its_way_to_the_model_is_408_and_leaves_nothing(world) -> None:
    pieces = [b"x" * 10]

    def read(_: int) -> bytes:
        if pieces:
            return pieces.pop()
        raise BodyTimeout("the body of the request did not go on in time")

    made = asks("/upstream/a/x", b"", method="POST", length=RESEND_BYTES + 10, read=read)
    with pytest.raises(BodyTimeout):
        world.dispatcher.handle_upstream(made, world.snapshot)
    assert len(world.queue.returned) == 1, "the lease is back"
    assert [one.status for one in world.records] == [408]


def test_a_request_that_cannot_be_parsed_is_on_record_with_its_whole_path(world) -> None:
    path = "/upstream/a/what?/../../x"
    made = asks("/upstream/a/what%3F/../../x")
    made.request.path = path
    with pytest.raises(BadRequest):
        world.dispatcher.handle_upstream(made, world.snapshot)
    assert [(one.path, one.status) for one in world.records] == [(path, 400)]


def test_a_request_that_ended_leaves_no_work_for_the_collector(world) -> None:
    def serve() -> None:
        world.handle(body={"model": "first"}, monitor=ClientMonitor(None))
        world.queue.returned.clear()
        world.queue.tickets.clear()

    assert not of_ours(leftovers(serve))


def test_no_secret_of_the_address_is_recorded(world) -> None:
    world.handle("/v1/embeddings?api_key=secret", {"model": "a"})
    assert world.requests[-1]["query"] == "api_key=secret"
    assert "secret" not in repr(world.records)


def test_the_key_stays_and_the_id_goes_on(world) -> None:
    headers = [("Authorization", "Bearer all"), ("X-Request-Id", "theirs"), ("X-A", "b")]
    world.handle(body={"model": "a"}, headers=headers, id="ours")
    request = world.requests[-1]
    assert "HTTP_AUTHORIZATION" not in request
    assert (request["HTTP_X_REQUEST_ID"], request["HTTP_X_A"]) == ("ours", "b")
    assert request["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"


def test_what_is_refused_is_raised_recorded_and_holds_nothing(world) -> None:
    world.queue.grants = False
    made = asks(body={"model": "a"})
    waiting = gevent.Greenlet(world.dispatcher.handle, made, world.snapshot)
    waiting.start()
    world.queue.came.wait()
    world.queue.refuse(ChildExited("exit code 3"))
    with pytest.raises(ChildExited):
        waiting.get()
    assert made.request.monitor.opened == made.request.monitor.closed == 1
    (record,) = world.records
    assert (record.status, record.reason) == (502, "exit code 3")


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"body": b"junk"}, BadRequest),
        ({"body": {"model": "nope"}}, UnknownModel),
        ({"body": {"model": "a"}, "headers": [("X-Max-Wait", "nan")]}, BadRequest),
    ],
)
def test_what_cannot_be_served_is_recorded_too(world, facts, error) -> None:
    with pytest.raises(error):
        world.handle(**facts)
    (record,) = world.records
    assert record.status == error.status
    assert not world.queue.tickets


def test_wishes_about_waiting_reach_the_queue(world) -> None:
    world.handle(body={"model": "a"})
    world.handle(body={"model": "a"}, headers=[("X-Max-Wait", "1.5"), ("X-Swap", " Never ")])
    assert world.queue.asked == [
        {"max_wait_s": None, "never_swap": False},
        {"max_wait_s": 1.5, "never_swap": True},
    ]


def test_a_client_that_leaves_the_queue_is_gone_at_once(world) -> None:
    world.queue.grants = False
    made = asks(body={"model": "a"})
    waiting = gevent.Greenlet(world.dispatcher.handle, made, world.snapshot)
    waiting.start()
    world.queue.came.wait()
    made.request.monitor.leave()
    with pytest.raises(ClientGone):
        waiting.get()
    assert world.queue.cancelled == world.queue.tickets
    assert world.records[0].status == 499


def test_a_client_that_leaves_while_the_model_thinks_ends_the_exchange(world) -> None:
    thinks = world.upstream.gates["/v1/chat/completions"] = Event()
    made = asks(body={"model": "a"})
    asking = gevent.Greenlet(world.dispatcher.handle, made, world.snapshot)
    asking.start()
    while not world.upstream.calls:
        gevent.idle()
    made.request.monitor.leave()
    with pytest.raises(ClientGone):
        asking.get()
    assert len(world.queue.returned) == 1
    thinks.set()


def test_a_lease_cut_by_an_unload_says_so(world) -> None:
    thinks = world.upstream.gates["/v1/chat/completions"] = Event()
    asking = gevent.Greenlet(world.dispatcher.handle, asks(body={"model": "a"}), world.snapshot)
    world.queue.grants = False
    asking.start()
    world.queue.came.wait()
    lease = world.queue.grant()
    while not world.upstream.calls:
        gevent.idle()
    lease.cut(LoadAborted("a was unloaded while it answered"))
    with pytest.raises(LoadAborted):
        asking.get()
    thinks.set()


def test_a_cancelled_request_ends(world) -> None:
    thinks = world.upstream.gates["/v1/chat/completions"] = Event()
    asking = gevent.Greenlet(world.dispatcher.handle, asks(body={"model": "a"}), world.snapshot)
    asking.start()
    while not world.upstream.calls:
        gevent.idle()
    assert world.recorder.cancel(world.recorder.in_flight()[0].serial)
    with pytest.raises(Exception, match="cancelled"):
        asking.get()
    thinks.set()


def test_a_bug_on_the_way_leaves_nothing_behind(world, monkeypatch) -> None:
    def bug(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dispatch.stream, "answer", bug)
    with pytest.raises(ZeroDivisionError):
        world.handle(body={"model": "a"})
    assert len(world.queue.returned) == 1
    assert world.records[0].status == 500


@pytest.mark.parametrize("changed", [True, False])
def test_a_failing_model_is_asked_for_again_when_its_files_changed(world, changed: bool) -> None:
    request = world.queue.request

    def refuse_the_first(model_id: str, **wishes: object):
        ticket = request(model_id, **wishes)
        if len(world.queue.tickets) == 1:
            world.queue.refuse(ChildExited("a: exit code 3", 60.0))
        else:
            world.queue.grant()
        return ticket

    world.queue.grants, world.queue.request = False, refuse_the_first
    world.queue.rechecks = [changed]
    if changed:
        assert world.handle(body={"model": "a"}) == b'{"ok":1}'
    else:
        with pytest.raises(ChildExited):
            world.handle(body={"model": "a"})
    assert len(world.queue.tickets) == 1 + changed
    assert not world.queue.rechecks


# --- a server that ends before it answers --------------------------------------------------------

GONE = ChildExited("a: ended with signal SIGKILL")


def unanswering(world, times: int) -> None:
    """Have the next *times* requests read and not answered, as by a dying server."""
    inner = world.upstream.handler

    def serve(environ, start_response):
        nonlocal times
        if times == 0:
            return inner(environ, start_response)
        times -= 1
        environ["wsgi.input"].read()
        environ[SOCKET].shutdown(socket.SHUT_RDWR)
        start_response("200 OK", [])
        return [b"too late"]

    world.upstream.handler = serve


def test_a_model_that_dies_before_it_answers_is_loaded_and_was_resent(world) -> None:
    unanswering(world, 1)
    world.servers.ends = [GONE]
    assert world.handle(body={"model": "a"}) == b'{"ok":1}'
    assert len(world.queue.tickets) == len(world.queue.returned) == 2
    (record,) = world.records
    assert record.status == 200


def test_a_model_that_died_since_it_was_granted_is_loaded_again(world) -> None:
    world.servers.is_ready = [True, False]
    assert world.handle(body={"model": "a"}) == b'{"ok":1}'
    assert len(world.queue.tickets) == len(world.queue.returned) == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/transcriptions"])
def test_what_kills_its_model_twice_is_not_sent_a_third_time(world, path: str) -> None:
    unanswering(world, 2)
    world.servers.ends = [GONE, GONE]
    facts = {"body": {"model": "a"}}
    if "audio" in path:
        kind = "multipart/form-data; boundary=b"
        part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n'
        facts = {"body": part, "headers": [("Content-Type", kind)]}
    with pytest.raises(ChildExited, match="SIGKILL"):
        world.handle(path, **facts)
    assert len(world.queue.tickets) == len(world.queue.returned) == 2
    assert world.records[0].status == 502


def test_a_server_that_lives_on_is_not_was_resent(world) -> None:
    unanswering(world, 1)
    with pytest.raises(Unreachable):
        world.handle(body={"model": "a"})
    assert len(world.queue.tickets) == 1


@pytest.mark.parametrize(
    ("facts", "again"),
    [
        ({"method": "GET"}, True),
        ({"method": "PUT", "body": b"x"}, True),
        ({"method": "POST", "body": b"x"}, False),
        ({"method": "PATCH", "body": b"x"}, False),
        ({"method": "PUT", "body": b"x", "chunked": True}, False),
    ],
)
def test_below_upstream_only_what_may_be_repeated_is(world, facts, again: bool) -> None:
    unanswering(world, 1)
    world.servers.ends = [GONE]
    if again:
        below(world, "/upstream/a/x", **facts).body.close()
    else:
        with pytest.raises(Unreachable):
            below(world, "/upstream/a/x", **facts)
    assert len(world.queue.tickets) == 1 + again


@pytest.mark.parametrize(
    ("path", "method", "again"),
    [
        ("/v1/embeddings", "POST", True),
        ("/upstream/a/x", "GET", True),
        ("/upstream/a/x", "PUT", True),
        ("/upstream/a/x", "POST", False),
        ("/upstream/a/v1/embeddings", "POST", False),
    ],
)
def test_which_requests_use_a_connection_again(world, path: str, method: str, again: bool) -> None:
    world.answer = ("200 OK", [("Content-Length", "2")], [b"{}"])
    serve = world.dispatcher.handle_upstream if "upstream" in path else world.dispatcher.handle
    inner, ports = world.upstream.handler, []

    def note(environ, start_response):
        ports.append(environ["REMOTE_PORT"])
        return inner(environ, start_response)

    world.upstream.handler = note
    for _ in range(2):
        body = None if method == "GET" else {"model": "a"}
        answer = serve(asks(path, body, method=method), world.snapshot).body
        assert b"".join(answer) == b"{}"
        answer.close()
    assert (ports[0] == ports[1]) == again


def test_what_never_reached_its_server_is_sent_again_whatever_it_is(world) -> None:
    world.upstream.stop()
    world.servers.ends = [GONE]
    world.queue.grants = False
    made = asks("/upstream/a/x", b"x", chunked=True)
    asking = gevent.Greenlet(world.dispatcher.handle_upstream, made, world.snapshot)
    asking.start()
    world.queue.came.wait()
    world.queue.came.clear()
    world.queue.grant()
    assert world.queue.came.wait(2), "the model is asked for again"
    world.queue.refuse(ChildExited("it cannot be loaded"))
    with pytest.raises(ChildExited, match="cannot be loaded"):
        asking.get()


def test_an_unload_is_not_taken_for_a_death(world) -> None:
    world.queue.grants = False
    asking = gevent.Greenlet(world.dispatcher.handle, asks(body={"model": "a"}), world.snapshot)
    asking.start()
    world.queue.came.wait()
    lease = world.queue.grant()

    def unload(model_id: str, address, limit_s: float) -> ChildExited:
        lease.cut(LoadAborted("a was unloaded while it answered"))
        return GONE

    unanswering(world, 1)
    world.servers.wait_end = unload
    with pytest.raises(LoadAborted, match="unloaded"):
        asking.get()
    assert len(world.queue.tickets) == 1


def test_a_stream_shows_the_second_load_as_well(world) -> None:
    unanswering(world, 1)
    world.servers.ends = [GONE]
    said, reader = streamed(world, asks(body={"model": "shown", "stream": True}))
    for _ in range(2):
        world.queue.came.wait()
        world.queue.came.clear()
        while b"loading model" not in b"".join(said):
            gevent.idle()
        before, said[:] = b"".join(said), []
        assert b"error" not in before
        world.queue.grant()
    reader.get()
    assert said[-1] == b"data: 1\n\n"


# --- while it loads -----------------------------------------------------------------------------


def streamed(world, made) -> tuple[list, gevent.Greenlet]:
    """Begin a stream whose model is not ready; return what comes, and who reads it."""
    world.queue.grants = False
    world.answer = ("200 OK", [("Content-Type", "text/event-stream")], [b"data: 1\n\n"])
    said: list[bytes] = []

    def read() -> None:
        body = world.dispatcher.handle(made, world.snapshot).body
        try:
            said.extend(body)
        finally:
            body.close()

    reader = gevent.Greenlet(read)
    reader.start()
    world.queue.came.wait()
    return said, reader


def test_a_chat_that_streams_shows_the_loading(world) -> None:
    made = asks(body={"model": "shown", "stream": True}, headers=[("Accept-Encoding", "gzip")])
    said, reader = streamed(world, made)
    while not said:
        gevent.idle()
    assert b"llmsnap loading model: shown" in b"".join(said)
    world.queue.grant()
    reader.get()
    assert said[-1] == b"data: 1\n\n"
    assert "HTTP_ACCEPT_ENCODING" not in world.requests[-1], "our head has gone out already"


@pytest.mark.parametrize("model", ["a", "shown"])
def test_other_streams_get_comments_only_when_it_takes_long(world, monkeypatch, model) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)
    path = "/v1/messages" if model == "shown" else "/v1/chat/completions"
    said, reader = streamed(world, asks(path, {"model": model, "stream": True}))
    while len(said) < 2:
        gevent.sleep(0.005)
    world.queue.grant()
    reader.get()
    assert all(piece.startswith(b": ") for piece in said[:-1])
    assert said[-1] == b"data: 1\n\n"


def test_a_short_wait_shows_nothing(world) -> None:
    said, reader = streamed(world, asks(body={"model": "a", "stream": True}))
    world.queue.grant()
    reader.get()
    assert said == [b"data: 1\n\n"]


@pytest.mark.parametrize(
    ("more", "model", "path"),
    [
        ("", "shown", None),
        ("keepaliveWhileLoading: false\n", "a", "/v1/chat/completions"),
        *[("", "shown", path) for path in NO_EVENTS],
    ],
)
def test_nothing_is_shown_where_the_answer_may_be_no_stream(
    world, monkeypatch, more: str, model: str, path: str | None
) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.0)
    world.snapshot = runtime(more + TEXT.format(url=world.upstream.url))
    body = {"model": model, "stream": path is not None}
    said, reader = streamed(world, asks(path or "/v1/chat/completions", body))
    gevent.idle()
    gevent.idle()
    assert not said
    world.queue.grant()
    reader.get()
    assert said == [b"data: 1\n\n"]


# --- while its server is silent -----------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_EVENTS)
@pytest.mark.parametrize("model", ["a", "only"])
def test_a_silent_server_is_covered_by_comments(world, monkeypatch, path: str, model: str) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)
    base = "/base" if model == "only" else ""
    opens = world.upstream.gates[base + RESOURCES[path].sent_path] = Event()
    world.answer = ("200 OK", EVENTS, [b"data: 1\n\n"])
    answer = world.dispatcher.handle(asks(path, {"model": model, "stream": True}), world.snapshot)
    assert dict(answer.headers)["Content-Type"] == "text/event-stream"
    body = iter(answer.body)
    said = [next(body) for _ in range(3)]
    assert all(piece.startswith(b": ") and piece.count(b"\n") == 1 for piece in said)
    opens.set()
    rest = b"".join(body)
    answer.body.close()
    assert rest.endswith(b"data: 1\n\n")
    assert len(world.requests) == 1
    (record,) = world.records
    assert (record.status, record.stream) == (200, True)


@pytest.mark.parametrize("model", ["a", "only"])
def test_silence_behind_the_head_of_a_stream_is_covered_too(world, monkeypatch, model) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)
    opens = Event()

    def serve(environ, start_response):
        environ["wsgi.input"].read()
        start_response("200 OK", EVENTS)(b"")
        opens.wait()
        return [b"data: 1\n\n", b"data: 2\n\n"]

    world.upstream.handler = serve
    made = asks(body={"model": model, "stream": True})
    body = iter(world.dispatcher.handle(made, world.snapshot).body)
    assert [next(body) for _ in range(3)] == [b": waiting for the model\n"] * 3
    assert made.first_byte_at is None
    opens.set()
    rest = b"".join(body)
    body.close()
    assert rest.endswith(b"data: 1\n\ndata: 2\n\n")
    (record,) = world.records
    assert (record.status, record.response_bytes) == (200, 18)


@pytest.mark.parametrize("model", ["a", "only"])
def test_what_a_silent_server_says_in_the_end_becomes_events(world, monkeypatch, model) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)
    base = "/base" if model == "only" else ""
    opens = world.upstream.gates[f"{base}/v1/chat/completions"] = Event()
    error = b'{"error":{"code":400,"n_ctx":4096}}'
    world.answer = ("400 Bad Request", [("Content-Type", "application/json")], [error])
    made = asks(body={"model": model, "stream": True})
    body = world.dispatcher.handle(made, world.snapshot).body
    next(body)
    opens.set()
    assert b"".join(body).endswith(b"data: " + error + b"\n\n")
    body.close()
    (record,) = world.records
    assert (record.status, record.reason) == (400, "the model answered 400")


def test_a_server_that_dies_in_its_silence_is_loaded_and_was_resent(world, monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.01)
    opens = Event()
    inner = world.upstream.handler

    def serve(environ, start_response):
        world.upstream.handler = inner
        environ["wsgi.input"].read()
        opens.wait()
        environ[SOCKET].shutdown(socket.SHUT_RDWR)
        return []

    world.upstream.handler = serve
    world.servers.ends = [GONE]
    body = world.dispatcher.handle(asks(body={"model": "a", "stream": True}), world.snapshot).body
    assert next(body) == b": waiting for the model\n"
    world.answer = ("200 OK", EVENTS, [b"data: 1\n\n"])
    opens.set()
    assert b"".join(body).endswith(b"data: 1\n\n")
    body.close()
    assert len(world.queue.tickets) == len(world.queue.returned) == 2


@pytest.mark.parametrize(
    ("more", "path", "model"),
    [
        ("keepaliveWhileLoading: false\n", "/v1/chat/completions", "a"),
        ("keepaliveWhileLoading: false\n", "/v1/chat/completions", "only"),
        ("", "/v1/audio/speech", "a"),
        ("", "/v1/embeddings", "only"),
        ("", "/upstream/a/v1/chat/completions", "a"),
    ],
)
def test_silence_stays_silent_elsewhere(world, monkeypatch, more, path, model) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.001)
    world.snapshot = runtime(more + TEXT.format(url=world.upstream.url))
    inner = world.upstream.handler

    def serve(environ, start_response):
        gevent.sleep(0.02)  # many times the patience of others
        return inner(environ, start_response)

    world.upstream.handler = serve
    handle = world.dispatcher.handle_upstream if "upstream" in path else world.dispatcher.handle
    answer = handle(asks(path, {"model": model, "stream": True}), world.snapshot)
    assert b"".join(answer.body) == b'{"ok":1}'
    answer.body.close()


# --- below /upstream, and /props ----------------------------------------------------------------


def below(world, path: str, **facts):
    return world.dispatcher.handle_upstream(asks(path, **facts), world.snapshot)


def test_below_upstream_anything_goes_on(world) -> None:
    body = below(world, "/upstream/first/x/y?q=%20", body=b"raw", method="PATCH").body
    assert b"".join(body) == b'{"ok":1}'
    body.close()
    request = world.requests[-1]
    assert (request["path"], request["query"], request["body"]) == ("/x/y", "q=%20", b"raw")
    assert world.queue.asked[-1]["never_swap"] is False


def test_an_open_tabs_requests_never_swap(world) -> None:
    world.queue.grants = False
    asking = gevent.Greenlet(below, world, "/upstream/a/favicon.ico")
    asking.start()
    world.queue.came.wait()
    assert world.queue.asked[-1]["never_swap"] is True
    world.queue.refuse(NotReady("a is stopped"))
    with pytest.raises(NotReady):
        asking.get()


def test_a_model_alone_is_redirected_without_being_asked(world) -> None:
    answer = below(world, "/upstream/a?x")
    assert (answer.status, answer.headers[0]) == (301, ("Location", "../upstream/a/?x"))
    assert not world.queue.tickets
    with pytest.raises(UnknownModel):
        below(world, "/upstream/nope/x")


@pytest.mark.parametrize(
    ("query", "never"),
    [("model=a", True), ("model=a&autoload=0", True), ("autoload=1&model=a", False)],
)
def test_properties_load_a_model_only_when_told_to(world, query: str, never: bool) -> None:
    body = world.dispatcher.handle_props(asks(f"/props?{query}"), world.snapshot).body
    body.close()
    assert world.queue.asked[-1]["never_swap"] is never
    assert world.requests[-1]["path"] == "/props"


@pytest.mark.parametrize(
    ("query", "known", "reached"),
    [("model=a", "a", False), ("model=a&autoload=1", "a", True), ("model=r", "r", True)],
)
def test_what_is_known_of_a_model_is_answered_without_it(
    world, query: str, known: str, reached: bool
) -> None:
    world.servers.known = {known: {"loaded": False}}
    answer = world.dispatcher.handle_props(asks(f"/props?{query}"), world.snapshot)
    said = b"".join(answer.body)
    assert (answer.status, bool(world.requests)) == (200, reached)
    assert reached or json.loads(said) == {"loaded": False}
    if reached:
        answer.body.close()


def policy_of(answer) -> list[str]:
    """The policies of an answer that is settled now."""
    answer.body.close()
    kinds = [value for name, value in answer.headers if name == "X-Content-Type-Options"]
    found = [value for name, value in answer.headers if name == "Content-Security-Policy"]
    assert kinds == (["nosniff"] if found else [])
    return found


@pytest.mark.parametrize(
    ("path", "body", "more"),
    [
        ("/v1/chat/completions", {"model": "a"}, {}),
        ("/v1/chat/completions", {"model": "only"}, {}),
        ("/sdapi/v1/loras?model=a", None, {}),
        ("/sdapi/v1/loras?model=only", None, {"trusts_pages": False}),
    ],
)
def test_what_models_answer_is_no_page(world, path: str, body, more) -> None:
    world.answer = ("200 OK", [("Content-Type", "text/html")], [b"<script>"])
    answer = world.dispatcher.handle(asks(path, body, **more), world.snapshot)
    assert policy_of(answer) == ["sandbox"]


@pytest.mark.parametrize(
    ("sandbox", "trusts_pages", "found"),
    [
        ("", True, []),
        ("", False, [PAGE_SANDBOX]),
        ("sandbox: true", True, [PAGE_SANDBOX]),
        ("sandbox: true", False, [PAGE_SANDBOX]),
        ("sandbox: false", False, []),
    ],
)
def test_pages_of_our_own_servers_run_where_they_are_trusted(
    world, sandbox: str, trusts_pages: bool, found: list[str]
) -> None:
    text = TEXT.format(url=world.upstream.url).replace("aliases: [first]", sandbox)
    world.snapshot = runtime(text)
    answer = below(world, "/upstream/a/", trusts_pages=trusts_pages)
    assert policy_of(answer) == found


def test_a_peer_has_no_pages(world) -> None:
    body = {"model": "only"}
    answer = below(world, "/upstream/only/v1/embeddings", body=body, trusts_pages=True)
    assert policy_of(answer) == ["sandbox"]


def test_for_a_page_that_may_be_of_any_site_no_model_is_loaded(world) -> None:
    for path in ("/upstream/a/x", "/sdapi/v1/loras?model=a", "/props?model=a&autoload=1"):
        handle = world.dispatcher.handle_props if "props" in path else world.dispatcher.handle
        handle = world.dispatcher.handle_upstream if "upstream" in path else handle
        handle(asks(path, may_load=False), world.snapshot).body.close()
        assert world.queue.asked[-1]["never_swap"] is True


# --- answers that stay open ---------------------------------------------------------------------

KEEPS = "compat: {ignoreStreams: false}"
EVENT_SOURCE = {
    "accept": "text/event-stream",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0",
}


def endless(world, headers, *, first=b"data: 1\n\n"):
    """The upstream's next answer: a piece, and then nothing until the event is set."""
    more = Event()

    def body():
        yield first
        more.wait()

    world.answer = ("200 OK", headers, body())
    return more


@pytest.mark.parametrize(
    ("path", "method", "headers", "compat", "keeps"),
    [
        ("/upstream/a/events", "GET", EVENTS, "", False),
        ("/upstream/a/x", "GET", [("Content-Type", "multipart/x-mixed-replace; b=c")], "", False),
        ("/upstream/a/events", "GET", EVENTS, KEEPS, True),
        ("/upstream/a/events", "POST", EVENTS, "", True),
        ("/upstream/a/file", "GET", [("Content-Type", "video/mp4")], "", True),
        ("/upstream/a/file", "GET", [*EVENTS, ("Content-Length", "99")], "", True),
        ("/sdapi/v1/loras?model=a", "GET", EVENTS, "", True),
    ],
)
def test_which_open_answers_keep_their_model(world, path, method, headers, compat, keeps) -> None:
    text = TEXT.format(url=world.upstream.url).replace("aliases: [first]", compat)
    world.snapshot = runtime(text)
    more = endless(world, headers)
    handle = world.dispatcher.handle_upstream if "upstream" in path else world.dispatcher.handle
    body = handle(asks(path, b"" if method == "POST" else None), world.snapshot).body
    assert next(body) == b"data: 1\n\n"
    assert bool(world.queue.returned) is not keeps
    more.set()
    body.close()
    assert len(world.queue.returned) == 1


def test_an_answer_with_no_end_in_sight_keeps_its_model_for_a_while(world, monkeypatch) -> None:
    monkeypatch.setattr(stream, "STAYS_OPEN_S", 0.001)
    more = endless(world, [("Content-Type", "text/plain")], first=b"log")
    body = below(world, "/upstream/a/log").body
    assert next(body) == b"log"
    with gevent.Timeout(3):
        while not world.queue.returned:
            gevent.sleep(0.001)
    more.set()
    body.close()
    assert len(world.queue.returned) == 1


def test_an_answer_that_ended_in_time_leaves_no_timer(world, monkeypatch) -> None:
    monkeypatch.setattr(stream, "STAYS_OPEN_S", 0.001)
    more = endless(world, [("Content-Type", "text/plain")], first=b"log")
    more.set()
    body = below(world, "/upstream/a/log").body
    assert b"".join(body) == b"log"
    body.close()
    gevent.sleep(0.005)
    assert len(world.queue.returned) == 1


@pytest.mark.parametrize(
    ("kind", "ends_well"), [("text/event-stream", True), ("text/plain", False)]
)
def test_when_the_model_goes_a_feed_ends_and_anything_else_breaks(world, kind, ends_well) -> None:
    more = endless(world, [("Content-Type", kind)])
    made = asks("/upstream/a/x")
    body = world.dispatcher.handle_upstream(made, world.snapshot).body
    assert next(body) == b"data: 1\n\n"
    lease = body._context.lease
    lease.loosen()
    gevent.spawn(lease.cut, ModelLeft("a was stopped"))
    with pytest.raises(StopIteration if ends_well else Aborted):
        next(body)
    body.close()
    more.set()
    assert (made.status, world.records[0].status) == ((0, 200) if ends_well else (503, 503))


@pytest.mark.parametrize(
    ("facts", "compat", "never"),
    [
        (EVENT_SOURCE, "", True),
        (EVENT_SOURCE, KEEPS, False),
        ({**EVENT_SOURCE, "user_agent": "python"}, "", False),
        ({**EVENT_SOURCE, "accept": "text/html, text/event-stream"}, "", False),
        ({**EVENT_SOURCE, "body": b""}, "", False),
    ],
)
def test_a_page_that_listens_loads_no_model_and_is_delivered_to_come_back(
    world, monkeypatch, facts, compat, never
) -> None:
    text = TEXT.format(url=world.upstream.url).replace("aliases: [first]", compat)
    world.snapshot = runtime(text)
    world.queue.grants = False
    request = world.queue.request

    def refused(model_id: str, **wishes) -> Ticket:
        ticket = request(model_id, **wishes)
        world.queue.refuse(NotReady("a is stopped"))
        return ticket

    monkeypatch.setattr(world.queue, "request", refused)
    if not never:
        with pytest.raises(NotReady):
            below(world, "/upstream/a/events", **facts)
        assert world.queue.asked[-1]["never_swap"] is False
        assert len(world.records) == 1
        return
    answer = below(world, "/upstream/a/events", **facts)
    assert world.queue.asked[-1]["never_swap"] is True
    assert (answer.status, dict(answer.headers)["Content-Type"]) == (200, "text/event-stream")
    assert answer.body[0].startswith(b"retry: 15000\n")
    assert not world.records, "an open tab is no news"


# --- peers --------------------------------------------------------------------------------------


def test_a_peer_is_asked_without_the_queue(world) -> None:
    world.handle(body={"model": "only"}, headers=[("Authorization", "Bearer all")])
    request = world.requests[-1]
    assert request["path"] == "/base/v1/chat/completions"
    assert request["HTTP_AUTHORIZATION"] == "Bearer pk"
    assert not world.queue.tickets
    (record,) = world.records
    assert (record.peer, record.model_id) == ("live", "only")


def test_the_next_peer_gets_the_request_as_the_client_sent_it(world) -> None:
    world.handle(body={"model": "r"})
    assert world.sent == {"model": "r"}
    (record,) = world.records
    assert (record.peer, record.status) == ("live", 200)


def test_a_peer_that_timed_out_before_anything_was_sent_is_replaced(world, monkeypatch) -> None:
    from llmsnap.proxy import client

    connect = client.connect

    def slow_for_the_dead(address, limit_s):
        if address.port == 1:
            raise UpstreamTimeout("cannot connect in time")
        return connect(address, limit_s)

    monkeypatch.setattr(client, "connect", slow_for_the_dead)
    world.handle(body={"model": "r"})
    assert world.records[0].peer == "live"


def test_headers_of_the_configuration_are_sent_and_nowhere_shown(world) -> None:
    seen = []
    begin = world.recorder.begin
    world.recorder.begin = lambda context, *body: seen.append(context) or begin(context, *body)
    chat = "/v1/chat/completions"
    world.handle(chat, {"model": "own"}, headers=[("X-Team", "red"), ("X-Trace", "1")])
    assert world.requests[-1]["HTTP_X_TEAM"] == "blue-0001"
    shown = seen[-1].shown_headers
    assert ("X-Trace", "1") in shown
    assert "X-Team" in dict(shown)
    assert "blue-0001" not in str(shown)


def test_the_last_peer_that_fails_is_named(world) -> None:
    with pytest.raises(Unreachable, match="peer proxy error: cannot connect to peer dead: "):
        world.handle(body={"model": "lost"})
    assert (world.records[0].peer, world.records[0].status) == ("dead", 502)


def test_a_peer_learns_nothing_of_the_page_that_asks(world) -> None:
    page = [("Cookie", "session=1"), ("Origin", "https://x.example"), ("Referer", "https://x/y")]
    world.handle(body={"model": "only"}, headers=page)
    assert not {"HTTP_COOKIE", "HTTP_ORIGIN", "HTTP_REFERER"} & world.requests[-1].keys()
    world.handle(body={"model": "a"}, headers=page)
    assert world.requests[-1]["HTTP_COOKIE"] == "session=1"


@pytest.mark.parametrize(
    ("name", "named"), [("only", "only"), ("live/only", "only"), ("live/only", "live/only")]
)
def test_below_upstream_a_peer_answers_for_the_model_of_the_path(world, name, named) -> None:
    path = f"/upstream/{name}/v1/embeddings?model=lost&x=1"
    body = below(world, path, body={"Model": "r", "model": named, "model ": 1}).body
    assert b"".join(body) == b'{"ok":1}'
    body.close()
    request = world.requests[-1]
    assert (request["path"], request["query"]) == ("/base/v1/embeddings", "model=only&x=1")
    assert world.sent == {"model": "only", "model ": 1}
    (record,) = world.records
    assert (record.peer, record.model_id, record.requested) == ("live", name, name)


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/upstream/only/api/captures/0", {}),
        ("/upstream/only/unload", {}),
        ("/upstream/live/only/v1/models", {}),
        ("/upstream/only/v1/embeddings/../../unload", {}),
        ("/upstream/only/v1/embeddings", {"body": {"model": "r"}}),
        ("/upstream/only/v1/embeddings", {"body": {"input": 1}}),
        ("/upstream/only/v1/audio/voices?model=r", {}),
    ],
)
def test_a_peer_is_asked_nothing_else(world, path: str, facts: dict) -> None:
    with pytest.raises(BadRequest):
        below(world, path, **facts)
    assert not world.requests
    (record,) = world.records
    assert record.status == 400
    assert record.requested in {"only", "live/only"}


def test_the_model_may_stand_in_the_query_alone(world) -> None:
    world.handle("/infill?x=1&model=shown", body=b'{ "input_prefix" : "x" }')
    assert world.requests[-1]["body"] == b'{ "input_prefix" : "x" }'
    assert world.requests[-1]["query"] == "x=1&model=shown"
    world.handle("/infill?x=1&model=first", body={"input_prefix": "x"})
    assert world.sent == {"input_prefix": "x", "model": "up", "top_k": 5}
    assert world.requests[-1]["query"] == "model=up&x=1"
    world.handle("/infill?model=live/only", body={"input_prefix": "x"})
    assert world.sent == {"input_prefix": "x", "model": "only"}
    assert world.requests[-1]["query"] == "model=only"


def test_a_peer_is_called_what_it_calls_the_model(world) -> None:
    world.handle(body={"model": "live/only"})
    assert world.sent == {"model": "only"}


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_uses_its_models_only(world) -> None:
    keyring: Keyring = world.snapshot.keyring
    key = keyring.authenticate("Bearer some", None)
    world.handle(body={"model": "first"}, key=key)
    assert world.records[0].key_name == "laptop"
    for name in ("shown", "only", "live/only"):
        with pytest.raises(UnknownModel):
            world.handle(body={"model": name}, key=key)
    told = []
    for name in ("shown", "only", "nope"):
        for rest in ("", "/", "/v1/embeddings", "/slots"):
            with pytest.raises(UnknownModel) as caught:
                below(world, f"/upstream/{name}{rest}", key=key)
            told.append(str(caught.value).replace(json.dumps(name), "X"))
    assert len(set(told)) == 1


def test_a_key_without_the_right_is_kept_to_inference(world) -> None:
    key = world.snapshot.keyring.authenticate("Bearer some", None)
    with pytest.raises(Forbidden, match="the key 'laptop' may use inference routes only"):
        below(world, "/upstream/first/release_memory_occupation", method="POST", key=key)
    assert (world.records[-1].status, world.records[-1].requested) == (403, "first")
    assert not world.queue.tickets
    below(world, "/upstream/first/v1/embeddings?x=1", body={"input": "x"}, key=key).body.close()
    assert (world.requests[-1]["path"], world.requests[-1]["query"]) == ("/v1/embeddings", "x=1")
    assert world.sent == {"input": "x", "model": "up", "top_k": 5}


def test_an_overfull_model_is_said_at_once(world) -> None:
    world.queue.grants = False
    asking = gevent.Greenlet(world.dispatcher.handle, asks(body={"model": "a"}), world.snapshot)
    asking.start()
    world.queue.came.wait()
    world.queue.refuse(TooManyInFlight("too many", 3))
    with pytest.raises(TooManyInFlight) as caught:
        asking.get()
    assert caught.value.retry_after_s == 3


# --- pins of the active profile ------------------------------------------------------------------


FORM = [("Content-Type", "multipart/form-data; boundary=b")]


@pytest.mark.parametrize(
    ("path", "body", "model_id", "sent"),
    [
        ("/v1/chat/completions", {"model": "gpt"}, "own", b'{"model": "own"}'),
        (
            "/v1/chat/completions?model=gpt",
            {"model": "shown"},
            "a",
            b'{"model": "up","top_k":5}',
        ),
        ("/v1/chat/completions", {"model": "far"}, "live/only", b'{"model": "only"}'),
    ],
)
def test_a_pinned_name_is_sent_as_if_the_client_had_named_the_target(
    world, path, body, model_id, sent
) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    world.handle(path, body)
    assert json.loads(world.requests[-1]["body"]) == json.loads(sent)
    record = world.records[-1]
    assert (record.requested, record.model_id) == (body["model"], model_id)
    if "?" in path:
        assert world.requests[-1]["query"] == "model=up"


def test_a_pin_is_followed_in_forms_and_queries(world) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt\r\n--b--\r\n'
    world.handle("/v1/audio/transcriptions", form, headers=FORM)
    assert b"\r\n\r\nown\r\n" in world.requests[-1]["body"]
    world.handle("/v1/audio/voices?model=gpt", b"", method="GET")
    assert world.requests[-1]["query"] == "model=own"


def test_a_pin_is_followed_below_upstream(world) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    body = below(world, "/upstream/gpt/some%2Fpage?x=1", method="GET").body
    assert b"".join(body) == b'{"ok":1}'
    body.close()
    assert (world.records[-1].requested, world.records[-1].model_id) == ("gpt", "own")


@pytest.mark.parametrize("handle", ["handle", "handle_upstream"])
def test_a_disabled_name_is_404_everywhere(world, handle: str) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    path = "/v1/chat/completions" if handle == "handle" else "/upstream/own/v1/models"
    with pytest.raises(UnknownModel, match='the active profile "work" disables it'):
        getattr(world.dispatcher, handle)(asks(path, {"model": "own"}), world.snapshot)
    assert not world.requests


def test_a_request_keeps_the_profile_it_began_with(world) -> None:
    pinned = world.snapshot.with_profile("work")
    assert (pinned.profile, world.snapshot.profile) == ("work", "")
    world.handle("/v1/chat/completions", {"model": "own"})
    assert world.records[-1].model_id == "own"
    assert pinned.with_profile("").profile == ""
