from typing import Any

import pytest

from llmsnap.config.kinds import (
    Choice,
    CommandLine,
    Flag,
    Json,
    Key,
    Kind,
    Number,
    Section,
    Sections,
    Text,
    Texts,
    Unsupported,
    ValueReader,
)
from llmsnap.config.nodes import Mapping, Report
from llmsnap.config.yaml import compose


def read(kind: Kind, text: str) -> tuple[Any, Report]:
    report = Report()
    root = compose(f"a: {text}", {}, report)
    assert isinstance(root, Mapping)
    return kind.read(root.entries["a"], ("a",), ValueReader(report)), report


READ: list[tuple[Kind, str, Any]] = [
    (Text(), "123", "123"),
    (Text(), "2026-02-03", "2026-02-03"),
    (Text("x"), "~", "x"),
    (CommandLine(), '"# c\\nrun"', "run"),
    (Choice("a", words=("a", "b")), "b", "b"),
    (Choice("a", words=("a", "b"), loose=True), "' B '", "b"),
    (Number(1.0), "2", 2.0),
    (Number(1, whole=True), "5.9", 5),
    (Number(1, whole=True), "-5.9", -5),
    (Number(1, whole=True), "0x1F", 31),
    (Flag(), "True", True),
    (Flag(), "yes", True),
    (Flag(None), "~", None),
    (Texts(), "[a, ~, 1.50, '']", ("a", "1.50", "")),
    (Texts(None), "~", None),
    (Json(), "{1: {x: [1, yes]}}", {"1": {"x": [1, "yes"]}}),
    (Json(), "~", {}),
    (Section(Key("n", Number(1.0))), "{}", {"n": 1.0}),
    (Section(Key("n", Number(1.0))), "~", {"n": 1.0}),
    (Sections(Section(Key("n", Number(1.0)))), "~", ()),
    (Unsupported(), "~", None),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_what_fits_is_read(kind: Kind, text: str, value: Any) -> None:
    found, report = read(kind, text)
    assert found == value
    assert not report.problems


MISFITS: list[tuple[Kind, str, str]] = [
    (Text("x"), "[1]", "must be a text (found a list)"),
    (CommandLine("x"), "{b: 1}", "must be a text (found a mapping)"),
    (Choice("a", words=("a", "b")), "c", "must be one of a, b (found c)"),
    (Number(1.0), "x", "must be a number (found x)"),
    (Number(1.0), "'1'", 'must be a number (found "1")'),
    (Number(1.0), "yes", "must be a number (found yes)"),
    (Number(1.0, whole=True), "1e30", "must be at least"),
    (Flag(), "maybe", "must be true or false (found maybe)"),
    (Texts(), "x", "must be a list (found x)"),
    (Texts(), "{b: 1}", "must be a list (found a mapping)"),
    (Json(), "[1]", "must be a mapping (found a list)"),
    (Section(), "[1]", "must be a mapping (found a list)"),
    (Sections(Section()), "{b: 1}", "must be a list (found a mapping)"),
    (Unsupported(why="x", refused=True), "1", "not supported yet"),
]


@pytest.mark.parametrize(("kind", "text", "words"), MISFITS)
def test_what_does_not_fit_is_told_and_the_default_used(kind: Kind, text: str, words: str) -> None:
    found, report = read(kind, text)
    assert found == kind.default
    assert report.problems[0].what.startswith(words)
    assert report.problems[0].where == "a"
