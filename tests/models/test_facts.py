"""What is known of models: what servers report, what is remembered, what commands say."""

import json
from pathlib import Path
from typing import Any

import gevent
import pytest

from llmsnap.config import Capabilities
from llmsnap.models.control import parse_address
from llmsnap.models.facts import FILE, Context, KnownFacts, context_of_command
from llmsnap.statedir import StateDir
from tests.config.reading import model
from tests.fakes.upstream import FakeUpstream

PROPS = {
    "default_generation_settings": {"n_ctx": 8192},
    "modalities": {"vision": True, "audio": False},
    "chat_template": "{{ \ud800 }}",
}


def serve(upstream: FakeUpstream, **documents: Any) -> None:
    """Have the server answer /props and /v1/models with *documents*."""

    def answer(environ, start_response):
        name = environ["PATH_INFO"].rpartition("/")[2]
        body = documents.get(name)
        start_response("200 OK" if body is not None else "404 -", [])
        return [body if isinstance(body, bytes) else json.dumps(body).encode()]

    upstream.handler = answer
    upstream.start()


@pytest.fixture
def facts(tmp_path: Path):
    made = KnownFacts(StateDir(tmp_path))
    yield made
    made.close()


def loaded(facts: KnownFacts, upstream: FakeUpstream, text: str = "") -> Context | None:
    """The context that is known once the server of a model has been queried."""
    asked = model(text)
    facts.ask(asked, parse_address(upstream.url))
    gevent.joinall(list(facts._tasks._group))
    return facts.context(asked, is_loaded=True)


@pytest.mark.parametrize(
    ("listed", "queries"),
    [
        ({"props": PROPS}, ["GET /props"]),
        ({"models": {"data": [{"max_model_len": 8192}]}}, ["GET /props", "GET /v1/models"]),
        ({"models": {"data": [{"context_length": 8192}]}}, ["GET /props", "GET /v1/models"]),
        ({"models": {"data": [{"meta": {"n_ctx": 8192}}]}}, ["GET /props", "GET /v1/models"]),
    ],
)
def test_a_server_reports_its_context(facts, upstream, listed: dict, queries: list[str]) -> None:
    serve(upstream, **listed)
    assert loaded(facts, upstream) == Context(8192, "server")
    assert upstream.calls == queries


@pytest.mark.parametrize(
    "document",
    [b"not JSON", [], {}, {"data": []}, {"data": [{}]}, {"data": [{"max_model_len": "many"}]}, 7],
)
def test_what_makes_no_sense_is_no_answer(facts, upstream, document: Any) -> None:
    serve(upstream, props=document, models=document)
    assert loaded(facts, upstream) is None
    assert facts.properties(model("")) is None


def test_a_dead_server_is_no_error(facts, upstream) -> None:
    upstream.start()
    url = upstream.url
    upstream.stop()
    facts.ask(model(""), parse_address(url))
    gevent.joinall(list(facts._tasks._group))
    assert facts.context(model(""), is_loaded=True) is None


def test_a_later_run_remembers_what_a_definition_reported(facts, upstream, tmp_path: Path) -> None:
    serve(upstream, props=PROPS)
    loaded(facts, upstream, "cmd: one ${PORT}")
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    again = KnownFacts(StateDir(tmp_path))
    again.open()
    same, other = model("cmd: one ${PORT}"), model("cmd: two ${PORT}")
    assert again.context(same, is_loaded=False) == Context(8192, "remembered")
    assert again.capabilities(same) == Capabilities(inputs=("text", "image"), outputs=("text",))
    assert again.properties(same) == {**PROPS, "loaded": False}
    assert again.context(other, is_loaded=False) is None
    assert not again.capabilities(other)


def test_large_properties_are_not_remembered(facts, upstream, monkeypatch) -> None:
    monkeypatch.setattr("llmsnap.models.facts.MOST_PROPERTIES_BYTES", 20)
    serve(upstream, props=PROPS)
    loaded(facts, upstream, "cmd: c ${PORT}")
    last = model("cmd: c ${PORT}")
    assert "chat_template" not in facts.properties(last)
    assert facts.context(last, is_loaded=False) == Context(8192, "remembered")


def test_the_configuration_wins_and_is_checked_at_each_load(facts, upstream, caplog) -> None:
    serve(upstream, props=PROPS)
    small, large = "capabilities: {context: 4096}", "capabilities: {context: 9000, in: [audio]}"
    assert loaded(facts, upstream, small) == Context(4096, "configured")
    assert not caplog.records
    for _ in range(2):
        assert loaded(facts, upstream, large) == Context(9000, "configured")
    assert ["context is 9000" in record.getMessage() for record in caplog.records] == [True, True]
    assert facts.capabilities(model(large)).inputs == ("audio",)


@pytest.mark.parametrize(
    ("command", "tokens"),
    [
        ("llama-server -c 4096", 4096),
        ("llama-server --ctx-size=4096", 4096),
        ("llama-server -c 512 -c 4096", 4096),
        ("llama-server -c 0", None),
        ("llama-server -c", None),
        ("llama-server -c 4096 -np 4", 1024),
        ("llama-server -c 4096 --parallel 4 --kv-unified", 4096),
        ("vllm serve m --max-model-len 25.6k", 25600),
        ("vllm serve m --max-model-len auto", None),
        ("python -m sglang.launch_server --context-length 8192", 8192),
        ("bash -c 'exec llama-server -c 4096'", 4096),
    ],
)
def test_a_command_names_the_context(command: str, tokens: int | None) -> None:
    assert context_of_command(command) == tokens


def test_what_was_never_loaded_is_described_by_its_command(facts) -> None:
    described = model("""\
        cmd: s --ctx-size ${n} ${PORT}
        macros: {n: 2048}
    """)
    assert facts.context(described, is_loaded=False) == Context(2048, "command")
    assert facts.properties(described) == {
        "default_generation_settings": {"params": {}, "n_ctx": 2048},
        "model_alias": "m",
        "modalities": {"vision": False, "audio": False},
        "loaded": False,
    }
