import pytest

from llmsnap.config.settings import Filters, PeerConfig, Timeouts
from tests.config.reading import advice, config, problem, problems


def test_a_peer_is_read_with_its_defaults() -> None:
    found = config("peers: {box: {proxy: 'http://192.168.1.23:8080/api', models: [a, b, a]}}").peers
    assert found == {
        "box": PeerConfig(
            id="box",
            proxy="http://192.168.1.23:8080/api",
            models=("a", "b"),
            timeouts=Timeouts(connect_s=10, response_header_s=600, idle_s=0),
        )
    }


def test_global_macros_work_in_peers_and_keep_their_type() -> None:
    found = config("""
        macros: {MAX: 512, H: host, K: s3cret}
        peers:
          p:
            proxy: http://${H}/v1
            models: ["${H}-model"]
            apiKey: ${K}
            timeouts: {connect: "${MAX}"}
            filters: {stripParams: "a, ${H}", setParams: {max_tokens: "${MAX}", t: "<${MAX}>"}}
    """).peers["p"]
    assert (found.proxy, found.models, found.api_key) == (
        "http://host/v1",
        ("host-model",),
        "s3cret",
    )
    assert found.timeouts.connect_s == 512
    assert found.filters == Filters(("a", "host"), {"max_tokens": 512, "t": "<512>"})


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        ("{models: [a]}", "peers.p.proxy: proxy is required"),
        ("{proxy: '', models: [a]}", "peers.p.proxy: proxy is required"),
        ("{proxy: '://invalid', models: [a]}", "peers.p.proxy: invalid peer proxy URL: ://invalid"),
        ("{proxy: 'http://h'}", "peers.p.models: peer models can not be empty"),
        ("{proxy: 'http://h', models: []}", "peers.p.models: peer models can not be empty"),
        (
            "{proxy: 'http://h', models: [a], apiKey: '${no}'}",
            "peers.p.apiKey: unknown macro ${no}",
        ),
        (
            "{proxy: 'http://h', models: [a], filters: {stripParams: '${no}'}}",
            "peers.p.filters.stripParams: unknown macro ${no}",
        ),
        (
            "{proxy: 'http://h', models: [a], filters: {setParams: {x: ['${no}']}}}",
            "peers.p.filters.setParams.x[0]: unknown macro ${no}",
        ),
        ("{proxy: 'http://h:${PORT}', models: [a]}", "peers.p.proxy: ${PORT} should have been"),
        ("{proxy: 'http://h', models: [a], apiKey: '${MODEL_ID}'}", "but this is no model"),
    ],
)
def test_faulty_peers_are_named(peer: str, words: str) -> None:
    assert words in problem(f"peers: {{p: {peer}}}")


def test_a_peer_that_is_nothing_lacks_everything() -> None:
    assert len(problems("peers: {p: }")) == 2
    assert problem("peers: [p]").startswith("peers: must be a mapping")


def test_the_legacy_spelling_is_not_known_here() -> None:
    text = "peers: {p: {proxy: 'http://h', models: [a], filters: {strip_params: a}}}"
    assert config(text).peers["p"].filters == Filters()
    assert 'did you mean "stripParams"' in advice(text)[0]


def test_a_model_of_two_peers_is_advised_about() -> None:
    text = "peers: {b: &p {proxy: 'http://h', models: [x]}, a: *p}"
    assert list(config(text).peers) == ["a", "b"]
    assert 'model "x" is offered by peer "a" too' in advice(text)[0]
