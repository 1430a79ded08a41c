"""Routes of the simulator, and what an inference request must pass."""

from __future__ import annotations

import pytest

from llmsnap.simulator.exchange import Refusal, json_response
from llmsnap.simulator.routes import ANY, GET, Route, Routes


def answer(state, request):
    return json_response({})


ROOT, ECHO = Route("/", answer, GET), Route("/echo/", answer, ANY)
VOICES, SPEAK = Route("/voices", answer, ("GET",)), Route("/voices", answer, inference=True)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/", ROOT),
        ("HEAD", "/", ROOT),
        ("BREW", "/echo/", ECHO),
        ("PUT", "/echo/a/b", ECHO),
        ("GET", "/voices", VOICES),
        ("POST", "/voices", SPEAK),
        ("GET", "/nope", 404),
        ("GET", "", 404),
        ("GET", "/voices/", 404),
        ("POST", "/", 405),
        ("PUT", "/voices", 405),
    ],
)
def test_a_route_is_found_by_method_and_path(method, path, found):
    routes = Routes([ROOT, ECHO, VOICES, SPEAK])
    if isinstance(found, Route):
        assert routes.find(method, path) is found
        return
    with pytest.raises(Refusal) as refused:
        routes.find(method, path)
    assert refused.value.status == found


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


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_no_request_is_refused_and_changes_nothing(sim, path):
    before = sim.state.options
    for body in REFUSED[path]:
        answer = sim.post(path, body)
        assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert (sim.state.options, bool(sim.state.asleep)) == (before, False)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("GET /nope", 404),
        ("GET /ws", 426),
        ("GET /sleep", 405),
        ("POST /reset_prefix_cache", 200),
        ("POST /wake_up_fail", 500),
        ("GET /redirect", 400),
        *((f"GET /status/{code}", code) for code in (200, 204, 304, 404, 599)),
        *((f"GET /status/{text}", 400) for text in ("", "x", "100", "1000", "200/x")),
    ],
)
def test_a_status_for_each_request(sim, asked, status):
    answer = sim.call(*asked.split())
    assert (answer.status, bool(answer.body)) == (status, status not in {204, 304})


def test_errors_and_delays_can_be_asked_for(sim):
    for path, body in ((f"{PATH}?sim_status=429", CHAT), (PATH, {**CHAT, "sim_status": 429})):
        answer = sim.post(path, body)
        assert answer.status == answer.json["error"]["code"] == 429
    assert sim.post(f"{PATH}?sim_delay=0.001&wait=1ms", CHAT).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, CHAT),
        ("/v1/embeddings", {"input": "a"}),
        ("/rerank", {"query": "a", "documents": []}),
        ("/v1/audio/speech", {"input": "a"}),
        ("/v1/images/generations", {"prompt": "a"}),
    ],
)
def test_another_model_is_refused_if_told_so(serve, path, body):
    sim = serve(strict_model=True, model="own")
    assert sim.post(path, {**body, "model": "other"}).status == 404
    assert sim.post(path, {**body, "model": "own"}).status == 200
