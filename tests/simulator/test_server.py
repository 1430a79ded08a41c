"""The simulator as a server and as a command."""

import errno

import gevent
import pytest
from gevent import socket

from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.server import SimServer

PATH = "/v1/chat/completions"


def server(**options):
    return SimServer(SimOptions(**options), lambda line: None, lambda code: None)


def test_it_says_where_it_listens_and_its_connections_do_not_wait_to_fill_packets(sim):
    assert f"listening on http://127.0.0.1:{sim.server.port}" in sim.lines
    listener = sim.server._wsgi.socket  # what it accepts inherits this from what it listens on
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_the_port_opens_once_it_is_loaded():
    sim = server(port=0, load_time=3600)
    opening = gevent.Greenlet(sim.open)
    opening.start()
    gevent.idle()
    assert not sim.state.loaded.is_set()
    assert sim.port == 0
    opening.kill()
    sim.close()


@pytest.mark.parametrize(
    "options",
    [{"load_time": 3600}, {"never_healthy": True}, {"never_healthy": True, "load_mode": "closed"}],
)
def test_the_port_may_be_open_before(serve, options):
    sim = serve(**{"load_mode": "503", **options})
    assert sim.get("/health").status == 503


def test_a_short_load_ends(serve):
    sim = serve(load_time=0.001, load_mode="503")
    sim.state.loaded.wait()
    assert sim.get("/health").status == 200


def test_a_port_in_use_is_an_error(sim):
    with pytest.raises(OSError, match="in use") as refused:
        server(port=sim.server.port).open()
    assert refused.value.errno == errno.EADDRINUSE


def test_closing_drops_what_is_open_and_may_happen_twice(serve):
    sim = serve(hang=True)
    connection = sim.begin(PATH)
    sim.server.close()
    sim.server.close()
    with pytest.raises(OSError, match="refused"):
        sim.get("/health")
    connection.close()


def test_head_has_the_length_and_no_body(sim):
    answer = sim.call("HEAD", "/health")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(sim.get("/health").body))


def test_a_line_per_request_as_sent_but_without_the_query_unless_it_is_silent(sim, serve):
    sim.get("/echo/a%0Ab?key=secret")
    assert sim.lines[-1].startswith("GET /echo/a%0Ab 200 ")
    silent = serve(silent=True)
    before = list(silent.lines)
    silent.get("/health")
    assert silent.lines == before


def test_one_connection_carries_many_requests(sim):
    connection = sim.connect()
    for _ in range(3):
        connection.request("GET", "/slow-respond?delay=0")
        assert len(connection.getresponse().read()) == 62
    connection.close()


def test_a_client_that_leaves_a_stream_is_counted(sim):
    connection = sim.connect()
    connection.request("POST", f"{PATH}?stream=1&sim_tps=0.001", b'{"messages": [{}]}')
    response = connection.getresponse()
    response.readline()
    assert sim.state.in_flight == 1
    response.close()
    connection.close()
    assert sim.line_with(PATH).endswith("client gone")
    assert (sim.state.in_flight, sim.state.gone) == (0, 1)
