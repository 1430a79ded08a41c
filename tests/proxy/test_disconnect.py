import gevent
import pytest
from gevent import socket
from gevent.event import Event

from llmsnap.proxy.disconnect import ClientMonitor, EpollWatch, PeekWatch, new_watch
from llmsnap.server.connection import ConnectionReader, DisconnectWatcher

OF_CONNECTION = "of a connection"


@pytest.fixture(params=[EpollWatch, PeekWatch, new_watch, OF_CONNECTION])
def watch(request, pair):
    if request.param == OF_CONNECTION:
        made = DisconnectWatcher(pair[0], ConnectionReader(pair[0]), EpollWatch())
    else:
        made = request.param()
    yield made
    made.close()


@pytest.mark.parametrize("leave", [socket.socket.close, lambda sock: sock.shutdown(1)])
@pytest.mark.parametrize("before", [False, True])
def test_a_close_or_half_close_is_delivered_at_once(watch, pair, leave, before: bool) -> None:
    ours, theirs = pair
    gone = Event()
    if before:
        leave(theirs)
    watch.add(ours.fileno(), gone.set)
    if not before:
        leave(theirs)
    assert gone.wait(4)


def test_bytes_of_a_next_request_are_no_close_nor_is_one_after_remove(watch, pair) -> None:
    ours, theirs = pair
    gone = Event()
    watch.add(ours.fileno(), gone.set)
    theirs.sendall(b"GET /next")
    gevent.idle()
    gevent.idle()
    assert ours.recv(100) == b"GET /next"
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


def test_a_client_that_leaves_is_noted_and_told(watch, pair) -> None:
    ours, theirs = pair
    monitor, gone = ClientMonitor(watch, ours.fileno()), Event()
    monitor.open(gone.set)
    assert not monitor.gone
    theirs.close()
    assert gone.wait(2)
    assert monitor.gone


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
        monitor.open(int)
        monitor.close()
        assert not monitor.gone
