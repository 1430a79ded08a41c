"""Facts about llmsnap.proxy.dispatch: real greenlets, a queue the test opens, a real upstream."""

import json
from contextlib import closing, nullcontext

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap import errors
from llmsnap.http.headers import PAGE_SANDBOX
from llmsnap.http.lookup import RESOURCES
from llmsnap.http.routes import ROUTES, ModelPlace
from llmsnap.models import parse_address
from llmsnap.proxy import client, dispatch, stream
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.disconnect import ClientMonitor
from llmsnap.proxy.payload import RESEND_BYTES
from llmsnap.proxy.request import BodyBudget, BodyShare
from tests.fakes.calls import make_request, runtime
from tests.fakes.upstream import SOCKET, FakeUpstream
from tests.garbage import leftovers, of_ours
from tests.parity import parity
from tests.proxy.fakes import DispatchWorld

EVENTS = [("Content-Type", "text/event-stream")]
FORM = [("Content-Type", "multipart/form-data; boundary=b")]
FORM_BODY = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n'
CHAT = "/v1/chat/completions"
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
        self.ends: list[errors.ChildExited | None] = []
        self.is_ready = [True]
        self.known: dict[str, dict] = {}

    def address_of(self, model_id: str):
        if not (self.is_ready.pop() if len(self.is_ready) > 1 else self.is_ready[0]):
            raise errors.NotReady(f"{model_id} is stopped")
        return self.address

    def wait_end(self, model_id: str, address, limit_s: float):
        assert address is self.address
        assert limit_s > 0
        return self.ends.pop(0) if self.ends else None

    def loaded(self, model_id) -> str:
        return ""

    def known_properties(self, model):
        return self.known.get(model.id)


