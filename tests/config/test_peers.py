"""Peers and filters."""

from llmsnap.config import Filters, PeerConfig, Timeouts
from tests.config.reading import advice, config, excerpt, model, problem, problems
from tests.parity import parity


def test_a_peer_is_read_with_its_defaults() -> None:
    text = "peers: {box: {proxy: 'http://192.168.1.23:8080/api', models: [a, b, a]}}"
    limits = Timeouts(connect_s=10, response_header_s=600, idle_s=0)
    peer = PeerConfig(
        id="box", proxy="http://192.168.1.23:8080/api", models=("a", "b"), timeouts=limits
    )
    assert config(text).peers == {"box": peer}


@parity("Peers", "global macros in peers")
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
    assert (found.proxy, found.models) == ("http://host/v1", ("host-model",))
    assert (found.api_key, found.timeouts.connect_s) == ("s3cret", 512)
    assert found.filters == Filters(("a", "host"), {"max_tokens": 512, "t": "<512>"})


def test_parameters_by_name_of_a_peer_have_literal_names() -> None:
    text = """
        macros: {M: a, V: 5}
        peers:
          p:
            proxy: http://h
            models: [a]
            filters: {setParamsByID: {a: {n: "${V}"}, p/a: {}, "${M}": {}, p/aa: {}}}
    """
    assert dict(config(text).peers["p"].filters.set_params_by_id["a"]) == {"n": 5}
    assert config(text).aliases == {}
    assert advice(text) == [
        'peers.p.filters.setParamsByID.${M}: "${M}" is no model of this peer - name one of its '
        "models",
        'peers.p.filters.setParamsByID.p/aa: "p/aa" is no model of this peer - did you mean "p/a"?',
    ]


MISTAKES = {
        "models: {p/a: {cmd: 's ${PORT}'}}\npeers: {p: {%s}}": 'p.models: "p/a", the name of it',
        "models: {m: {cmd: 's ${PORT}', aliases: [p/a]}}\npeers: {p: {%s}}": 'p.models: "p/a", ',
        "peers: {a: {proxy: 'http://h', models: [b/c]}, a/b: {proxy: 'http://h', models: [c]}}":
         'a/b.models: "a/b/c", the name of its model "c", is one of peer "a" - rename',
        "peers: {p: {models: [a]}}": "p.proxy: proxy is required",
        "peers: {p: {proxy: '://invalid', models: [a]}}": "p.proxy: invalid peer proxy URL: ://in",
        "peers: {p: {proxy: 'http://h'}}": "p.models: peer models can not be empty",
        "peers: {p: {%s, apiKey: '${no}'}}": "p.apiKey: unknown macro ${no}",
        "peers: {p: {%s, filters: {setParams: {x: ['${no}']}}}}": "p.filters.setParams.x[0]: unk",
        "peers: {p: {proxy: 'http://h:${PORT}', models: [a]}}": "p.proxy: ${PORT} should have be",
        "peers: {p: {%s, apiKey: '${MODEL_ID}'}}": "p.apiKey: ${MODEL_ID} ",
    }  # fmt: skip


@parity(
    "Peers",
    "a `<peer>/<model>` that is a model, an alias or a selector here, or of another peer: refused",
    "the same; the message has line, column and what to do",
)
def test_mistakes() -> None:
    peer = "proxy: 'http://h', models: [a]"
    for text, words in MISTAKES.items():
        assert problem(text.replace("%s", peer)).startswith(f"peers.{words}")
    assert len(problems("peers: {p: }")) == 2
    assert problem("peers: [p]").startswith("peers: must be a mapping")


def test_the_legacy_spelling_is_not_known_here_and_a_model_of_two_peers_is_advised_about() -> None:
    text = "peers: {b: &p {proxy: 'http://h', models: [x], filters: {strip_params: a}}, a: *p}"
    peers = config(text).peers
    assert (list(peers), peers["b"].filters) == (["a", "b"], Filters())
    said = advice(text)
    assert any('did you mean "stripParams"' in each for each in said)
    assert any('model "x" is offered by peer "a" too' in each for each in said)


