import gevent
import pytest

from llmsnap.errors import ClientGone, Draining
from llmsnap.routing.leases import Lease, Ticket
from llmsnap.tasks import TaskGroup


class Book:
    def __init__(self) -> None:
        self.returned: list[Lease] = []
        self.cancelled: list[Ticket] = []

    def ticket(self) -> Ticket:
        return Ticket(7, "m", self.cancelled.append)

    def lease(self) -> Lease:
        return Lease(7, "m", self.returned.append)


@pytest.fixture
def book() -> Book:
    return Book()


def test_a_lease_is_given_back_once(book: Book) -> None:
    lease = book.lease()
    lease.close()
    lease.close()
    assert book.returned == [lease]
    assert repr(lease) == "<Lease 7 on m closed>"


def test_a_cut_tells_why_and_wakes_the_holder(book: Book) -> None:
    lease = book.lease()
    lease.cut(Draining("early"))
    assert str(lease.cut_error) == "early", "remembered for who begins to hold it later"
    cuts: list[object] = []
    lease.on_cut = lambda: cuts.append(lease.cut_error)
    error = Draining("now")
    lease.cut(error)
    assert cuts == [error]


def test_whoever_waits_for_a_ticket_is_woken(book: Book) -> None:
    ticket, tasks = book.ticket(), TaskGroup("test")
    waiting = tasks.spawn("wait", ticket.wait)
    gevent.idle()
    assert not ticket.wait(0.001)
    lease = book.lease()
    ticket.settle(lease)
    waiting.join()
    assert waiting.value is True
    assert ticket.take() is lease


def test_a_refused_ticket_raises_why(book: Book) -> None:
    ticket = book.ticket()
    ticket.settle(Draining("no"))
    assert ticket.is_settled
    with pytest.raises(Draining, match="no"):
        ticket.take()


def test_a_ticket_that_waits_cannot_be_taken(book: Book) -> None:
    with pytest.raises(RuntimeError, match="waiting> is not settled"):
        book.ticket().take()


def test_cancelling_a_waiting_ticket_says_so_once(book: Book) -> None:
    ticket = book.ticket()
    ticket.cancel()
    ticket.cancel()
    assert book.cancelled == [ticket]
    with pytest.raises(ClientGone):
        ticket.take()


def test_cancelling_a_granted_ticket_gives_its_lease_back(book: Book) -> None:
    ticket, lease = book.ticket(), book.lease()
    ticket.settle(lease)
    ticket.cancel()
    assert book.returned == [lease]
    assert book.cancelled == []


def test_cancelling_a_ticket_whose_lease_was_taken_changes_nothing(book: Book) -> None:
    ticket, lease = book.ticket(), book.lease()
    ticket.settle(lease)
    assert ticket.take() is lease
    ticket.cancel()
    assert (book.returned, book.cancelled) == ([], [])
