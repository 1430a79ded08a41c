CHAT = {"messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


def test_a_path_nobody_answers(sim):
    answer = sim.get("/nope")
    assert answer.status == 404
    assert answer.json["error"]["message"] == "no such path: /nope"


def test_a_method_it_does_not_take(sim):
    assert sim.get(PATH).status == 405


def test_head_has_the_length_and_no_body(sim):
    answer = sim.call("HEAD", "/health")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(sim.get("/health").body))


def test_a_line_per_request_as_sent_but_without_the_query(sim):
    sim.get("/echo/a%0Ab?key=secret")
    assert sim.lines[-1].startswith("GET /echo/a%0Ab 200 ")


def test_a_silent_server_has_no_line_per_request(serve):
    sim = serve(silent=True)
    before = list(sim.lines)
    sim.get("/health")
    assert sim.lines == before


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


def test_it_leaves_after_the_requests_allowed(serve):
    sim = serve(exit_after_requests=2, exit_code=4)
    sim.get("/health")
    sim.post(PATH, CHAT)
    assert sim.left == []
    sim.post(PATH, CHAT)
    assert sim.left == [4]


def test_a_request_that_ends_badly_still_counts_as_ended(sim):
    sim.post(PATH, b"no json")
    assert (sim.state.requests, sim.state.in_flight) == (1, 0)
