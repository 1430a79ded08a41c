"""Facts about llmsnap.proxy.job."""

import pytest

from llmsnap.errors import ClientGone, Draining, LoadAborted, UpstreamBroke
from llmsnap.proxy.intake import take_in
from llmsnap.proxy.job import Job
from tests.fakes.calls import FakeQueue, call, runtime


class FakeExchange:
    def __init__(self) -> None:
        self.aborted = self.closed = 0

    def abort(self) -> None:
        self.aborted += 1

    def close(self) -> None:
        self.closed += 1


class FakeTap:
    def __init__(self) -> None:
        self.ends: list[tuple] = []
        self.waits: list[tuple] = []

    def granted(self, *facts) -> None:
        self.waits.append(facts)

    def finish(self, error, *, client_left: bool) -> None:
        self.ends.append((error, client_left))


@pytest.fixture
def job() -> Job:
    made = call(body={"model": "a"})
    return Job(made, take_in(made, runtime("models: {a: {cmd: x, proxy: 'http://localhost:1'}}")))


def test_while_it_waits_an_interruption_cancels_the_ticket(job) -> None:
    queue = FakeQueue(grants=False)
    job.wait_for(queue.request("a"))
    job.client_left()
    assert queue.cancelled == queue.tickets
    assert isinstance(job.interrupted, ClientGone)


def test_who_waited_in_vain_is_recorded_with_the_wait_and_the_swap(job) -> None:
    job.tap = FakeTap()
    ticket = FakeQueue(grants=False).request("a")
    job.wait_for(ticket)
    ticket.swap_id, ticket.load_s = 7, 0.000001
    ticket.settle(LoadAborted("a was unloaded"))
    job.close(LoadAborted("a was unloaded"))
    assert (job.call.swap_id, job.call.load_s) == (7, 0.000001)
    assert job.call.queue_s > 0
    assert job.tap.waits == [(job.call.queue_s, 0.000001, 7)]


def test_while_it_is_served_an_interruption_aborts_the_exchange(job) -> None:
    exchange, lease = FakeExchange(), FakeQueue().request("a").take()
    job.hold(lease, exchange)
    job.cancel()
    job.client_left()
    assert exchange.aborted == 1
    assert isinstance(job.interrupted, Draining), "the first reason counts"


def test_a_lease_that_is_cut_says_why(job) -> None:
    exchange, lease = FakeExchange(), FakeQueue().request("a").take()
    job.hold(lease, exchange)
    lease.cut(LoadAborted("a was unloaded"))
    assert exchange.aborted == 1
    assert str(job.reason(UpstreamBroke("broke"))) == "a was unloaded"


def test_who_asks_after_the_interruption_is_interrupted_at_once(job) -> None:
    job.client_left()
    exchange = FakeExchange()
    job.ask(exchange)
    assert exchange.aborted == 1


def test_without_an_interruption_an_error_is_its_own_reason(job) -> None:
    error = UpstreamBroke("broke")
    assert job.reason(error) is error


def test_closing_gives_everything_back_once(job) -> None:
    queue, exchange, job.tap = FakeQueue(), FakeExchange(), FakeTap()
    job.hold(queue.request("a").take(), exchange)
    error = ClientGone("the client left")
    job.close(error)
    job.close()
    assert job.call.presence.closed == 1
    assert (exchange.closed, len(queue.returned)) == (1, 1)
    assert job.tap.ends == [(error, True)]
    job.client_left()
    assert exchange.aborted == 0, "what is closed is not interrupted any more"
    assert repr(job) == "<Job r-1 for  closed>"
