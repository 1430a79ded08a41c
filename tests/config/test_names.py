from tests.config.reading import advice, config, problem, problems


def test_names_resolve_to_ids() -> None:
    found = config("models: {b: {cmd: 's ${PORT}', aliases: [x, ' x ']}, a: {cmd: 's ${PORT}'}}")
    assert list(found.models) == ["a", "b"]
    assert found.aliases == {"x": "b", " x ": "b"}


def test_an_alias_stands_on_one_model_once() -> None:
    found = problem("models: {b: &m {cmd: 's ${PORT}', aliases: [m1]}, a: *m}")
    assert found.startswith('models.b.aliases: duplicate alias "m1": it is on "a" already')
    found = problem("models: {a: {cmd: 's ${PORT}', aliases: [m1, m1]}}")
    assert 'it is on "a" already' in found


def test_aliases_that_are_never_reached_are_left_out_with_advice() -> None:
    text = "models: {a: {cmd: 's ${PORT}', aliases: [b, '', ' ', a, ok]}, b: {cmd: 's ${PORT}'}}"
    assert config(text).models["a"].aliases == ("ok",)
    assert [each.partition(" - ")[0] for each in advice(text)] == [
        'models.a.aliases: alias "b" is never reached: it is the id of a model',
        "models.a.aliases: an alias is empty",
    ]


def test_aliases_are_a_list() -> None:
    assert problems("models: {a: {cmd: 's ${PORT}', aliases: x}}")[0].startswith(
        "models.a.aliases: must be a list"
    )
