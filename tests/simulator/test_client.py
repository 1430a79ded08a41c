import gevent
import pytest
from gevent import socket

from llmsnap.simulator.client import Client, ClientGone


@pytest.fixture
def ends():
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


def test_a_wait_ends_when_its_time_is_over(ends):
    Client(ends[0]).wait(0.001)
    Client(ends[0]).wait(0)


def test_a_long_wait_ends_when_the_client_leaves(ends):
    near, far = ends
    waiting = gevent.Greenlet(Client(near).wait, 3600)
    waiting.link_exception(lambda _: None)
    waiting.start()
    gevent.idle()
    far.close()
    with pytest.raises(ClientGone):
        waiting.get()


def test_a_client_that_left_before_is_noticed_too(ends):
    ends[1].close()
    with pytest.raises(ClientGone):
        Client(ends[0]).wait_forever()


def test_a_next_request_on_the_connection_is_not_a_departure(ends):
    near, far = ends
    far.sendall(b"GET / HTTP/1.1")
    Client(near).wait(0.001)
    assert near.recv(3) == b"GET"


def test_hanging_up_ends_the_connection_for_the_client(ends):
    near, far = ends
    Client(near).hang_up()
    assert far.recv(1) == b""


def test_hanging_up_twice_does_no_harm(ends):
    ends[1].close()
    client = Client(ends[0])
    client.hang_up()
    client.hang_up()
