import pytest

from llmsnap.config.macros import Budget, Macros, MacroValue, define, references
from llmsnap.config.nodes import Mapping, Report
from llmsnap.config.yaml import compose
from llmsnap.errors import MacroProblem

EXPANSIONS: list[tuple[dict[str, MacroValue], str, MacroValue]] = [
    ({"A": "x"}, "${A}", "x"),
    ({"A": "x"}, "-${A}-${A}-", "-x-x-"),
    ({"A": 5}, "${A}", 5),
    ({"A": 5}, " ${A}", " 5"),
    ({"A": True}, "${A}", True),
    ({"A": True}, "is ${A}", "is true"),
    ({"A": 0.7, "B": 1e6}, "${A} ${B}", "0.7 1e+06"),
    ({"A": 31}, "${A}${A}", "3131"),
    # in whatever order they are defined
    ({"A": "a", "B": "${A}b"}, "${B}", "ab"),
    ({"B": "${A}b", "A": "a"}, "${B}", "ab"),
    ({"base": "/m", "path": "${base}/x", "full": "${path}.gguf"}, "-m ${full}", "-m /m/x.gguf"),
    ({"A": 5, "B": "${A}"}, "${B}", 5),
    # what the pieces make together counts as well
    ({"A": "B", "B": "x"}, "${${A}}", "x"),
    ({"A": "$", "B": "x"}, "${A}{B}", "x"),
    ({"A": "A"}, "${${${${A}}}}", "A"),
    # unknown and similar text stays
    ({"A": "x"}, "${B} ${A}", "${B} x"),
    ({"A": "${U}"}, "${A}", "${U}"),
    ({"A": "x"}, "${} ${a.b} ${ A } $A $(A) ${a}", "${} ${a.b} ${ A } $A $(A) ${a}"),
    # an unused circle does not matter
    ({"A": "${B}", "B": "${A}", "C": "x"}, "${C}", "x"),
]


@pytest.mark.parametrize(("values", "text", "result"), EXPANSIONS)
def test_expansion(values: dict[str, MacroValue], text: str, result: MacroValue) -> None:
    found = Macros(values).expand(text)
    assert (found, type(found)) == (result, type(result))


def test_later_values_win() -> None:
    macros = Macros({"tag": "global", "full": "x:${tag}"}).having({"tag": "own"})
    assert macros.expand("${full}") == "x:own"
    assert list(macros.names()) == ["tag", "full"]


@pytest.mark.parametrize("text", ["${A}", "run ${A}", "${Z}"])
def test_a_circle_is_named(text: str) -> None:
    macros = Macros({"A": "${B}", "B": "x ${C}", "C": "${A}", "Z": "${A}"})
    with pytest.raises(MacroProblem, match=r"circle: A -> B -> C -> A"):
        macros.expand(text)


def test_a_circle_behind_a_fork_is_named() -> None:
    macros = Macros({"A": "${B}${C}", "B": "${D}", "C": "${D}", "D": "${C}"})
    with pytest.raises(MacroProblem, match=r"circle: (C -> D -> C|D -> C -> D)"):
        macros.expand("${A}")


def test_a_circle_made_of_pieces_ends_too() -> None:
    with pytest.raises(MacroProblem, match="circle: B"):
        Macros({"A": "$", "B": "${A}{B}"}).expand("${B}")


def test_macros_that_double_without_end_are_stopped() -> None:
    values: dict[str, MacroValue] = {"M0": "xxxxxxxxxx"}
    values.update({f"M{i}": f"${{M{i - 1}}}${{M{i - 1}}}" for i in range(1, 64)})
    with pytest.raises(MacroProblem, match="more than 32 MB"):
        Macros(values, Budget(100_000)).expand("${M63}")


def test_references_are_listed_once() -> None:
    assert references("${A} ${B} ${A} ${c.d}") == ["A", "B"]


def defined(text: str) -> tuple[dict[str, MacroValue], Report]:
    report = Report()
    root = compose(text, {}, report)
    assert isinstance(root, Mapping)
    return define(root.entries["macros"], ("macros",), report), report


def test_definitions_keep_their_types() -> None:
    found, report = defined(
        "macros: {a: text, b: 1, c: 0x1F, d: 0.5, e: true, f: yes, g: '5', 1: x, '': y}"
    )
    assert found == {
        "a": "text",
        "b": 1,
        "c": 31,
        "d": 0.5,
        "e": True,
        "f": "yes",
        "g": "5",
        "1": "x",
    }
    assert [problem.where for problem in report.problems] == ["macros."]


@pytest.mark.parametrize("text", ["macros:", "macros: ~", "macros: {}", "macros: []"])
def test_no_macros(text: str) -> None:
    found, report = defined(text)
    assert not found
    assert not report.problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("macros: 5", "must be a mapping"),
        ("macros: [a]", "must be a mapping"),
        ("macros: {PORT: 1}", "is reserved"),
        ("macros: {MODEL_ID: [1]}", "is reserved"),
        ("macros: {a.b: 1}", "invalid characters"),
        ("macros: {é: 1}", "invalid characters"),
        ("macros: {%s: 1}" % ("x" * 64), "exceeds maximum of 63"),
        ("macros: {a: [1]}", "must be a scalar type"),
        ("macros: {a: {b: 1}}", "must be a scalar type"),
        ("macros: {a: ~}", "must be a scalar type"),
        ("macros: {a: 2026-02-03}", "must be a scalar type"),
        ("macros: {a: 'x ${a}'}", "self-reference"),
    ],
)
def test_faulty_definitions(text: str, words: str) -> None:
    found, report = defined(text)
    assert not found
    assert words in report.problems[0].what


def test_names_and_values_may_be_as_long_as_they_need() -> None:
    found, report = defined(f"macros: {{{'x' * 63}: {'v' * 5000}, port: 1, PID: 2}}")
    assert not report.problems
    assert set(found) == {"x" * 63, "port", "PID"}
