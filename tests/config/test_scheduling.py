import pytest

from llmsnap.config.settings import SchedulerConfig
from tests.config.reading import advice, config, problem

MODELS = 'models: {a: {cmd: "s ${PORT}", aliases: [x]}, b: {cmd: "s ${PORT}"}}\n'


def scheduler(text: str) -> SchedulerConfig:
    return config(f"{MODELS}routing: {{scheduler: {text}}}").scheduler


def test_fair_is_the_default() -> None:
    assert config("").scheduler == SchedulerConfig("fair", 120.0)


def test_priorities_go_by_id_or_alias() -> None:
    found = scheduler("{settings: {fair: {maxHold: 60, priority: {x: 5, b: 0}}}}")
    assert found == SchedulerConfig("fair", 60, {"a": 5})
    assert scheduler("{use: fifo, settings: {fifo: {priority: {b: -1}}}}").priorities == {"b": -1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{use: lifo}", "routing.scheduler.use: must be one of fair, fifo (found lifo)"),
        ("{settings: {fair: {priority: {c: 1}}}}", 'priority.c: "c" is no model'),
        ("{settings: {fifo: {priority: {c: 1}}}}", 'priority.c: "c" is no model'),
        ("{settings: {fair: {priority: {a: high}}}}", "priority.a: must be a whole number"),
        ("{settings: {fair: {priority: {a: 1, x: 2}}}}", 'model "a" has two priorities'),
        ("{settings: {fair: {priority: [a]}}}", "priority: must be a mapping"),
        ("{settings: {fair: {maxHold: -1}}}", "maxHold: must be at least 0"),
    ],
)
def test_faulty_schedulers(text: str, words: str) -> None:
    assert words in problem(f"{MODELS}routing: {{scheduler: {text}}}")


def test_priorities_of_the_other_scheduler_are_advised_about() -> None:
    (found,) = advice(MODELS + "routing: {scheduler: {settings: {fifo: {priority: {a: 1}}}}}")
    assert found.startswith(
        "routing.scheduler.settings.fifo.priority: has no effect with use: fair"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("matrix: {sets: {}}", "matrix"),
        ("selectors: {a: {}}", "selectors"),
        ("profiles: {coding: {pins: {a: b}}}", "profiles"),
        ("routing: {router: {use: matrix}}", "routing.router.use"),
        ("routing: {router: {settings: {matrix: {sets: {}}}}}", "routing.router.settings.matrix"),
    ],
)
def test_what_would_change_which_models_run_together_is_refused(text: str, where: str) -> None:
    found = problem(text)
    assert found.startswith(f"{where}: ")
    assert "not supported yet" in found


def test_a_matrix_beside_use_group_is_ignored_with_advice() -> None:
    (found,) = advice("routing: {router: {use: group, settings: {matrix: {sets: {}}}}}")
    assert found.startswith("routing.router.settings.matrix: has no effect with use: group")