class World(DispatchWorld):
    """A dispatcher whose models and peers are all one server, which keeps what it was sent."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.upstream.handler = self.serve
        self.upstream.start()
        self.requests: list[dict] = []
        self.answers = ("200 OK", [("Content-Type", "application/json")], [b'{"ok":1}'])
        self.snapshot = runtime(TEXT.format(url=self.upstream.url))
        self.servers = Servers(self.upstream.url)
        super().__init__(self.servers)

    def serve(self, environ, start_response):
        self.requests.append(
            {
                "path": environ["PATH_INFO"],
                "query": environ["QUERY_STRING"],
                "body": environ["wsgi.input"].read(),
                "port": environ["REMOTE_PORT"],
                **{name: value for name, value in environ.items() if name.startswith("HTTP_")},
            }
        )
        status, headers, body = self.answers
        start_response(status, headers)
        return body

    def configure(self, **changes: str) -> None:
        """Use the configuration with *changes*: ``model`` for model a, ``top`` for the whole."""
        text = TEXT.format(url=self.upstream.url).replace("aliases: [first]", changes["model"])
        self.snapshot = runtime(changes.get("top", "") + text)

    def answer(self, *args, **facts):
        """The response to one request, of the handler that its path belongs to."""
        return self.respond(asks(*args, **facts))

    def respond(self, made: RequestContext):
        match made.request.path.split("/")[1]:
            case "upstream" | "comfyui":
                return self.dispatcher.handle_upstream(made, self.snapshot)
            case "props":
                return self.dispatcher.handle_props(made, self.snapshot)
        return self.dispatcher.handle(made, self.snapshot)

    def handle(self, *args, **facts) -> bytes:
        """The body of the answer to one request, all of it settled."""
        with closing(self.answer(*args, **facts).body) as body:
            return b"".join(body)

    def waiting(self, *args, **facts) -> tuple[RequestContext, gevent.Greenlet]:
        """A request that waits in the queue."""
        self.queue.grants = False
        made = asks(*args, **facts)
        asking = gevent.Greenlet(self.respond, made)
        asking.start()
        self.queue.came.wait()
        self.queue.came.clear()
        return made, asking

    def thinking(self, *args, **facts) -> tuple[RequestContext, gevent.Greenlet, Event]:
        """A request whose server has it and answers when the event is set."""
        made = asks(*args, **facts)
        sent = made.request.path.removeprefix("/upstream/a")
        thinks = self.upstream.gates[sent] = self.upstream.gates[f"/base{sent}"] = Event()
        asking = gevent.Greenlet(self.respond, made)
        asking.start()
        while not self.upstream.calls:
            gevent.idle()
        return made, asking, thinks

    @property
    def sent(self) -> dict:
        return json.loads(self.requests[-1]["body"])


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()
    made.upstream.stop()


# --- a model of our own -------------------------------------------------------------------------


def test_a_request_is_adapted_sent_and_recorded(world) -> None:
    assert world.handle(body={"model": "first"}) == b'{"ok":1}'
    assert world.sent == {"model": "up", "top_k": 5}
    assert len(world.queue.returned) == 1
    found = world.recorded("requested", "model_id", "status", "path")
    assert found == ("first", "a", 200, CHAT)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (CHAT, {"model": "first", "stream": True}, []),
        (CHAT, {"model": "only"}, []),
        ("/upstream/a/x", b"x" * 1000, []),
        ("/v1/audio/transcriptions", FORM_BODY, FORM),
    ],
    ids=["stream", "peer", "passed through", "form"],
)
def test_a_body_is_held_until_its_answer_begins(world, path, body, headers) -> None:
    bodies = BodyBudget()
    share = BodyShare(bodies)
    _, asking, thinks = world.thinking(path, body, method="POST", headers=headers, body_share=share)
    assert bodies.memory.used_bytes > 0
    thinks.set()
    said = asking.get().body
    assert bodies.memory.used_bytes == 0
    assert b"".join(said)
    said.close()
    assert world.requests[0]["body"]


def test_a_body_that_stops_on_its_way_to_the_model_is_408_and_leaves_nothing(world) -> None:
    pieces = [b"x" * 10]

    def read(_: int) -> bytes:
        if pieces:
            return pieces.pop()
        raise errors.BodyTimeout("the body of the request did not go on in time")

    with pytest.raises(errors.BodyTimeout):
        world.answer("/upstream/a/x", b"", method="POST", length=RESEND_BYTES + 10, read=read)
    assert len(world.queue.returned) == 1, "the lease is back"
    assert [one.status for one in world.records] == [408]


def test_a_request_that_cannot_be_parsed_is_on_record_with_its_whole_path(world) -> None:
    made = asks("/upstream/a/what%3F/../../x")
    made.request.path = path = "/upstream/a/what?/../../x"
    with pytest.raises(errors.BadRequest):
        world.respond(made)
    assert [(one.path, one.status) for one in world.records] == [(path, 400)]


def test_a_request_that_ended_leaves_no_work_for_the_collector(world) -> None:
    def serve() -> None:
        world.handle(body={"model": "first"}, monitor=ClientMonitor(None))
        world.queue.returned.clear()
        world.queue.tickets.clear()

    assert not of_ours(leftovers(serve))


def test_the_key_stays_and_the_id_goes_on(world) -> None:
    headers = [("Authorization", "Bearer all"), ("X-Request-Id", "theirs"), ("Cookie", "a=b")]
    world.handle("/v1/embeddings?api_key=secret", {"model": "a"}, headers=headers, id="ours")
    request = world.requests[-1]
    assert "HTTP_AUTHORIZATION" not in request
    assert (request["HTTP_X_REQUEST_ID"], request["HTTP_COOKIE"]) == ("ours", "a=b")
    assert request["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"
    assert request["query"] == "api_key=secret"
    assert "secret" not in repr(world.records)


@pytest.mark.parametrize("error", [errors.ChildExited("exit 3"), errors.TooManyInFlight("3", 3)])
def test_what_is_refused_is_raised_recorded_and_holds_nothing(world, error) -> None:
    made, waiting = world.waiting(body={"model": "a"})
    world.queue.refuse(error)
    with pytest.raises(type(error)) as caught:
        waiting.get()
    assert caught.value is error
    assert made.request.monitor.opened == made.request.monitor.closed == 1
    assert world.recorded("status", "reason") == (error.status, str(error))


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"body": b"junk"}, errors.BadRequest),
        ({"body": {"model": "nope"}}, errors.UnknownModel),
        *[
            ({"body": {"model": "a"}, "headers": [("X-Max-Wait", wait)]}, errors.BadRequest)
            for wait in ("nan", "soon", "-1", "inf")
        ],
        ({"body": {"model": "lost"}}, errors.Unreachable),
    ],
)
def test_what_cannot_be_served_is_recorded_too(world, facts, error) -> None:
    with pytest.raises(error) as caught:
        world.handle(**facts)
    assert world.recorded("status") == (error.status,)
    assert not world.queue.tickets
    if error is errors.Unreachable:
        assert "peer proxy error: cannot connect to peer dead: " in str(caught.value)
        assert world.recorded("peer") == ("dead",)


def test_a_client_that_leaves_the_queue_is_gone_at_once(world) -> None:
    made, waiting = world.waiting(body={"model": "a"})
    made.request.monitor.leave()
    with pytest.raises(errors.ClientGone):
        waiting.get()
    assert world.queue.cancelled == world.queue.tickets
    assert world.records[0].status == 499


@pytest.mark.parametrize(
    ("ends", "error"),
    [("left", errors.ClientGone), ("unload", errors.LoadAborted), ("cancel", errors.Draining)],
)
def test_what_interrupts_a_request_ends_the_exchange_and_says_why(world, ends, error) -> None:
    made, asking, thinks = world.thinking(body={"model": "a"})
    match ends:
        case "left":
            made.request.monitor.leave()
        case "unload":
            made.lease.cut(errors.LoadAborted("a was unloaded"))
        case "cancel":
            world.recorder.cancel(world.recorder.in_flight()[0].serial)
    with pytest.raises(error):
        asking.get()
    assert len(world.queue.returned) == 1
    assert world.records[0].status == error.status
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
    world.queue.refusals = [errors.ChildExited("a: exit code 3", 60.0)]
    world.queue.rechecks = [changed]
    with nullcontext() if changed else pytest.raises(errors.ChildExited):
        assert world.handle(body={"model": "a"}) == b'{"ok":1}'
    assert len(world.queue.tickets) == 1 + changed
    assert not world.queue.rechecks


# --- a server that ends before it answers --------------------------------------------------------

GONE = errors.ChildExited("a: ended with signal SIGKILL")


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


def test_a_model_that_died_since_it_was_granted_is_loaded_again(world) -> None:
    world.servers.is_ready = [True, False]
    assert world.handle(body={"model": "a"}) == b'{"ok":1}'
    assert len(world.queue.tickets) == len(world.queue.returned) == 2


FOR_A, TWICE = {"body": {"model": "a"}}, [GONE, GONE]
UPLOAD = {"body": FORM_BODY, "headers": FORM}


@pytest.mark.parametrize(
    ("path", "facts", "deaths", "asked", "error"),
    [
        (CHAT, FOR_A, [GONE], 2, None),
        (CHAT, FOR_A, TWICE, 2, errors.ChildExited),
        ("/v1/images/edits", UPLOAD, TWICE, 2, errors.ChildExited),
        (CHAT, FOR_A, [None], 1, errors.Unreachable),
        ("/upstream/a/x", {"method": "GET"}, [GONE], 2, None),
        ("/upstream/a/x", {"method": "PUT", "body": b"x"}, [GONE], 2, None),
        ("/upstream/a/x", {"method": "POST", "body": b"x"}, [GONE], 1, errors.Unreachable),
        ("/upstream/a/x", {"method": "PUT", "chunked": True}, [GONE], 1, errors.Unreachable),
    ],
)
def test_what_may_be_repeated_is_after_a_death(world, path, facts, deaths, asked, error) -> None:
    unanswering(world, len(deaths))
    world.servers.ends = [death for death in deaths if death]
    with pytest.raises(error) if error else nullcontext():
        assert world.handle(path, **facts) == b'{"ok":1}'
    assert len(world.queue.tickets) == len(world.queue.returned) == asked
    assert world.recorded("status") == (error.status if error else 200,)


@pytest.mark.parametrize(("path", "again"), [("/v1/rerank", True), ("/upstream/a/x", False)])
def test_which_requests_use_a_connection_again(world, path: str, again: bool) -> None:
    world.answers = ("200 OK", [("Content-Length", "2")], [b"{}"])
    for _ in range(2):
        assert world.handle(path, {"model": "a"}) == b"{}"
    first, second = (one["port"] for one in world.requests)
    assert (first == second) == again


def test_what_never_reached_its_server_is_sent_again_whatever_it_is(world) -> None:
    world.upstream.stop()
    world.servers.ends = [GONE]
    _, asking = world.waiting("/upstream/a/x", b"x", chunked=True)
    world.queue.grant()
    assert world.queue.came.wait(2), "the model is asked for again"
    world.queue.refuse(errors.ChildExited("it cannot be loaded"))
    with pytest.raises(errors.ChildExited, match="cannot be loaded"):
        asking.get()


@pytest.mark.parametrize(("end", "said"), [(None, "early$"), (GONE, "early: a: ended with .*KILL")])
def test_an_answer_that_breaks_off_says_how_the_server_ended_if_it_did(world, end, said) -> None:
    head = [("Content-Type", "text/plain"), ("Content-Length", "100"), ("Connection", "close")]
    world.answers = ("200 OK", head, [b"hi"])
    world.servers.ends = [end]
    with pytest.raises(errors.Aborted, match=said):
        world.handle(body={"model": "a"})


def test_an_unload_is_not_taken_for_a_death(world) -> None:
    _, asking = world.waiting(body={"model": "a"})
    lease = world.queue.grant()

    def unload(model_id: str, address, limit_s: float) -> errors.ChildExited:
        lease.cut(errors.LoadAborted("a was unloaded while it answered"))
        return GONE

    unanswering(world, 1)
    world.servers.wait_end = unload
    with pytest.raises(errors.LoadAborted, match="unloaded"):
        asking.get()
    assert len(world.queue.tickets) == 1


# --- while it loads -----------------------------------------------------------------------------


def streamed(world, *args, **facts) -> tuple[list, gevent.Greenlet]:
    """Begin a stream whose model is not ready; return what comes, and who reads it."""
    world.queue.grants = False
    world.answers = STREAM
    made, said = asks(*args, **facts), []

    def read() -> None:
        with closing(world.respond(made).body) as body:
            said.extend(body)

    reader = gevent.Greenlet(read)
    reader.start()
    world.queue.came.wait()
    return said, reader


def test_a_chat_that_streams_shows_the_loading(world) -> None:
    asked = {"model": "shown", "stream": True}
    said, reader = streamed(world, body=asked, headers=[("Accept-Encoding", "gzip")])
    while not said:
        gevent.idle()
    assert b"llmsnap loading model: shown" in b"".join(said)
    world.queue.grant()
    reader.get()
    assert said[-1] == b"data: 1\n\n"
    assert "HTTP_ACCEPT_ENCODING" not in world.requests[-1], "our head has gone out already"


@pytest.mark.parametrize("model", ["a", "shown"])
def test_other_streams_get_comments_only_when_it_takes_long(world, soon, model) -> None:
    path = "/v1/messages" if model == "shown" else CHAT
    said, reader = streamed(world, path, {"model": model, "stream": True})
    while len(said) < 2:
        gevent.sleep(0.005)
    world.queue.grant()
    reader.get()
    assert all(piece.startswith(b": ") for piece in said[:-1])
    assert said[-1] == b"data: 1\n\n"


@pytest.mark.parametrize(
    ("top", "model", "comment_s", "paths"),
    [
        ("", "a", dispatch.COMMENT_EVERY_S, [CHAT]),  # a short wait
        ("keepaliveWhileLoading: false\n", "a", 0.0, [CHAT]),
        ("", "shown", 0.0, [*NO_EVENTS, ""]),  # the last: a chat that asks for no stream
    ],
)
def test_nothing_is_shown_before_what_may_be_no_stream(
    world, monkeypatch, top, model, comment_s, paths
) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", comment_s)
    world.configure(top=top, model="aliases: [first]")
    for path in paths:
        said, reader = streamed(world, path or CHAT, {"model": model, "stream": bool(path)})
        gevent.idle()
        gevent.idle()
        assert not said, path
        world.queue.grant()
        reader.get()
        assert said == [b"data: 1\n\n"], path
        world.queue.came.clear()


# --- while its server is silent -----------------------------------------------------------------


ERROR = b'{"error":{"code":400,"n_ctx":4096}}'
STREAM = ("200 OK", EVENTS, [b"data: 1\n\n"])
REFUSAL = ("400 Bad Request", [("Content-Type", "application/json")], [ERROR])


@pytest.mark.parametrize(
    ("model", "path", "answer", "end", "status"),
    [
        *(("a", path, STREAM, b"data: 1\n\n", 200) for path in WITH_EVENTS),
        ("only", CHAT, STREAM, b"data: 1\n\n", 200),
        *((model, CHAT, REFUSAL, b"data: " + ERROR + b"\n\n", 400) for model in ("a", "only")),
    ],
)
@pytest.mark.usefixtures("soon")
def test_a_silent_server_is_covered_by_comments(world, model, path, answer, end, status) -> None:
    base = "/base" if model == "only" else ""
    opens = world.upstream.gates[base + RESOURCES[path].sent_path] = Event()
    world.answers = answer
    response = world.answer(path, {"model": model, "stream": True})
    assert dict(response.headers)["Content-Type"] == "text/event-stream"
    body = iter(response.body)
    said = [next(body) for _ in range(3)]
    assert all(piece.startswith(b": ") and piece.count(b"\n") == 1 for piece in said)
    opens.set()
    assert b"".join(body).endswith(end)
    response.body.close()
    assert len(world.requests) == 1
    assert world.recorded("status", "stream") == (status, True)


@pytest.mark.parametrize("model", ["a", "only"])
def test_silence_behind_the_head_of_a_stream_is_covered_too(world, soon, model) -> None:
    opens = Event()

    def serve(environ, start_response):
        environ["wsgi.input"].read()
        start_response("200 OK", EVENTS)(b"")
        opens.wait()
        return [b"data: 1\n\n", b"data: 2\n\n"]

    world.upstream.handler = serve
    made = asks(body={"model": model, "stream": True})
    body = iter(world.respond(made).body)
    assert [next(body) for _ in range(3)] == [b": waiting for the model\n"] * 3
    assert made.first_byte_at is None
    opens.set()
    rest = b"".join(body)
    body.close()
    assert rest.endswith(b"data: 1\n\ndata: 2\n\n")
    assert world.recorded("status", "response_bytes") == (200, 18)


def test_a_server_that_dies_in_its_silence_is_loaded_and_was_resent(world, soon) -> None:
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
    body = world.answer(body={"model": "a", "stream": True}).body
    assert next(body) == b": waiting for the model\n"
    world.answers = STREAM
    opens.set()
    assert b"".join(body).endswith(b"data: 1\n\n")
    body.close()
    assert len(world.queue.tickets) == len(world.queue.returned) == 2


SILENT = [
    ("keepaliveWhileLoading: false\n", CHAT, "a"),
    ("keepaliveWhileLoading: false\n", CHAT, "only"),
    ("", "/v1/audio/speech", "a"),
    ("", "/v1/embeddings", "only"),
    ("", "/upstream/a/v1/chat/completions", "a"),
]


def test_silence_stays_silent_elsewhere(world, monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "COMMENT_EVERY_S", 0.001)
    inner = world.upstream.handler

    def serve(environ, start_response):
        gevent.sleep(0.02)  # many times the patience of others
        return inner(environ, start_response)

    world.upstream.handler = serve
    for top, path, model in SILENT:
        world.configure(top=top, model="")
        assert world.handle(path, {"model": model, "stream": True}) == b'{"ok":1}', path


# --- below /upstream, and /props ----------------------------------------------------------------


def test_a_model_alone_is_redirected_without_being_asked(world) -> None:
    answer = world.answer("/upstream/a?x")
    assert (answer.status, answer.headers[0]) == (301, ("Location", "../upstream/a/?x"))
    assert not world.queue.tickets
    with pytest.raises(errors.UnknownModel):
        world.answer("/upstream/nope/x")
    with pytest.raises(errors.NotFound):
        world.answer("/comfyui/")


WAITS = [
    ("/props?model=a", {}, None, True),
    ("/props?model=a&autoload=0", {}, None, True),
    ("/props?autoload=1&model=a", {}, None, False),
    ("/props?autoload=1&model=a", {"may_load": False}, None, True),
    ("/upstream/a/x", {}, None, False),
    ("/upstream/a/x", {"may_load": False}, None, True),
    ("/upstream/a/favicon.ico", {}, None, True),
    ("/sdapi/v1/loras?model=a", {"may_load": False}, None, True),
    ("/sdapi/v1/loras?model=a", {"headers": [("X-Max-Wait", "1.5")]}, 1.5, False),
    ("/sdapi/v1/loras?model=a", {"headers": [("X-Swap", " Never ")]}, None, True),
]


def test_who_waits_how_long_and_loads_no_model(world) -> None:
    for path, facts, *_ in WAITS:
        world.handle(path, **facts)
        assert world.requests[-1]["path"] in path
    wishes = [{"max_wait_s": wait_s, "never_swap": never} for *_, wait_s, never in WAITS]
    assert world.queue.asked == wishes


def test_below_upstream_anything_goes_on(world) -> None:
    assert world.handle("/upstream/first/x/y?q=%20", b"raw", method="PATCH") == b'{"ok":1}'
    request = world.requests[-1]
    assert (request["path"], request["query"], request["body"]) == ("/x/y", "q=%20", b"raw")


@pytest.mark.parametrize(
    ("query", "known", "reached"),
    [("model=a", "a", False), ("model=a&autoload=1", "a", True), ("model=r", "r", True)],
)
def test_what_is_known_of_a_model_is_answered_without_it(world, query, known, reached) -> None:
    world.servers.known = {known: {"loaded": False}}
    answer = world.dispatcher.handle_props(asks(f"/props?{query}"), world.snapshot)
    said = b"".join(answer.body)
    assert (answer.status, bool(world.requests)) == (200, reached)
    if reached:
        answer.body.close()
    else:
        assert json.loads(said) == {"loaded": False}


PAGES = [
    (CHAT, {"model": "a"}, "", True, ["sandbox"]),
    ("/sdapi/v1/loras?model=only", None, "", False, ["sandbox"]),
    ("/upstream/only/v1/embeddings", {"model": "only"}, "", True, ["sandbox"]),
    ("/upstream/a/", None, "", True, []),
    ("/upstream/a/", None, "", False, [PAGE_SANDBOX]),
    ("/upstream/a/", None, "sandbox: true", True, [PAGE_SANDBOX]),
    ("/upstream/a/", None, "sandbox: false", False, []),
]


def test_only_pages_of_trusted_servers_run(world) -> None:
    for path, body, model, trusts_pages, found in PAGES:
        world.configure(model=model)
        world.answers = ("200 OK", [("Content-Type", "text/html")], [b"<script>"])
        answer = world.answer(path, body, trusts_pages=trusts_pages)
        answer.body.close()
        kinds = [value for name, value in answer.headers if name == "X-Content-Type-Options"]
        policies = [value for name, value in answer.headers if name == "Content-Security-Policy"]
        assert (policies, kinds) == (found, ["nosniff"] if found else []), (path, model)


# --- answers that stay open ---------------------------------------------------------------------

KEEPS = "compat: {ignoreStreams: false}"
EVENT_SOURCE = {"accept": "text/event-stream", "user_agent": "Mozilla/5.0 (X11) Chrome/140.0"}


def endless(world, headers, *, first=b"data: 1\n\n"):
    """The upstream's next answer: a piece, and then nothing until the event is set."""
    more = Event()

    def body():
        yield first
        more.wait()

    world.answers = ("200 OK", headers, body())
    return more


