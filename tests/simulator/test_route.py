import pytest

from llmsnap.simulator.exchange import Refusal, json_response
from llmsnap.simulator.route import ANY, GET, Route, Routes


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
