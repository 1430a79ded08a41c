import json
from typing import Any

import gevent
import pytest

from llmsnap.models.context import ContextLengths
from llmsnap.models.control import parse_address
from tests.fakes.upstream import FakeUpstream


@pytest.fixture
def contexts():
    made = ContextLengths()
    yield made
    made.close()


def told(upstream: FakeUpstream, **documents: Any) -> None:
    """Have the server answer /props and /v1/models with *documents*."""

    def answer(environ, start_response):
        name = environ["PATH_INFO"].rpartition("/")[2]
        body = documents.get(name)
        start_response("200 OK" if body is not None else "404 -", [])
        return [body if isinstance(body, bytes) else json.dumps(body).encode()]

    upstream.handler = answer
    upstream.start()


def learn(contexts: ContextLengths, upstream: FakeUpstream, model_id: str = "m") -> int | None:
    contexts.ask(model_id, parse_address(upstream.url))
    gevent.joinall(list(contexts._tasks._group))
    return contexts.get(model_id)


def test_llama_server_tells_it_in_its_properties(contexts, upstream) -> None:
    told(upstream, props={"default_generation_settings": {"n_ctx": 8192}})
    assert learn(contexts, upstream) == 8192
    assert upstream.calls == ["GET /props"]


@pytest.mark.parametrize(
    "model", [{"max_model_len": 32768}, {"context_length": 32768}, {"meta": {"n_ctx": 32768}}]
)
def test_others_tell_it_in_their_list_of_models(contexts, upstream, model: dict) -> None:
    told(upstream, models={"data": [model]})
    assert learn(contexts, upstream) == 32768
    assert upstream.calls == ["GET /props", "GET /v1/models"]


@pytest.mark.parametrize(
    "document",
    [b"not JSON", [], {}, {"data": []}, {"data": [{}]}, {"data": [{"max_model_len": "many"}]}, 7],
)
def test_what_makes_no_sense_is_no_answer(contexts, upstream, document: Any) -> None:
    told(upstream, props=document, models=document)
    assert learn(contexts, upstream) is None


def test_asking_holds_nobody_up_and_a_dead_server_is_no_error(contexts, upstream) -> None:
    url = upstream.url
    upstream.stop()
    contexts.ask("m", parse_address(url))
    assert contexts.get("m") is None
    gevent.joinall(list(contexts._tasks._group))
    assert contexts.get("m") is None


def test_it_is_known_until_the_model_is_removed(contexts, upstream) -> None:
    told(upstream, props={"default_generation_settings": {"n_ctx": 1}})
    learn(contexts, upstream)
    upstream.handler = None
    assert learn(contexts, upstream) == 1, "an answer of another kind takes nothing back"
    contexts.forget("m")
    assert contexts.get("m") is None