@pytest.mark.parametrize(
    ("path", "method", "headers", "model", "keeps"),
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
def test_which_open_answers_keep_their_model(world, path, method, headers, model, keeps) -> None:
    world.configure(model=model)
    more = endless(world, headers)
    body = world.answer(path, b"" if method == "POST" else None).body
    assert next(body) == b"data: 1\n\n"
    assert bool(world.queue.returned) is not keeps
    more.set()
    body.close()
    assert len(world.queue.returned) == 1


@pytest.mark.parametrize("ends_in_time", [False, True])
def test_an_endless_answer_keeps_its_model_for_a_while(world, monkeypatch, ends_in_time) -> None:
    monkeypatch.setattr(stream, "STAYS_OPEN_S", 0.001)
    more = endless(world, [("Content-Type", "text/plain")], first=b"log")
    body = world.answer("/upstream/a/log").body
    assert next(body) == b"log"
    if ends_in_time:
        more.set()
        assert list(body) == []
        body.close()
    while not world.queue.returned:
        gevent.sleep(0.001)
    more.set()
    body.close()
    assert len(world.queue.returned) == 1


@pytest.mark.parametrize(("kind", "ends"), [("text/event-stream", True), ("text/plain", False)])
def test_when_the_model_goes_a_feed_ends_and_anything_else_breaks(world, kind, ends) -> None:
    more = endless(world, [("Content-Type", kind)])
    made = asks("/upstream/a/x")
    body = world.respond(made).body
    assert next(body) == b"data: 1\n\n"
    made.lease.loosen()
    gevent.spawn(made.lease.cut, errors.ModelLeft("a was stopped"))
    with pytest.raises(StopIteration if ends else errors.Aborted):
        next(body)
    body.close()
    more.set()
    assert (made.status, world.records[0].status) == ((0, 200) if ends else (503, 503))


@pytest.mark.parametrize(
    ("facts", "model", "never"),
    [
        (EVENT_SOURCE, "", True),
        (EVENT_SOURCE, KEEPS, False),
        ({**EVENT_SOURCE, "user_agent": "python"}, "", False),
        ({**EVENT_SOURCE, "accept": "text/html, text/event-stream"}, "", False),
        ({**EVENT_SOURCE, "body": b""}, "", False),
    ],
)
def test_a_page_that_listens_loads_no_model_and_comes_back(world, facts, model, never) -> None:
    world.configure(model=model)
    world.queue.refusals = [errors.NotReady("a is stopped")]
    if not never:
        with pytest.raises(errors.NotReady):
            world.answer("/upstream/a/events", **facts)
        assert world.queue.asked[-1]["never_swap"] is False
        assert len(world.records) == 1
        return
    answer = world.answer("/upstream/a/events", **facts)
    assert world.queue.asked[-1]["never_swap"] is True
    assert (answer.status, dict(answer.headers)["Content-Type"]) == (200, "text/event-stream")
    assert answer.body[0].startswith(b"retry: 15000\n")
    assert not world.records, "an open tab is no news"


# --- peers --------------------------------------------------------------------------------------


def test_a_peer_is_asked_without_the_queue(world) -> None:
    page = [("Cookie", "session=1"), ("Origin", "https://x.example"), ("Referer", "https://x/y")]
    world.handle(body={"model": "only"}, headers=[("Authorization", "Bearer all"), *page])
    request = world.requests[-1]
    assert request["path"] == "/base/v1/chat/completions"
    assert request["HTTP_AUTHORIZATION"] == "Bearer pk"
    assert not {"HTTP_COOKIE", "HTTP_ORIGIN", "HTTP_REFERER"} & request.keys()
    assert not world.queue.tickets
    assert world.recorded("peer", "model_id") == ("live", "only")


@pytest.mark.parametrize("error", [None, errors.UpstreamTimeout("cannot connect in time")])
def test_the_next_peer_gets_the_request_as_the_client_sent_it(world, monkeypatch, error) -> None:
    connect = client.connect

    def failing_for_the_dead(address, limit_s):
        if error and address.port == 1:
            raise error
        return connect(address, limit_s)

    monkeypatch.setattr(client, "connect", failing_for_the_dead)
    world.handle(body={"model": "r"})
    assert world.sent == {"model": "r"}
    assert world.recorded("peer", "status") == ("live", 200)


def test_headers_of_the_configuration_are_sent_and_nowhere_shown(world) -> None:
    seen = []
    begin = world.recorder.begin
    world.recorder.begin = lambda context, *body: seen.append(context) or begin(context, *body)
    world.handle(CHAT, {"model": "own"}, headers=[("X-Team", "red"), ("X-Trace", "1")])
    assert world.requests[-1]["HTTP_X_TEAM"] == "blue-0001"
    shown = seen[-1].shown_headers
    assert ("X-Trace", "1") in shown
    assert "X-Team" in dict(shown)
    assert "blue-0001" not in str(shown)


@pytest.mark.parametrize(("name", "named"), [("only", "only"), ("live/only", "only")])
def test_below_upstream_a_peer_answers_for_the_model_of_the_path(world, name, named) -> None:
    path = f"/upstream/{name}/v1/embeddings?model=lost&x=1"
    assert world.handle(path, {"Model": "r", "model": named, "model ": 1}) == b'{"ok":1}'
    request = world.requests[-1]
    assert (request["path"], request["query"]) == ("/base/v1/embeddings", "model=only&x=1")
    assert world.sent == {"model": "only", "model ": 1}
    assert world.recorded("peer", "model_id", "requested") == ("live", name, name)


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/upstream/live/only/v1/models", {}),
        ("/upstream/only/v1/embeddings/../../unload", {}),
        ("/upstream/only/v1/embeddings", {"body": {"model": "r"}}),
    ],
)
def test_what_a_peer_is_not_asked_is_on_record(world, path: str, facts: dict) -> None:
    with pytest.raises(errors.BadRequest):
        world.answer(path, **facts)
    assert not world.requests
    status, requested = world.recorded("status", "requested")
    assert status == 400
    assert requested in {"only", "live/only"}


