"""Requests: how they are interrupted and closed, what they hold, and whose settings they follow."""

import sys
from types import SimpleNamespace

import pytest

from llmsnap.config import loads
from llmsnap.errors import ClientGone, Draining, LoadAborted, NoRoom, TooLarge, UpstreamBroke
from llmsnap.proxy import request
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.request import MIB, BodyBudget, BodyShare, RequestConfig
from tests.fakes.calls import FakeQueue, make_request, runtime
from tests.proxy.fakes import FakeExchange


@pytest.fixture
def context() -> RequestContext:
    return RequestContext(make_request(body={"model": "a"}))


@pytest.fixture
def exchange(context) -> FakeExchange:
    """What serves *context*."""
    made = FakeExchange()
    context.hold(FakeQueue().request("a").take(), made)
    return made


def test_who_waited_in_vain_is_recorded_with_the_wait_and_the_swap(context) -> None:
    ticket = FakeQueue(grants=False).request("a")
    context.wait_for(ticket)
    ticket.swap_id, ticket.load_s = 7, 0.000001
    ticket.settle(LoadAborted("a was unloaded"))
    context.close(LoadAborted("a was unloaded"))
    assert (context.swap_id, context.load_s) == (7, 0.000001)
    assert context.queue_s > 0
    assert context.granted


def test_while_it_is_served_an_interruption_aborts_the_exchange(context, exchange) -> None:
    context.cancel()
    context.client_left()
    assert exchange.aborted == 1
    assert isinstance(context.interrupted, Draining), "the first reason counts"


def test_a_lease_that_is_cut_says_why(context, exchange) -> None:
    broke = UpstreamBroke("broke")
    assert context.reason(broke) is broke
    context.lease.cut(LoadAborted("a was unloaded"))
    assert exchange.aborted == 1
    assert str(context.reason(broke)) == "a was unloaded"
    late = FakeExchange()
    context.abort_on_interrupt(late)
    assert late.aborted == 1, "who asks after the interruption is interrupted at once"


def test_closing_gives_everything_back_once(context) -> None:
    queue, exchange, ends = FakeQueue(), FakeExchange(), []
    context.observer = SimpleNamespace(finish=lambda error, **left: ends.append((error, left)))
    context.hold(queue.request("a").take(), exchange)
    error = ClientGone("the client left")
    context.close(error)
    context.close()
    assert context.request.monitor.closed == 1
    assert (exchange.closed, len(queue.returned)) == (1, 1)
    assert ends == [(error, {"client_left": True})]
    context.client_left()
    assert exchange.aborted == 0, "what is closed is not interrupted any more"


GIB = 1 << 30


def bodies(memory: float = 1, disk: float = 2) -> BodyBudget:
    return BodyBudget(loads(f"models: {{}}\nmaxBodyMemory: {memory}\nmaxSpool: {disk}", environ={}))


def used(made: BodyBudget) -> tuple[int, int]:
    return made.memory.used_bytes, made.disk.used_bytes


def test_beyond_the_budget_a_body_is_refused_and_what_it_had_stays_counted() -> None:
    made = bodies()
    first, second = BodyShare(made), BodyShare(made)
    first.in_memory(MIB - 10)
    second.in_memory(10)
    with pytest.raises(NoRoom, match=r"1 MiB that .* in memory \(maxBodyMemory\)") as error:
        second.in_memory(11)
    assert (error.value.status, error.value.retry_after_s) == (503, 5.0)
    first.on_disk(1000)
    assert used(made) == (MIB, 1000)
    first.close()
    first.close()
    assert used(made) == (10, 0)
    second.in_memory(11)
    assert used(made) == (11, 0)
    made.configure(loads("models: {}\nmaxBodyMemory: 0.000009", environ={}))
    assert used(made) == (11, 0), "new settings leave what is held"
    with pytest.raises(NoRoom):
        BodyShare(made).in_memory(1)


@pytest.mark.parametrize(
    ("on_disk", "limit", "key"), [(False, MIB, "maxBodyMemory"), (True, 2 * MIB, "maxSpool")]
)
def test_what_never_fits_is_too_large_whatever_others_hold(on_disk, limit, key) -> None:
    made = bodies()
    held, other = BodyShare(made), BodyShare(made)
    held.expect(limit, on_disk=on_disk)
    with pytest.raises(TooLarge, match=key):
        held.expect(limit + 1, on_disk=on_disk)
    with pytest.raises(TooLarge, match=key):
        (held.on_disk if on_disk else held.in_memory)(limit + 1)
    (other.on_disk if on_disk else other.in_memory)(1)
    with pytest.raises(NoRoom, match=key):
        held.expect(limit, on_disk=on_disk)
    assert sum(used(made)) == 1, "what is announced is not counted"


@pytest.mark.parametrize(("memory", "limit"), [(64 * GIB, GIB), (4 * GIB, GIB), (GIB, GIB // 4)])
def test_by_itself_it_is_a_share_of_memory_and_disk(monkeypatch, tmp_path, memory, limit) -> None:
    monkeypatch.setattr(request, "memory_bytes", lambda: memory)
    monkeypatch.setattr(request.tempfile, "gettempdir", lambda: str(tmp_path))
    made = bodies(0, 0)
    assert made.memory.limit_bytes == limit
    free = request.shutil.disk_usage(tmp_path).free
    assert abs(made.disk.limit_bytes - free // 2) < free // 4
    monkeypatch.setattr(request.tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    assert bodies(0, 0).disk.limit_bytes == sys.maxsize // 2


TEXT = """\
models:
  a: {cmd: x, proxy: "http://localhost:1", useModelName: up, timeouts: {connect: 3, idle: 7}}
  plain: {cmd: x, proxy: "http://localhost:1", filters: {stripParams: temperature}}
peers:
  p: {proxy: "https://box.example/base/", models: [r], apiKey: secret}
"""


def test_a_model_is_sent_to_under_its_own_rules() -> None:
    snapshot: RequestConfig = runtime(TEXT)
    a, plain = map(snapshot.upstream_settings, snapshot.config.models.values())
    assert (a.model_name, plain.model_name) == ("up", "")
    assert (a.timeouts.connect_s, a.timeouts.idle_s) == (3, 7)
    assert not a.filter
    assert plain.filter
    assert a.rule.pass_credentials, "there are no keys of ours they could be"
    snapshot = runtime(TEXT + "apiKeys: [k]\n")
    assert not snapshot.upstream_settings(snapshot.config.models["a"]).rule.pass_credentials


def test_a_peer_is_sent_to_as_itself_with_its_own_key() -> None:
    snapshot = runtime(TEXT)
    peer, model = snapshot.config.peers["p"], snapshot.config.models["a"]
    target, address = snapshot.peer(peer)
    assert (target.rule.host, target.rule.api_key) == ("box.example", "secret")
    assert (address.scheme, address.port, address.base_path) == ("https", 443, "/base")
    assert "secret" not in repr(target)
    assert snapshot.peer(peer) is snapshot.peer(peer), "compiled once"
    assert snapshot.upstream_settings(model) is snapshot.upstream_settings(model)


def test_what_an_open_tab_asks_for_is_ignored_unless_configured_otherwise() -> None:
    assert runtime(TEXT).ignores("/static/app.js")
    assert runtime(TEXT).ignores("/favicon.ico")
    assert not runtime(TEXT).ignores("/v1/chat/completions")
    assert runtime(TEXT + "upstream: {ignorePaths: ['^/x']}\n").ignores("/xy")
