"""Facts about llmsnap.proxy.context."""

import pytest

from llmsnap.errors import ClientGone, Draining, LoadAborted, UpstreamBroke
from llmsnap.proxy.context import RequestContext
from llmsnap.proxy.payload import parse_request
from tests.fakes.calls import FakeQueue, make_request, runtime

CONFIG = "models: {a: {cmd: x, proxy: 'http://localhost:1'}}"


class FakeExchange:
    def __init__(self) -> None:
        self.aborted = self.closed = 0

    def abort(self) -> None:
        self.aborted += 1

    def close(self) -> None:
        self.closed += 1


class FakeObserver:
    def __init__(self) -> None:
        self.ends: list[tuple] = []

    def finish(self, error, *, client_left: bool) -> None:
        self.ends.append((error, client_left))


@pytest.fixture
def context() -> RequestContext:
    made = make_request(body={"model": "a"})
    context = RequestContext(made)
    context.payload = parse_request(made, runtime(CONFIG))
    return context


def test_while_it_waits_an_interruption_cancels_the_ticket(context) -> None:
    queue = FakeQueue(grants=False)
    context.wait_for(queue.request("a"))
    context.client_left()
    assert queue.cancelled == queue.tickets
    assert isinstance(context.interrupted, ClientGone)


def test_who_waited_in_vain_is_recorded_with_the_wait_and_the_swap(context) -> None:
    ticket = FakeQueue(grants=False).request("a")
    context.wait_for(ticket)
    ticket.swap_id, ticket.load_s = 7, 0.000001
    ticket.settle(LoadAborted("a was unloaded"))
    context.close(LoadAborted("a was unloaded"))
    assert (context.swap_id, context.load_s) == (7, 0.000001)
    assert context.queue_s > 0
    assert context.granted


def test_while_it_is_served_an_interruption_aborts_the_exchange(context) -> None:
    exchange, lease = FakeExchange(), FakeQueue().request("a").take()
    context.hold(lease, exchange)
    context.cancel()
    context.client_left()
    assert exchange.aborted == 1
    assert isinstance(context.interrupted, Draining), "the first reason counts"


def test_a_lease_that_is_cut_says_why(context) -> None:
    exchange, lease = FakeExchange(), FakeQueue().request("a").take()
    context.hold(lease, exchange)
    lease.cut(LoadAborted("a was unloaded"))
    assert exchange.aborted == 1
    assert str(context.reason(UpstreamBroke("broke"))) == "a was unloaded"


def test_who_asks_after_the_interruption_is_interrupted_at_once(context) -> None:
    context.client_left()
    exchange = FakeExchange()
    context.abort_on_interrupt(exchange)
    assert exchange.aborted == 1


def test_without_an_interruption_an_error_is_its_own_reason(context) -> None:
    error = UpstreamBroke("broke")
    assert context.reason(error) is error


def test_closing_gives_everything_back_once(context) -> None:
    queue, exchange, observer = FakeQueue(), FakeExchange(), FakeObserver()
    context.observer = observer
    context.hold(queue.request("a").take(), exchange)
    error = ClientGone("the client left")
    context.close(error)
    context.close()
    assert context.request.monitor.closed == 1
    assert (exchange.closed, len(queue.returned)) == (1, 1)
    assert observer.ends == [(error, True)]
    context.client_left()
    assert exchange.aborted == 0, "what is closed is not interrupted any more"
    assert repr(context) == "<RequestContext r-1 for  closed>"
