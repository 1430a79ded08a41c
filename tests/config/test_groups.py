"""Groups and the scheduler."""

import pytest

from llmsnap.config import GroupConfig, SchedulerConfig
from tests.config.reading import advice, config, excerpt, problem
from tests.parity import parity

MODELS = """
models:
  m1: &m {cmd: "s ${PORT}"}
  m2: {<<: *m, aliases: [two]}
  m3: *m
  m4: *m
"""
SCHEDULER = "routing: {scheduler: {%s}}\n"


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


MISTAKES = {
    "groups: {a: {members: [m1, m1]}}": 'groups.a.members: member "m1" is listed twice',
    "groups: {a: {members: [m1]}, b: {members: [m1]}}": 'in two groups, "a" and "b"',
    "groups: {a: {members: [x]}, b: {members: [x]}}": 'in two groups, "a" and "b"',
    "groups: {a: [m1]}": "groups.a: must be a mapping",
    SCHEDULER % "use: lifo": "routing.scheduler.use: must be one of fair, fifo (found lifo)",
    SCHEDULER % "settings: {fair: {priority: {c: 1}}}": 'priority.c: "c" is no model',
    SCHEDULER % "settings: {fifo: {priority: {c: 1}}}": 'priority.c: "c" is no model',
    SCHEDULER % "settings: {fair: {priority: {m1: high}}}": "m1: must be a whole number",
    SCHEDULER % "settings: {fair: {priority: {m2: 1, two: 2}}}": '"m2" has two priorities',
}


def test_mistakes() -> None:
    said = {text: excerpt(problem(f"{MODELS}{text}\n"), MISTAKES[text]) for text in MISTAKES}
    assert said == MISTAKES


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


def scheduler(text: str) -> SchedulerConfig:
    return config(MODELS + SCHEDULER % text).scheduler


@parity(
    "Priorities",
    "`fifo.priority` by model id; an alias passes the check and has no effect",
    "by id or alias",
)
def test_priorities_go_by_id_or_alias() -> None:
    found = scheduler("settings: {fair: {maxHold: 60, priority: {two: 5, m1: 0}}}")
    assert found == SchedulerConfig("fair", 60, {"m2": 5})
    assert scheduler("use: fifo, settings: {fifo: {priority: {m1: -1}}}").priorities == {"m1": -1}


@parity(
    "Priorities",
    "`fifo.priority` without `scheduler.use`",
    "taken over into `fair`, the default here",
)
def test_fair_takes_over_the_priorities_of_a_file_that_names_no_scheduler() -> None:
    text = "settings: {fifo: {priority: {two: 3}}%s}"
    assert scheduler(text % "") == SchedulerConfig("fair", priorities={"m2": 3})
    assert scheduler(text % ", fair: {priority: {m1: 1}}").priorities == {"m1": 1}
    assert not advice(MODELS + SCHEDULER % text % "")
    (found,) = advice(MODELS + SCHEDULER % f"use: fair, {text % ''}")
    assert "settings.fifo.priority: has no effect with use: fair" in found