STRIPPED = {
    "model, top_k, top_k, temperature, ${more}, , ,": ("temperature", "top_k", "top_p"),
    "model": (),
    " a.b , a\\.b, a\\*": ("a.b", "a\\*", "a\\.b"),
}


def test_strip_params_are_cleaned_and_sorted() -> None:
    for key in ("stripParams", "strip_params"):
        keys = "macros: {more: 'temperature, top_p'}\nfilters: {%s: '%s'}"
        found = {text: model(keys % (key, text)).filters.strip_params for text in STRIPPED}
        assert found == STRIPPED, key


def test_the_older_spelling_counts_only_without_the_newer() -> None:
    for text, names in (("stripParams: a", ("a",)), ("stripParams: ''", ("b",))):
        filters = model(f"filters: {{{text}, strip_params: b}}").filters
        assert filters.strip_params == names
    found = problem("models: {m: {cmd: 's ${PORT}', filters: {strip_params: [a]}}}")
    assert found.startswith("models.m.filters.strip_params: must be a text")
    params = model("filters: {setParams: {z: 1, model: x, a: {model: kept}}}").filters.set_params
    assert list(params.items()) == [("a", {"model": "kept"}), ("z", 1)], "model is left alone"


NO_FILTERS = {
    "model.x": "would change the model's name",
    "mod\\\\el.x": "would change the model's name",
    "a*": "contains one of",
    "a\\\\\\\\|b": "contains one of",
}


def test_names_that_cannot_be_filtered_are_left_out_with_advice() -> None:
    for name, words in NO_FILTERS.items():
        text = 'models: {m: {cmd: "s ${PORT}", filters: {stripParams: "%s", setParams: {"%s": 1}}}}'
        text = text.replace("%s", name)
        assert config(text).models["m"].filters == Filters()
        assert [excerpt(each, words) for each in advice(text)] == [words, words]


DEFAULTS = [
    ("{t?: 1, a.b?: 2}", ["a.b?", "t?"], []),
    ("{t?: 1, t: 2, model?: x}", ["t"], ['"t?" is set without the ? as well, by t']),
    ("{model.x?: 1}", [], ["would change the model's name"]),
    ("{'?': 1}", [], ["names no parameter"]),
    ("{a?b?: 1}", [], ["contains one of"]),
]


def test_a_name_with_a_question_mark_is_a_default() -> None:
    for names, kept, words in DEFAULTS:
        text = f"models: {{m: {{cmd: 's ${{PORT}}', filters: {{setParams: {names}}}}}}}"
        assert list(config(text).models["m"].filters.set_params) == kept
        found = zip(words, advice(text), strict=True)
        assert [excerpt(each, word) for word, each in found] == words


@parity("`setParamsByID`", "its keys are expanded and become aliases")
def test_parameters_by_name_make_the_names_aliases() -> None:
    found = config("""
        models:
          m:
            cmd: s ${PORT}
            aliases: [known]
            filters:
              setParamsByID:
                ${MODEL_ID}: {effort: medium, model: x}
                ${MODEL_ID}:high: {effort: high}
                known: {effort: low}
    """)
    efforts = {"m": "medium", "m:high": "high", "known": "low"}
    by_id = {name: {"effort": effort} for name, effort in efforts.items()}
    assert found.models["m"].filters.set_params_by_id == by_id
    assert found.aliases == {"known": "m", "m:high": "m"}
    for wrong in ("[a]", "{a: 5}", "{a: [1]}"):
        text = f"models: {{m: {{cmd: 's ${{PORT}}', filters: {{setParamsByID: {wrong}}}}}}}"
        assert "must be a mapping" in problem(text)


def test_a_name_that_belongs_to_another_model_is_advised_about() -> None:
    text = """
        models:
          a: {cmd: "s ${PORT}", aliases: [x]}
          b: {cmd: "s ${PORT}", filters: {setParamsByID: {a: {n: 1}, x: {n: 1}}}}
    """
    assert problems(text) == [
        f'models.b.filters.setParamsByID.{name}: "{name}" would never apply: it is a name of '
        'model "a" - choose another name'
        for name in ("a", "x")
    ]
