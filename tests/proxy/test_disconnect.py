import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.proxy.disconnect import ClientMonitor, EpollWatch, PeekWatch, new_watch


@pytest.fixture(params=[EpollWatch, PeekWatch, new_watch])
def watch(request):
    made = request.param()
    yield made
    made.close()


@pytest.mark.parametrize("leave", [socket.socket.close, lambda sock: sock.shutdown(1)])
def test_a_close_or_half_close_is_delivered_at_once(watch, pair, leave) -> None:
    ours, theirs = pair
    gone = Event()
    watch.add(ours.fileno(), gone.set)
    leave(theirs)
    assert gone.wait(2)


def test_bytes_of_a_next_request_are_not_a_close_and_stay_unread(watch, pair) -> None:
    ours, theirs = pair
    gone = Event()
    watch.add(ours.fileno(), gone.set)
    theirs.sendall(b"GET /next")
    gevent.idle()
    gevent.idle()
    assert not gone.is_set()
    assert ours.recv(100) == b"GET /next"


def test_after_remove_nothing_is_delivered(watch, pair) -> None:
    ours, theirs = pair
    gone = Event()
    watch.add(ours.fileno(), gone.set)
    watch.remove(ours.fileno())
    watch.remove(ours.fileno())
    theirs.close()
    gevent.idle()
    gevent.idle()
    assert not gone.is_set()


def test_a_descriptor_used_again_is_watched_again(pair) -> None:
    watch = EpollWatch()
    ours, theirs = pair
    watch.add(ours.fileno(), lambda: None)
    ours.close()
    again, other = socket.socketpair()
    gone = Event()
    with again, other:
        watch.add(again.fileno(), gone.set)
        other.close()
        assert gone.wait(2)
    watch.close()
    theirs.close()


# --- one client ---------------------------------------------------------------------------------


def test_a_client_that_leaves_is_noted_and_told(watch, pair) -> None:
    ours, theirs = pair
    monitor, gone = ClientMonitor(watch, ours.fileno()), Event()
    monitor.open(gone.set)
    assert not monitor.gone
    theirs.close()
    assert gone.wait(2)
    assert monitor.gone
    assert repr(monitor).endswith("gone>")


def test_after_close_nothing_is_delivered(watch, pair) -> None:
    ours, theirs = pair
    monitor, gone = ClientMonitor(watch, ours.fileno()), Event()
    monitor.open(gone.set)
    monitor.close()
    monitor.close()
    theirs.close()
    gevent.idle()
    gevent.idle()
    assert not gone.is_set()
    assert not monitor.gone


def test_without_a_socket_nobody_is_seen_leaving(watch) -> None:
    for monitor in (ClientMonitor(watch), ClientMonitor(None, 3)):
        monitor.open(lambda: pytest.fail("the client is there"))
        monitor.close()
        assert not monitor.gone
