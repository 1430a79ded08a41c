"""Requests that name a selector: which target gets them, and what happens when it fails."""

import json

import gevent
import pytest

from llmsnap import errors
from llmsnap.http.auth import Keyring
from llmsnap.models import parse_address
from llmsnap.proxy.context import RequestContext
from llmsnap.routing import Standing
from tests.fakes.calls import make_request, runtime
from tests.fakes.upstream import SOCKET, FakeUpstream
from tests.parity import parity
from tests.proxy.fakes import DispatchWorld

JSON = [("Content-Type", "application/json")]
TEXT = """\
apiKeys: [{{key: all}}, {{key: some, name: laptop, models: [chat, relay], admin: false}}]
models:
  a: {{cmd: x, proxy: "{a}", aliases: [first], filters: {{setParamsByID: {{first: {{p: 1}}}}}}}}
  b: {{cmd: x, proxy: "{b}", useModelName: up, compat: {{ignoreWebsockets: true}}}}
groups: {{all: {{swap: false, members: [a, b]}}}}
peers:
  den: {{proxy: "{c}", models: [m], apiKey: pk}}
selectors:
  pinned: {{strategy: pin, targets: [b, a]}}
  warm: {{strategy: warm, targets: [a, b]}}
  chat: {{strategy: spillover, targets: [first, b, den/m]}}
  relay:
    strategy: failover
    targets: [a, b, den/m]
    settings: {{failures: 2, retryAfter: 60, headerTimeout: 60, affinity: [X-Chat]}}
  hasty: {{strategy: failover, targets: [a, b], settings: {{headerTimeout: 0.2}}}}
  short: {{strategy: failover, targets: [a, b, m], settings: {{maxAttempts: 2}}}}
routing: {{scheduler: {{settings: {{fifo: {{priority: {{first: 3}}}}}}}}}}
profiles:
  work: {{pins: {{gpt: relay, a: b}}}}
"""


class World(DispatchWorld):
    """Three servers: of the models *a* and *b*, and of the peer *c*, each with its answer."""

    def __init__(self) -> None:
        self.upstreams = {name: FakeUpstream() for name in "abc"}
        self.statuses = dict.fromkeys("abc", "200 OK")
        self.bodies = {name: [b'{"by":"%s"}' % name.encode()] for name in "abc"}
        self.gates: dict[str, gevent.event.Event] = {}
        self.sent: list[tuple[str, dict]] = []
        for name, upstream in self.upstreams.items():
            upstream.handler = self.server(name)
            upstream.start()
        urls = {name: upstream.url for name, upstream in self.upstreams.items()}
        self.addresses = {name: parse_address(url) for name, url in urls.items()}
        self.gone: dict[str, errors.ChildExited] = {}
        self.runtime = runtime(TEXT.format(**urls))
        super().__init__(self)
        self.now = 1000.0
        self.dispatcher.selectors.clock = lambda: self.now

    def server(self, name: str):
        def answer(environ, start_response):
            body = environ["wsgi.input"].read()
            self.sent.append((name, json.loads(body) if body else {}))
            if name in self.gates:
                self.gates[name].wait()
            start_response(self.statuses[name], JSON)
            return self.bodies[name]

        return answer

    def address_of(self, model_id: str):
        return self.addresses[model_id]

    def wait_end(self, model_id: str, address, limit_s: float):
        return self.gone.get(model_id)

    def begin(self, name: str, **facts):
        body = {"model": name, **facts.pop("more", {})}
        context = RequestContext(make_request(body=body, **facts))
        return context, self.dispatcher.handle(context, self.runtime)

    def ask(self, name: str = "relay", **facts) -> str:
        """Return which server answered."""
        context, answer = self.begin(name, **facts)
        said = json.loads(b"".join(answer.body))["by"]
        answer.body.close()
        assert context.closed
        return said

    def counts(self, name: str) -> dict[str, int]:
        return dict(self.dispatcher.selectors.traffic(name).counts)


@pytest.fixture
def world():
    made = World()
    yield made
    assert not any(made.counts(name) for name in made.runtime.config.selectors)
    made.close()
    for upstream in made.upstreams.values():
        upstream.stop()


# --- one choice ---------------------------------------------------------------------------------


@parity("Selectors", "the body is rewritten to the target; its filters and `setParamsByID` apply")
def test_the_target_is_asked_as_if_the_client_had_named_it(world) -> None:
    assert world.ask("chat") == "a"
    assert world.sent == [("a", {"model": "first", "p": 1})]
    assert world.ask("pinned") == "b"
    assert world.sent[1:] == [("b", {"model": "up"})]
    (first, second) = world.records
    assert (first.requested, first.model_id, first.selector) == ("chat", "a", "chat")
    assert (first.priority, second.priority) == (3, 0)
    assert (second.requested, second.model_id) == ("pinned", "b")