@pytest.mark.parametrize(
    ("path", "body", "sent", "query"),
    [
        ("/infill?x=1&model=first", {}, {"model": "up", "top_k": 5}, "model=up&x=1"),
        ("/infill?model=live/only", {"x": 1}, {"x": 1, "model": "only"}, "model=only"),
        (CHAT, {"model": "live/only"}, {"model": "only"}, ""),
    ],
)
def test_every_server_gets_its_own_name_of_the_model(world, path, body, sent, query) -> None:
    world.handle(path, body)
    assert (world.sent, world.requests[-1]["query"]) == (sent, query)


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_uses_its_models_only(world) -> None:
    key = world.snapshot.keyring.authenticate("Bearer some", None)
    world.handle(body={"model": "first"}, key=key)
    assert world.records[0].key_name == "laptop"
    told = set()
    for name in ("shown", "only", "live/only", "nope"):
        with pytest.raises(errors.UnknownModel):
            world.handle(body={"model": name}, key=key)
        for rest in ("", "/", "/v1/embeddings", "/slots") if "/" not in name else ():
            with pytest.raises(errors.UnknownModel) as caught:
                world.answer(f"/upstream/{name}{rest}", key=key)
            told.add(str(caught.value).replace(json.dumps(name), "X"))
    assert len(told) == 1


