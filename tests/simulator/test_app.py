"""Connections of the simulator, and its log."""

PATH = "/v1/chat/completions"


def test_an_unknown_path_is_named(sim):
    answer = sim.get("/nope")
    assert (answer.status, answer.json["error"]["message"]) == (404, "no such path: /nope")


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
