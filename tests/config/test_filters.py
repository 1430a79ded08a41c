import pytest

from llmsnap.config.settings import Filters
from tests.config.reading import advice, config, model, problem


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("model, top_k, top_k, temperature, ${more}, , ,", ("temperature", "top_k", "top_p")),
        ("model", ()),
        ("", ()),
        (" a.b , a\\.b", ("a.b", "a\\.b")),
    ],
)
@pytest.mark.parametrize("key", ["stripParams", "strip_params"])
def test_strip_params_are_cleaned_and_sorted(key: str, text: str, names: tuple[str, ...]) -> None:
    found = model(f"macros: {{more: 'temperature, top_p'}}\nfilters: {{{key}: '{text}'}}")
    assert found.filters.strip_params == names


def test_the_older_spelling_counts_only_without_the_newer() -> None:
    assert model("filters: {stripParams: a, strip_params: b}").filters.strip_params == ("a",)
    assert model("filters: {stripParams: '', strip_params: b}").filters.strip_params == ("b",)
    found = problem("models: {m: {cmd: 's ${PORT}', filters: {strip_params: [a]}}}")
    assert found.startswith("models.m.filters.strip_params: must be a text")


def test_set_params_are_sorted_and_leave_the_model_alone() -> None:
    found = model("filters: {setParams: {z: 1, model: x, a: {model: kept}}}").filters.set_params
    assert list(found.items()) == [("a", {"model": "kept"}), ("z", 1)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.x", "would change the model's name"),
        ("mod\\\\el.x", "would change the model's name"),
        ("a*", "contains one of"),
        ("a.b?", "contains one of"),
        ("#", "contains one of"),
        ("@this", "contains one of"),
        ("a\\\\\\\\|b", "contains one of"),
    ],
)
def test_names_that_cannot_be_filtered_are_left_out_with_advice(name: str, words: str) -> None:
    text = 'models: {m: {cmd: "s ${PORT}", filters: {stripParams: "%s", setParams: {"%s": 1}}}}'
    text = text.replace("%s", name)
    assert config(text).models["m"].filters == Filters()
    assert [words in each for each in advice(text)] == [True, True]


def test_an_escaped_sign_is_a_name() -> None:
    assert model("filters: {stripParams: 'a\\*'}").filters.strip_params == ("a\\*",)


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
    by_id = found.models["m"].filters.set_params_by_id
    assert by_id == {
        "m": {"effort": "medium"},
        "m:high": {"effort": "high"},
        "known": {"effort": "low"},
    }
    assert found.aliases == {"known": "m", "m:high": "m"}


@pytest.mark.parametrize("wrong", ["[a]", "{a: 5}", "{a: [1]}"])
def test_parameters_by_name_are_mappings_of_mappings(wrong: str) -> None:
    found = problem(f"models: {{m: {{cmd: 's ${{PORT}}', filters: {{setParamsByID: {wrong}}}}}}}")
    assert "must be a mapping" in found


def test_a_name_that_belongs_to_another_model_is_advised_about() -> None:
    text = """
        models:
          a: {cmd: "s ${PORT}", aliases: [x]}
          b: {cmd: "s ${PORT}", filters: {setParamsByID: {a: {n: 1}, x: {n: 1}}}}
    """
    assert config(text).aliases == {"x": "a"}
    assert ["never reached here" in each for each in advice(text)] == [True, True]
