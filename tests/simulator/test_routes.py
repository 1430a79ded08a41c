"""Routes of the simulator, and what an inference request must pass."""

from __future__ import annotations

import pytest

from llmsnap.simulator.exchange import Refusal, json_response
from llmsnap.simulator.routes import ANY, GET, Route, Routes


def answer(state, request):
    return json_response({})


ROUTES = Routes(
    [
        Route("/", answer, GET),
        Route("/echo/", answer, ANY),
        Route("/v1/voices", answer, ("GET",)),
        Route("/v1/voices", answer, inference=True),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/", "/"),
        ("HEAD", "/", "/"),
        ("BREW", "/echo/", "/echo/"),
        ("PUT", "/echo/a/b", "/echo/"),
        ("GET", "/v1/voices", "/v1/voices"),
    ],
)
def test_found(method, path, found):
    assert ROUTES.find(method, path).path == found


def test_one_path_can_have_a_route_per_method():
    assert not ROUTES.find("GET", "/v1/voices").inference
    assert ROUTES.find("POST", "/v1/voices").inference


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/nope/", 404),
        ("GET", "", 404),
        ("GET", "/v1/voices/", 404),
        ("POST", "/", 405),
        ("PUT", "/v1/voices", 405),
    ],
)
def test_refused(method, path, status):
    with pytest.raises(Refusal) as refused:
        ROUTES.find(method, path)
    assert refused.value.status == status


CHAT = {"messages": [{"role": "user", "content": "a"}]}
PATH = "/v1/chat/completions"


def test_until_the_model_is_loaded_inference_is_refused(sim):
    sim.state.loaded.clear()
    answer = sim.post(PATH, CHAT)
    assert answer.status == 503
    assert answer.json["error"]["message"] == "Loading model"


def test_while_the_model_is_asleep_inference_is_refused(sim):
    sim.post("/sleep")
    assert sim.post(PATH, CHAT).status == 503
    assert sim.get("/health").status == 200


@pytest.mark.parametrize("where", ["body", "query"])
def test_an_error_can_be_asked_for(sim, where):
    asked = sim.post(f"{PATH}?sim_status=429", CHAT) if where == "query" else None
    answer = asked or sim.post(PATH, {**CHAT, "sim_status": 429})
    assert answer.status == answer.json["error"]["code"] == 429


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


def test_only_errors_can_be_asked_for(sim):
    assert sim.post(f"{PATH}?sim_status=204", CHAT).status == 400


def test_a_delay_can_be_asked_for_in_either_spelling(sim):
    assert sim.post(f"{PATH}?sim_delay=0.001&wait=1ms", CHAT).status == 200
    assert sim.post(f"{PATH}?wait=soon", CHAT).status == 400


def test_a_hanging_server_holds_the_request_until_its_client_leaves(serve):
    sim = serve(hang=True)
    connection = sim.begin(PATH)
    assert sim.state.in_flight == 1
    connection.close()
    assert sim.line_with("client gone").startswith(f"POST {PATH} 499")
    assert (sim.state.in_flight, sim.state.gone) == (0, 1)


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
