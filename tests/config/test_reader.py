import pytest

from llmsnap.config.kinds import ValueReader
from llmsnap.config.macros import Macros
from llmsnap.config.nodes import Mapping, Node, Report, Scalar
from llmsnap.config.yaml import compose


def node(text: str) -> Node:
    root = compose(f"a: {text}", {}, Report())
    assert isinstance(root, Mapping)
    return root.entries["a"]


def reader() -> ValueReader:
    return ValueReader(Report(), Macros({"N": 5, "T": "text"}))


def test_scalars_get_their_meaning() -> None:
    assert reader().scalar(node("017"), ("a",), "a number") == 15
    assert reader().scalar(node("'017'"), ("a",), "a number") == "017"
    assert reader().scalar(node("${N}"), ("a",), "a number") == 5


def test_texts_keep_their_spelling() -> None:
    assert reader().text(node("1.50"), ("a",), "a text") == "1.50"
    assert reader().text(node("${N}${T}"), ("a",), "a text") == "5text"
    assert reader().text(node("~"), ("a",), "a text") is None


def test_without_macros_references_are_text() -> None:
    assert ValueReader(Report()).text(node("${N}"), ("a",), "a text") == "${N}"


@pytest.mark.parametrize(("strict", "result"), [(True, None), (False, "${X} ${Y}")])
def test_what_is_left_over_is_told(strict: bool, result: str | None) -> None:
    reading = reader()
    assert reading.text(node("${X} ${Y}"), ("a",), "a text", strict=strict) == result
    found = reading.report.problems if strict else reading.report.advice
    assert len(found) == 2


def test_one_reference_may_be_known_later() -> None:
    reading = reader()
    value = reading.expanded("${N} ${PID}", node("x"), ("a",), strict=True, known_later="PID")
    assert (value, reading.report.problems) == ("5 ${PID}", [])


def test_a_broken_scalar_is_silent() -> None:
    reading = reader()
    broken = node("x")
    assert isinstance(broken, Scalar)
    broken.broken = True
    assert reading.text(broken, ("a",), "a text") is None
    assert not reading.report.problems


def test_a_mismatch_shows_what_was_found_unless_it_may_be_secret() -> None:
    reading = reader()
    reading.mismatch(node("s3cret"), ("startPort",), "a number")
    reading.mismatch(node("s3cret"), ("models", "m", "env"), "a list")
    reading.mismatch(node("s3cret"), ("apiKeys", 0, "models"), "a list")
    assert ["s3cret" in each.what for each in reading.report.problems] == [True, False, False]
