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


def test_an_error_can_be_asked_for(sim):
    for path, body in ((f"{PATH}?sim_status=429", CHAT), (PATH, {**CHAT, "sim_status": 429})):
        answer = sim.post(path, body)
        assert answer.status == answer.json["error"]["code"] == 429
    assert sim.post(f"{PATH}?sim_status=204", CHAT).status == 400, "only an error"


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        (PATH, [b"", {}, {"messages": []}, {"messages": "a"}]),
        ("/v1/completions", [{}]),
        ("/v1/responses", [{"model": "m"}]),
        ("/completion", [{}]),
        ("/infill", [{}]),
        ("/v1/embeddings", [{}, {"input": []}, {"input": None}]),
        ("/rerank", [{"query": "a"}]),
        ("/v1/audio/speech", [{}]),
        ("/v1/images/generations", [{}]),
    ],
)
def test_a_request_without_an_input_is_refused(sim, path, bodies):
    for body in bodies:
        answer = sim.post(path, body)
        assert answer.status == 400
        assert answer.json["error"]["type"] == "invalid_request_error"


def test_a_delay_can_be_asked_for_in_either_spelling(sim):
    assert sim.post(f"{PATH}?sim_delay=0.001&wait=1ms", CHAT).status == 200
    assert sim.post(f"{PATH}?wait=soon", CHAT).status == 400


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
