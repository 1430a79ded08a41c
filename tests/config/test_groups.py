"""Groups and the scheduler."""

import pytest

from llmsnap.config import GroupConfig, SchedulerConfig
from tests.config.reading import advice, config, problem
from tests.parity import parity

MODELS = """
models:
  m1: &m {cmd: "s ${PORT}"}
  m2: {<<: *m, aliases: [two]}
  m3: *m
  m4: *m
"""


def test_models_of_no_group_are_in_the_default_group() -> None:
    text = "{group1: {members: [m2], exclusive: false}, forever: {members: [m4], persistent: true}}"
    assert list(config(f"{MODELS}groups: {text}\n").groups.values()) == [
        GroupConfig("group1", exclusive=False, members=("m2",)),
        GroupConfig("forever", persistent=True, members=("m4",)),
        GroupConfig("(default)", members=("m1", "m3")),
    ]


def test_the_newer_place_for_groups_is_known() -> None:
    found = config(MODELS + "routing: {router: {settings: {groups: {g: {members: [m1]}}}}}")
    assert found.groups["g"].members == ("m1",)
    both = problem("groups: {a: {}}\nrouting: {router: {settings: {groups: {a: {}}}}}")
    assert both.startswith("routing.router.settings.groups: groups are given twice, here and in")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("{a: {members: [m1, m1]}}", 'groups.a.members: member "m1" is listed twice'),
        ("{a: {members: [m1]}, b: {members: [m1]}}", 'in two groups, "a" and "b"'),
        ("{a: {members: [x]}, b: {members: [x]}}", 'in two groups, "a" and "b"'),
        ("{a: [m1]}", "groups.a: must be a mapping"),
    ],
)
def test_faulty_groups(groups: str, words: str) -> None:
    assert words in problem(f"{MODELS}groups: {groups}\n")


def test_a_member_that_is_no_model_is_left_out_with_advice() -> None:
    text = f"macros: {{x: m1}}\n{MODELS}groups: {{g: {{members: ['${{x}}', m22, '${{y}}']}}}}\n"
    assert config(text).groups["g"].members == ("m1",)
    assert [each.partition(" - ")[0] for each in advice(text)] == [
        'groups.g.members: member "m22" is no model',
        'groups.g.members: member "${y}" is no model',
        "groups.g.members[2]: unknown macro ${y}; it is left as it is",
    ]


def test_an_alias_brings_its_model_unless_that_is_placed() -> None:
    assert config(f"{MODELS}groups: {{g: {{members: [two]}}}}\n").groups["g"].members == ("m2",)
    text = f"{MODELS}groups: {{a: {{members: [two]}}, b: {{members: [m2]}}}}\n"
    assert [group.members for group in config(text).groups.values()][:2] == [(), ("m2",)]
    assert 'is an alias of "m2", which is in "b"' in advice(text)[0]


@pytest.mark.parametrize("name", ["(default)", "(external)"])
def test_the_groups_made_by_llmsnap_cannot_be_configured(name: str) -> None:
    text = f"{MODELS}groups: {{{name}: {{swap: false, members: [m1]}}}}\n"
    default = GroupConfig("(default)", members=("m1", "m2", "m3", "m4"))
    assert config(text).groups == {"(default)": default}
    assert advice(text)[0].startswith(f"groups.{name}: is made by llmsnap")


THREE_MODELS = 'models: {a: {cmd: "s ${PORT}", aliases: [x]}, b: {cmd: "s ${PORT}"}}\n'


def scheduler(text: str) -> SchedulerConfig:
    return config(f"{THREE_MODELS}routing: {{scheduler: {text}}}").scheduler


@parity(
    "Priorities",
    "`fifo.priority` by model id; an alias passes the check and has no effect",
    "by id or alias",
)
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
    ],
)
def test_faulty_schedulers(text: str, words: str) -> None:
    assert words in problem(f"{THREE_MODELS}routing: {{scheduler: {text}}}")


@parity(
    "Priorities",
    "`fifo.priority` without `scheduler.use`",
    "taken over into `fair`, the default here",
)
def test_fair_takes_over_the_priorities_of_a_file_that_names_no_scheduler() -> None:
    text = "{settings: {fifo: {priority: {x: 3}}%s}}"
    assert scheduler(text % "") == SchedulerConfig("fair", priorities={"a": 3})
    assert scheduler(text % ", fair: {priority: {b: 1}}").priorities == {"b": 1}
    routing = f"{THREE_MODELS}routing: {{scheduler: {text % ''}}}"
    assert not advice(routing)
    (found,) = advice(routing.replace("{settings", "{use: fair, settings"))
    assert "settings.fifo.priority: has no effect with use: fair" in found