@parity(
    "Order of names",
    "the active profile, then selectors, once each; then models, aliases and peers",
)
def test_a_profile_comes_before_selectors_whose_targets_it_does_not_change(world) -> None:
    world.runtime = world.runtime.with_profile("work")
    assert world.ask("gpt") == "a"
    assert world.ask("a") == "b"
    first, second = world.records
    assert (first.requested, first.model_id, first.selector) == ("gpt", "a", "relay")
    assert (second.requested, second.model_id, second.selector) == ("a", "b", "")
    assert first.profile == second.profile == "work"


@parity(
    "Selectors",
    "(not in llama-swap) keys with `models`",
    "the selector must be in the list, not its targets",
)
def test_a_key_needs_the_selector_alone(world) -> None:
    some = Keyring(world.runtime.config.api_keys).authenticate("Bearer some", None)
    assert world.ask("relay", key=some) == "a"
    for name in ("warm", "a"):
        with pytest.raises(errors.UnknownModel):
            world.begin(name, key=some)


@parity("Selectors", "404 below `/upstream/`")
def test_a_selector_is_not_reached_below_upstream(world) -> None:
    for path in ("/upstream/relay/x", "/upstream/relay", "/upstream/gpt/x"):
        context = RequestContext(make_request(path))
        with pytest.raises(errors.UnknownModel, match="is a selector, which serves inference"):
            world.dispatcher.handle_upstream(context, world.runtime.with_profile("work"))


@parity("Selectors", "`spillover` counts a request from the choice to the end of the answer")
def test_requests_spill_over_and_are_counted_until_their_answer_ends(world) -> None:
    answers = [world.begin("chat")[1] for _ in range(3)]
    assert [name for name, _ in world.sent] == ["a", "b", "c"]
    assert world.counts("chat") == {"first": 1, "b": 1, "den/m": 1}
    answers.pop(1).body.close()
    assert world.counts("chat") == {"first": 1, "den/m": 1}
    assert world.ask("chat") == "b"
    for answer in answers:
        answer.body.close()


@parity("`compat.ignoreWebsockets`", "a WebSocket gives its place in `spillover` back at once")
def test_a_websocket_that_is_ignored_counts_on_no_target(world) -> None:
    over = gevent.event.Event()

    def switch(environ, start_response):
        head = b"HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        environ[SOCKET].sendall(head)
        over.wait()
        return []

    world.upstreams["b"].handler = switch
    asks = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    request = make_request("/v1/realtime?model=pinned", headers=asks, socket=object())
    context = RequestContext(request)
    assert world.dispatcher.handle(context, world.runtime).status == 101
    assert world.counts("pinned") == {}
    context.close()
    over.set()


@parity(
    "Selectors",
    "(not in llama-swap) `settings.affinity`",
    "requests of a session stay on one target",
)
def test_a_session_keeps_its_target_while_that_is_about_as_busy(world) -> None:
    chat = {"headers": [("X-Chat", "42")]}
    world.statuses["a"] = "503 -"
    assert world.ask(**chat) == "b"
    world.statuses["a"] = "200 OK"
    assert world.ask() == "a"
    assert world.ask(**chat) == "b"
    world.queue.standings["b"] = Standing.STOPPED
    assert world.ask(**chat) == "a", "what b knew of the session is gone"


# --- the next target ----------------------------------------------------------------------------


NOT_LOADED = errors.NotLoaded("it failed", errors.ChildExited("exit 1"), "")
KILLED = errors.ChildExited("a: killed")
FAILURES = {
    "connection": lambda world: world.upstreams["a"].stop(),
    "load": lambda world: world.queue.refusals.append(NOT_LOADED),
    "removed": lambda world: world.queue.refusals.append(errors.UnknownModel("it was removed")),
    "ended": lambda world: (world.upstreams["a"].stop(), world.gone.update(a=KILLED)),
    "late": lambda world: world.gates.update(a=gevent.event.Event()),
    "502": lambda world: world.statuses.update(a="502 -"),
    "504": lambda world: world.statuses.update(a="504 -"),
}


@parity(
    "Selectors",
    "(not in llama-swap) `strategy: failover`",
    "the next target answers when one cannot be reached, does not load, ends, answers 502 to 504 "
    "or is late",
)
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_failover_goes_on_to_the_next_target(world, fail) -> None:
    fail(world)
    name = "hasty" if world.gates else "relay"
    assert world.ask(name) == "b"
    assert world.sent[-1] == ("b", {"model": "up"})
    assert world.recorded("requested", "model_id", "status") == (name, "b", 200)
    for gate in world.gates.values():
        gate.set()


@pytest.mark.parametrize(
    ("name", "status", "asked", "named"),
    [
        ("relay", 500, "a", "a"),
        ("relay", 429, "a", "a"),
        ("warm", 503, "a", "a"),
        ("pinned", 503, "b", "b"),
        ("chat", 503, "a", "first"),
        ("relay", 503, "abc", "den/m"),
        ("short", 503, "ab", "b"),
    ],
)
def test_other_answers_are_passed_on_and_the_last_one(world, name, status, asked, named) -> None:
    world.statuses = dict.fromkeys("abc", f"{status} -")
    _, answer = world.begin(name)
    assert answer.status == status
    assert "".join(server for server, _ in world.sent) == asked
    answer.body.close()
    assert dict(answer.headers)["X-Served-By"] == named


