"""Routes of the simulator, and what an inference request must pass."""

CHAT = {"messages": [{"role": "user", "content": "a"}]}
PATH = "/v1/chat/completions"
REFUSED = {
    PATH: [b"", {}, {"messages": []}, {"messages": "a"}],
    "/v1/completions": [{}],
    "/v1/responses": [{"model": "m"}],
    "/completion": [{}],
    "/infill": [{}],
    "/v1/embeddings": [{}, {"input": []}, {"input": None}],
    "/rerank": [{"query": "a"}],
    "/v1/audio/speech": [{}],
    "/v1/images/generations": [{}],
    f"{PATH}?sim_status=204": [CHAT],  # no error
    f"{PATH}?sim_encoding=br": [CHAT],
    f"{PATH}?wait=soon": [CHAT],
    **{f"/sleep?level={level}": [None] for level in ("3", "0.5", "deep")},
    "/collective_rpc": [b"", {}, {"method": "other"}],
    "/sim/options": [
        *({"port": 1}, {"nonsense": 1}, {"hang": 1}, {"tokens": "3"}, {"tokens": True}),
        {"hang": True, "tokens": -1},
    ],
}


def test_what_is_no_request_is_refused_and_changes_nothing(sim):
    before = sim.state.options
    for path, body in [(path, body) for path, bodies in REFUSED.items() for body in bodies]:
        answer = sim.post(path, body)
        found = (answer.status, answer.json["error"]["type"])
        assert found == (400, "invalid_request_error"), (path, body)
        assert (sim.state.options, bool(sim.state.asleep)) == (before, False), (path, body)


STATUSES = {
    200: ["GET /", "BREW /echo/", "PUT /echo/a/b", "GET /status/200", "POST /reset_prefix_cache"],
    400: ["GET /redirect", *(f"GET /status/{text}" for text in ("", "x", "100", "1000", "200/x"))],
    404: ["GET /nope", "GET /v1/audio/voices/", "GET /status/404"],
    405: ["PUT /v1/audio/voices", "GET /sleep"],
    426: ["GET /ws"],
    500: ["POST /wake_up_fail"],
    **{status: [f"GET /status/{status}"] for status in (204, 304, 599)},
}


def test_a_status_for_each_request(sim):
    for status, requests in STATUSES.items():
        for asked in requests:
            answer = sim.call(*asked.split())
            assert (answer.status, bool(answer.body)) == (status, status not in {204, 304}), asked


def test_errors_and_delays_can_be_asked_for(sim):
    for path, body in ((f"{PATH}?sim_status=429", CHAT), (PATH, {**CHAT, "sim_status": 429})):
        answer = sim.post(path, body)
        assert answer.status == answer.json["error"]["code"] == 429
    assert sim.post(f"{PATH}?sim_delay=0.001&wait=1ms", CHAT).status == 200


def test_another_model_is_refused_if_told_so(serve):
    sim = serve(strict_model=True, model="own")
    for path, body in (
        (PATH, CHAT),
        ("/v1/embeddings", {"input": "a"}),
        ("/rerank", {"query": "a", "documents": []}),
        ("/v1/audio/speech", {"input": "a"}),
        ("/v1/images/generations", {"prompt": "a"}),
    ):
        assert sim.post(path, {**body, "model": "other"}).status == 404, path
        assert sim.post(path, {**body, "model": "own"}).status == 200, path
