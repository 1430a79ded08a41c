"""Macros, environment variables and files."""

import pytest

from llmsnap.config.macros import Budget, Macros, MacroValue, define
from llmsnap.config.nodes import Mapping, Node, Report, Scalar, Sequence
from llmsnap.config.yaml import compose
from llmsnap.errors import MacroProblem
from tests.config.reading import excerpt

EXPANSIONS: list[tuple[dict[str, MacroValue], str, MacroValue]] = [
    ({"A": "x"}, "${A}", "x"),
    ({"A": 5}, "${A}", 5),
    ({"A": True}, "${A}", True),
    ({"A": True}, "is ${A}", "is true"),
    ({"A": 0.7, "B": 1e6}, "${A} ${B}", "0.7 1e+06"),
    # in whatever order they are defined
    ({"A": "a", "B": "${A}b"}, "${B}", "ab"),
    ({"base": "/m", "path": "${base}/x", "full": "${path}.gguf"}, "-m ${full}", "-m /m/x.gguf"),
    # what the pieces make together counts as well
    ({"A": "B", "B": "x"}, "${${A}}", "x"),
    ({"A": "$", "B": "x"}, "${A}{B}", "x"),
    # unknown and similar text stays
    ({"A": "${U}"}, "${A}", "${U}"),
    ({"A": "x"}, "${} ${a.b} ${ A } $A $(A) ${a}", "${} ${a.b} ${ A } $A $(A) ${a}"),
    # an unused circle does not matter
    ({"A": "${B}", "B": "${A}", "C": "x"}, "${C}", "x"),
]


def test_expansion() -> None:
    for values, text, result in EXPANSIONS:
        found = Macros(values).expand(text)
        assert (found, type(found)) == (result, type(result)), (values, text)


def test_later_values_win() -> None:
    macros = Macros({"tag": "global", "full": "x:${tag}"}).having({"tag": "own"})
    assert macros.expand("${full}") == "x:own"
    assert list(macros.names()) == ["tag", "full"]


CIRCLE: dict[str, MacroValue] = {"A": "${B}", "B": "x ${C}", "C": "${A}", "Z": "${A}"}


CIRCLES = [
    *((CIRCLE, text, "A -> B -> C -> A") for text in ("${A}", "run ${A}", "${Z}")),
    ({"A": "${B}${C}", "B": "${D}", "C": "${D}", "D": "${C}"}, "${A}", "(C -> D -> C|D -> C)"),
    ({"A": "$", "B": "${A}{B}"}, "${B}", "B"),  # made of pieces
]


def test_a_circle_is_named() -> None:
    for values, text, named in CIRCLES:
        with pytest.raises(MacroProblem, match=f"circle: {named}"):
            Macros(values).expand(text)


def test_macros_that_double_without_end_are_stopped() -> None:
    values: dict[str, MacroValue] = {"M0": "xxxxxxxxxx"}
    values.update({f"M{i}": f"${{M{i - 1}}}${{M{i - 1}}}" for i in range(1, 64)})
    with pytest.raises(MacroProblem, match="more than 32 MB"):
        Macros(values, Budget(100_000)).expand("${M63}")


def defined(text: str) -> tuple[dict[str, MacroValue], list[str]]:
    root, report = read(text)
    found = define(root.entries["macros"], ("macros",), report)
    return found, [str(each) for each in report.problems]


def test_definitions_keep_their_types() -> None:
    found, problems = defined(
        "macros: {a: text, b: 1, c: 0x1F, d: 0.5, e: true, f: yes, g: '5', 1: x, '': y}"
    )
    types = {"a": "text", "b": 1, "c": 31, "d": 0.5, "e": True, "f": "yes", "g": "5", "1": "x"}
    assert list(found.items()) == list(types.items())
    assert [each.partition(":")[0] for each in problems] == ["macros."]
    for text in ("macros:", "macros: ~", "macros: {}", "macros: []"):
        assert defined(text) == ({}, [])
    found, problems = defined(f"macros: {{{'x' * 63}: {'v' * 5000}, port: 1, PID: 2}}")
    assert (set(found), problems) == ({"x" * 63, "port", "PID"}, [])


FAULTY = {
    "macros: 5": "must be a mapping",
    "macros: {PORT: 1}": "is reserved",
    "macros: {MODEL_ID: [1]}": "is reserved",
    "macros: {a.b: 1}": "invalid characters",
    "macros: {%s: 1}" % ("x" * 64): "exceeds maximum of 63",
    "macros: {a: [1]}": "must be a scalar type",
    "macros: {a: 2026-02-03}": "must be a scalar type",
    "macros: {a: 'x ${a}'}": "self-reference",
}


def test_faulty_definitions() -> None:
    for text, words in FAULTY.items():
        found, (problem,) = defined(text)
        assert (found, excerpt(problem, words)) == ({}, words), text


def read(text: str, **environ: str) -> tuple[Mapping, Report]:
    report = Report()
    root = compose(text, environ, report, read_file)
    assert isinstance(root, Mapping)
    return root, report