def test_a_key_without_the_right_is_kept_to_inference(world) -> None:
    key = world.snapshot.keyring.authenticate("Bearer some", None)
    with pytest.raises(errors.Forbidden, match="the key 'laptop' may use inference routes only"):
        world.answer("/upstream/first/release_memory_occupation", method="POST", key=key)
    assert (world.records[-1].status, world.records[-1].requested) == (403, "first")
    assert not world.queue.tickets
    world.handle("/upstream/first/v1/embeddings?x=1", {"input": "x"}, key=key)
    assert (world.requests[-1]["path"], world.requests[-1]["query"]) == ("/v1/embeddings", "x=1")
    assert world.sent == {"input": "x", "model": "up", "top_k": 5}


# --- pins of the active profile ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "model_id", "sent", "query"),
    [
        (CHAT, {"model": "gpt"}, "own", b'{"model": "own"}', ""),
        ("/v1/completions?model=gpt", {"model": "shown"}, "a", b'"top_k":5', "model=up"),
        ("/v1/images/edits", FORM_BODY.replace(b"\na\r", b"\ngpt\r"), "own", b"\nown\r", ""),
        ("/upstream/gpt/some%2Fpage?x=1", None, "own", b"", "x=1"),
    ],
)
def test_a_pinned_name_is_sent_as_its_target(world, path, body, model_id, sent, query) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    world.handle(path, body, headers=FORM if isinstance(body, bytes) else [])
    assert sent in world.requests[-1]["body"]
    assert world.requests[-1]["query"] == query
    record = world.records[-1]
    assert record.model_id == model_id
    assert record.requested in {"gpt", "shown", "far"}


@pytest.mark.parametrize("path", [CHAT, "/upstream/own/v1/models"])
def test_a_disabled_name_is_404_everywhere(world, path: str) -> None:
    world.snapshot = world.snapshot.with_profile("work")
    with pytest.raises(errors.UnknownModel, match='the active profile "work" disables it'):
        world.answer(path, {"model": "own"})
    assert not world.requests


@parity("Profiles", "a request keeps the profile it began with")
def test_a_request_keeps_the_profile_it_began_with(world) -> None:
    pinned = world.snapshot.with_profile("work")
    assert (pinned.profile, world.snapshot.profile) == ("work", "")
    world.handle(CHAT, {"model": "own"})
    assert world.records[-1].model_id == "own"
    assert pinned.with_profile("").profile == ""