@pytest.mark.parametrize("error", [errors.NotReady("no"), errors.TooManyInFlight("taken")])
def test_a_cold_or_busy_model_is_no_failure(world, error) -> None:
    world.queue.refusals = [error]
    with pytest.raises(type(error)):
        world.ask()
    assert not world.dispatcher.selectors.traffic("relay").circuits["a"].failures


def test_a_target_that_fails_again_and_again_is_skipped_until_one_request_probes_it(world) -> None:
    world.statuses["a"] = "503 -"
    assert [world.ask() for _ in range(3)] == ["b"] * 3
    assert [name for name, _ in world.sent] == ["a", "b", "a", "b", "b"]
    world.now += 61
    world.gates["a"] = gate = gevent.event.Event()
    world.statuses["a"] = "200 OK"
    probe = gevent.spawn(world.ask)
    while len(world.sent) < 6:
        gevent.idle()
    assert world.ask() == "b", "one request at a time probes"
    gate.set()
    assert probe.get() == "a"
    assert world.ask() == "a"


@parity("Selectors", "no usable target: 503", "503 with `Retry-After`")
def test_without_a_usable_target_the_client_is_told_when_to_ask_again(world) -> None:
    world.statuses = dict.fromkeys("abc", "503 -")
    for _ in range(2):
        world.begin("relay")[1].body.close()
    with pytest.raises(errors.NoTarget, match="no target of the selector relay") as caught:
        world.begin("relay")
    assert (caught.value.status, caught.value.retry_after_s) == (503, 60.0)
    assert len(world.sent) == 6


def test_a_client_that_leaves_meanwhile_is_no_failure(world) -> None:
    world.gates["a"] = gate = gevent.event.Event()
    context = RequestContext(make_request(body={"model": "relay"}))
    asked = gevent.spawn(world.dispatcher.handle, context, world.runtime)
    while not world.sent:
        gevent.idle()
    context.request.monitor.leave()
    with pytest.raises(errors.ClientGone):
        asked.get()
    gate.set()
    assert [name for name, _ in world.sent] == ["a"]
    assert not world.dispatcher.selectors.traffic("relay").circuits["a"].failures


@parity("Selectors", "429 of a target of `spillover`: passed on", "the next target is tried first")
def test_spillover_tries_the_next_target_when_one_refuses(world) -> None:
    world.queue.refusals = [errors.TooManyInFlight("all slots taken")]
    assert world.ask("chat") == "b"
    world.queue.standings["b"] = Standing.FAILING
    world.statuses["a"] = world.statuses["c"] = "429 -"
    _, answer = world.begin("chat")
    assert answer.status == 429
    assert [name for name, _ in world.sent[1:]] in (["a", "c"], ["c", "a"])
    answer.body.close()


# --- streams that have begun --------------------------------------------------------------------

EVENTS = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("next_target", ["b", "den/m"])
def test_a_stream_goes_on_with_the_next_before_the_first_byte(world, soon, next_target) -> None:
    world.queue.grants = False
    if next_target == "den/m":
        world.queue.standings["b"] = Standing.FAILING
    world.bodies = {name: [EVENTS] for name in "abc"}
    headers = [("X-Max-Wait", "100")]
    context, answer = world.begin("relay", more={"stream": True}, headers=headers)
    assert "X-Served-By" not in dict(answer.headers)
    said = iter(answer.body)
    assert next(said).startswith(b":")
    world.queue.grants = True
    world.queue.refuse(NOT_LOADED)
    assert b"".join(said).endswith(b'{"choices":[]}\n\ndata: [DONE]\n\n')
    answer.body.close()
    assert context.served_by == next_target.partition("/")[0]
    assert context.load_s == 0
    first_s, *later_s = [wishes["max_wait_s"] for wishes in world.queue.asked]
    assert first_s == 100
    assert all(0 < wait_s < 100 for wait_s in later_s), "the wait does not begin anew"


def test_a_stream_whose_targets_all_fail_ends_with_the_last_error(world, soon) -> None:
    world.queue.grants = False
    world.upstreams["c"].stop()
    context, answer = world.begin("relay", more={"stream": True})
    said = iter(answer.body)
    next(said)
    for model in "ab":
        world.queue.refuse(NOT_LOADED)
        if model == "a":
            next(said)
    ending = b"".join(said)
    assert b"peer proxy error: cannot connect" in ending
    assert ending.count(b"data: {") == 1
    answer.body.close()
    assert context.status == 502


def test_a_head_that_is_late_leads_on_while_the_client_gets_comments(world, soon) -> None:
    world.gates["a"] = gate = gevent.event.Event()
    world.bodies = {name: [EVENTS] for name in "abc"}
    _, answer = world.begin("hasty", more={"stream": True})
    assert b"".join(answer.body).endswith(EVENTS)
    answer.body.close()
    gate.set()
    assert [name for name, _ in world.sent] == ["a", "b"]