def first(node: Node | None) -> Scalar:
    """The first value within *node*."""
    while not isinstance(node, Scalar):
        if isinstance(node, Mapping):
            node = next(iter(node.entries.values()))
        else:
            assert isinstance(node, Sequence)
            node = node.items[0]
    return node


VALUES = [
    ('a: "${env.X}-${env.X}"', "v", "v-v"),
    ("a: ${env.X}", "b: c # d", "b: c # d"),
    ("a: ${env.X}", " 5800 ", "5800"),
    ("a: '${env.X}'", " 5800 ", " 5800 "),
    ('a: "${env.X}"', 'C:\\x "y"', 'C:\\x "y"'),
    ("a: ${env.X}", 'C:\\x "y"', 'C:\\x "y"'),
    ("a: ${env.X}", "${env.Y}", "${env.Y}"),
    ("a: ${env.1X} ${env.} ${ env.X }", "v", "${env.1X} ${env.} ${ env.X }"),
]


def test_values_come_in_as_they_are() -> None:
    for text, value, result in VALUES:
        root, report = read(text, X=value)
        assert (first(root).text, report.problems) == (result, []), (text, value)
    number = first(read("${env.A}: ${env.X}", A="a", X="5800")[0])
    assert (number.plain, number.written) == (True, "${env.X}"), "an unquoted one may be a number"


FILES = {
    "/run/key": "s3cret\n", "relative key": "r", "/dos": "d\r\n", "/quotes": 'a "b"\\c',
    "/lines": "a\nb\n", "/empty": "\n", "/number": "5800\n", "/reference": "${env.X}",
}  # fmt: skip


def read_file(path: str) -> str:
    if path == "/binary":
        raise ValueError("is not UTF-8 text")
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


OF_FILES = {
    "a: ${file./run/key}": "s3cret",
    "a: x-${file./run/key}-${env.X}": "x-s3cret-v",
    "a: ${file.relative key}": "r",
    "a: ${file./dos}": "d",
    "a: ${file./quotes}": 'a "b"\\c',
    "a: ${file./reference}": "${env.X}",
    "a: ${file.${env.DIR}/key}": "s3cret",
    "a: [${file.${env.DIR}/key}, b]": "s3cret",
    "a: {b: ${file./run/key}}": "s3cret",
    "a: ['${file./run/key}']": "s3cret",
}


def test_a_file_holds_a_value() -> None:
    for text, result in OF_FILES.items():
        root, report = read(text, X="v", DIR="/run")
        assert (first(root).text, report.problems) == (result, []), text
    assert first(read("a: ${file./number}")[0]).plain


REASONS = {
    "/none": "the file of ${file./none} cannot be read: No such file or directory",
    "/lines": "the file of ${file./lines} contains newlines or NUL",
    "/empty": "the file of ${file./empty} is empty",
    "/binary": "the file of ${file./binary} is not UTF-8 text",
    "${env.NOPE}/x": "environment variable NOPE is not set",
}


def test_a_file_that_cannot_be_a_value_is_named_with_its_reason() -> None:
    for path, reason in REASONS.items():
        root, report = read(f"a: ${{file.{path}}}")
        assert str(report.problems[0]).startswith(f"a: {reason}")
        assert (first(root).broken, len(report.problems)) == (True, 1)


def test_an_unset_variable_is_named_with_its_place() -> None:
    root, report = read("b:\n  c: x ${env.NOPE}\n")
    (problem,) = report.problems
    assert (problem.where, problem.line, problem.column) == ("b.c", 2, 6)
    assert "NOPE is not set" in problem.what
    assert first(root).broken


def test_a_value_of_several_lines_is_refused_and_not_shown() -> None:
    for bad in ("a\nb", "a\rb", "a\0b"):
        _, report = read("a: ${env.X}", X=bad)
        assert "X contains newlines" in report.problems[0].what
        assert bad not in str(report.problems[0])


def test_comments_are_not_looked_at() -> None:
    block = "models:\n  m:\n    cmd: |\n      srv\n      # ${env.NOPE}\n"
    for text in ("# ${env.NOPE}\na: 1", "a: 1 # ${env.NOPE}", "a:\n  # ${env.NOPE}\n  b: 1", block):
        assert not read(text)[1].problems


WORDS = {
    "models: {m: {cmd: '${env.X}'}}": 'a \\"b\\"\\\\c',
    "macros: {m: '${env.X}'}": 'a \\"b\\"\\\\c',
    "models: {m: {cmd: '${file./quotes}'}}": 'a \\"b\\"\\\\c',
    'models: {m: {cmd: "${env.X}"}}': 'a "b"\\c',  # what is quoted is a word already
}


def test_in_commands_and_macros_a_value_survives_the_splitting_into_words() -> None:
    assert {text: first(read(text, X='a "b"\\c')[0]).text for text in WORDS} == WORDS
