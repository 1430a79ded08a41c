"""The tree of a document and the report about it: positions, bounds, errors, advice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from llmsnap.config import yaml as reading
from llmsnap.config.nodes import (
    MOST,
    MOST_CHARS,
    MOST_SUGGESTIONS,
    Mapping,
    Node,
    Report,
    Scalar,
    Sequence,
    describe,
    dotted,
    find_node,
    in_file_order,
    is_null,
)
from llmsnap.config.yaml import MAX_DEPTH, compose


def read(text: str, **environ: str) -> tuple[Node | None, Report]:
    report = Report()
    return compose(text, environ, report), report


def tree(text: str, **environ: str) -> Mapping:
    root, report = read(text, **environ)
    assert not report.problems
    assert isinstance(root, Mapping)
    return root


def plain(node: Node | None) -> object:
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.text


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_document_is_no_tree(text: str) -> None:
    root, report = read(text)
    assert root is None or plain(root) == ""
    assert not report.problems


def test_every_value_knows_its_place() -> None:
    root = tree("models:\n  llama:\n    ttl: 60\n")
    llama = root.entries["models"].entries["llama"]  # type: ignore[attr-defined]
    assert (llama.entries["ttl"].line, llama.entries["ttl"].column) == (3, 10)


def test_texts_keep_their_spelling_and_whether_they_were_quoted() -> None:
    root = tree("a: 1.50\nb: '1.50'\nc: yes\nd: !!str 5\ne: !!int '5'\n")
    found = {key: (node.text, node.plain) for key, node in root.entries.items()}  # type: ignore[attr-defined]
    assert found == {
        "a": ("1.50", True),
        "b": ("1.50", False),
        "c": ("yes", True),
        "d": ("5", False),
        "e": ("5", True),
    }


@pytest.mark.parametrize("rest", ["[broken\n", "b: 2\n", "b: 2\n---\nc: 3\n", "", "x: apiKeys"])
def test_a_second_document_is_not_read_and_that_is_said(rest: str) -> None:
    root, report = read(f"a: 1\n---\n{rest}")
    assert plain(root) == {"a": "1"}
    assert not report.problems
    assert [(each.line, each.what) for each in report.advice] == [
        (2, "a second document begins here, and is not read")
    ]


@pytest.mark.parametrize("end", ["...\n", "# comment\n", "\n\n"])
def test_the_end_of_the_document_is_no_second_one(end: str) -> None:
    root, report = read(f"a: 1\n{end}")
    assert plain(root) == {"a": "1"}
    assert not report.advice


def test_anchors_and_merge_keys_are_applied() -> None:
    root = tree("base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nall: {y: 9, <<: [*b, *m]}\n")
    assert plain(root.entries["all"]) == {"y": "9", "x": "1", "z": "4"}


def test_a_quoted_merge_sign_is_a_key() -> None:
    assert plain(tree('"<<": 1')) == {"<<": "1"}


@pytest.mark.parametrize(
    ("text", "where", "words", "position"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", "appears twice, in lines 1 and 3", (3, 1)),
        ("models:\n  m: {}\n  m: {}\n", "models.m", "lines 2 and 3", (3, 3)),
        ("a: 1\n\tb: 2", "", "not valid YAML", (2, 1)),
        ("a: 'x", "", "unexpected end of stream", (1, 6)),
        ("a: \x00", "", "control characters", (1, 4)),
        ("é: \x00", "", "control characters", (1, 4)),
        ("a: *b", "", "alias *b is not defined", (1, 4)),
        ("a: &x [*x]", "", "alias *x contains itself", (1, 8)),
        ("a: {<<: 5}", "a.<<", "only mappings can be merged", (1, 5)),
        ("a: {<<: [{x: 1}, 5]}", "a.<<", "only mappings can be merged", (1, 5)),
        ("a:\n  ? [1]\n  : 2", "a.?", "a key must be a text", (2, 5)),
        ("a: \ud800", "", "surrogates", (1, 4)),
    ],
)
def test_faults_name_their_place(
    text: str, where: str, words: str, position: tuple[int, int]
) -> None:
    _, report = read(text)
    (problem,) = report.problems
    assert words in problem.what
    assert (problem.where, problem.line, problem.column) == (where, *position)


@pytest.mark.parametrize("parser", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("a: 1\n\tb: 2", "blanks instead of tabs"),
        ("\ta: 1", "blanks instead of tabs"),
        ("a: @x", "begins with a special character"),
        ("é: `x`", "begins with a special character"),
        ("é: ünï: c", 'contains ": "'),
        ("a: 1\r\n b: 2", 'contains ": "'),
        ("a: 'x", "close the quote"),
        ('a: "x\n', "close the quote"),
        ("- a\nb: 1", "align the entries of the list"),
        ("a: [1, 2\nb: 3", "close the bracket"),
        ("a: {b: 1\n", "close the brace"),
        ("a:\n  b: 1\n c: 2", "align this line"),
        ("a: 'it's'", "close the quote before"),
        ("a: ]", ""),
        ("a: *", ""),
    ],
)
def test_hints_come_from_the_text_whichever_parser_reads_it(
    monkeypatch: pytest.MonkeyPatch, parser: type, text: str, fix: str
) -> None:
    monkeypatch.setattr(reading, "_Loader", parser)
    (problem,) = read(text)[1].problems
    assert problem.what.startswith("not valid YAML: ")
    assert fix in problem.fix
    assert bool(fix) == bool(problem.fix)


@pytest.mark.parametrize("text", ["[" * 2000, "{a: " * 2000, "a: " + "[" * 2000])
def test_nesting_beyond_a_limit_of_the_parsers_is_called_too_deep(text: str) -> None:
    (problem,) = read(text)[1].problems
    assert problem.what == f"nested more than {MAX_DEPTH} levels deep"


def test_the_same_macro_twice_is_advice_and_the_later_one_counts() -> None:
    root, report = read("macros: {a: 1, a: 2}")
    assert plain(root) == {"macros": {"a": "2"}}
    assert not report.problems
    assert report.advice[0].where == "macros.a"


def test_a_key_given_twice_below_api_keys_is_not_shown() -> None:
    _, report = read("apiKeys: {s3cret: 1, s3cret: 2}")
    assert "s3cret" not in str(report.problems)


def test_nesting_is_bounded() -> None:
    _, report = read("[" * 100_000)
    assert f"more than {MAX_DEPTH} levels" in report.problems[0].what


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    _, report = read(bomb)
    assert "too large" in report.problems[0].what


def test_a_scalar_of_ten_megabytes_is_read() -> None:
    assert len(plain(tree("a: " + "x" * 10_000_000))["a"]) == 10_000_000  # type: ignore[index]


def test_a_reference_may_stand_unquoted_in_a_flow_list() -> None:
    root = tree("apiKeys: [${env.A}, 'x']\nb: {c: ${D}}\n", A="k")
    assert plain(root) == {"apiKeys": ["k", "x"], "b": {"c": "${D}"}}


def test_columns_are_right_after_such_a_reference() -> None:
    _, report = read("a: [${env.A}, ${env.MISSING}]", A="k")
    assert report.problems[0].column == 15


def test_what_is_wrong_besides_is_told_from_the_text_as_written() -> None:
    _, report = read("a: [${env.A}]\nb: 'x", A="k")
    assert report.problems[0].line == 1


# --- nodes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("startPort",), "startPort"),
        (("models", "a/b:c", "aliases", 0), "models.a/b:c.aliases[0]"),
    ],
)
def test_a_path_is_written_with_dots(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


def test_the_deepest_node_on_a_path_is_found() -> None:
    root = compose("a:\n  b: [1, 2]\n", {}, Report())
    assert repr(find_node(root, ("a", "b", 1))) == "<Scalar '2' 2:10>"
    assert repr(find_node(root, ("a", "b", 7))) == "<Sequence of 2 2:6>"
    assert repr(find_node(root, ("a", "x", "y"))) == "<Mapping ['b'] 2:3>"
    assert find_node(None, ("a",)) is None


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Scalar("5", 1, 1, plain=True), "5"),
        (Scalar("5", 1, 1, plain=False), '"5"'),
        (Scalar("", 1, 1, plain=True), "nothing"),
        (Scalar("x" * 100, 1, 1, plain=True), "x" * 57 + "..."),
        (Sequence([], 1, 1), "a list"),
        (Mapping(1, 1), "a mapping"),
    ],
)
def test_what_was_found_is_described(node: Node, text: str) -> None:
    assert describe(node) == text


def test_only_unquoted_words_stand_for_nothing() -> None:
    assert is_null(None)
    assert is_null(Scalar("~", 1, 1, plain=True))
    assert not is_null(Scalar("", 1, 1, plain=False))
    assert not is_null(Sequence([], 1, 1))


# --- report --------------------------------------------------------------------------------------


def test_problems_carry_path_and_place() -> None:
    report = Report()
    report.error(("models", "m", "ttl"), "is wrong", "mend it", Scalar("x", 3, 9, plain=True))
    (problem,) = report.problems
    assert str(problem) == "models.m.ttl: is wrong - mend it"
    assert (problem.line, problem.column) == (3, 9)


def test_a_report_does_not_grow_without_bound() -> None:
    report = Report()
    for number in range(MOST + 10):
        report.advise((), str(number))
    assert len(report.advice) == MOST


def test_problems_are_told_in_file_order_and_once() -> None:
    report = Report()
    for line in (9, 2, 9):
        report.error(("a",), "x", at=Scalar("", line, 1, plain=True))
    assert [problem.line for problem in in_file_order(report.problems)] == [2, 9]


def test_the_nearest_known_name_is_suggested() -> None:
    report = Report()
    known = ["concurrencyLimit", "ttl"]
    assert report.nearest("concurencylimit", known) == 'did you mean "concurrencyLimit"?'
    assert report.nearest("concurrency_limit", known) == 'did you mean "concurrencyLimit"?'
    assert report.nearest("xyzzy", known) == ""


def test_suggestions_end_at_some_point() -> None:
    report = Report()
    assert not [report.nearest("ttl", ["ttl"]) for _ in range(60)][-1]


def test_beyond_that_the_known_names_are_not_even_looked_at() -> None:
    report = Report()
    looked: list[str] = []

    def known() -> Iterator[str]:
        looked.append("at one")
        yield "ttl"

    for _ in range(1000):
        report.nearest("tll", known())
    assert len(looked) == MOST_SUGGESTIONS


def test_what_is_said_does_not_grow_with_the_names_it_quotes() -> None:
    report = Report()
    name = "x" * 1_000_000
    report.error(("models", name, name), f'"{name}" is no model', f'did you mean "{name}"?')
    assert len(str(report.problems[0])) <= 5 * MOST_CHARS


def test_api_keys_are_kept_out_of_paths() -> None:
    report = Report()
    report.error(("apiKeys", 0, "s3cret", "name"), "is wrong")
    assert report.problems[0].where == "apiKeys[0].(hidden).name"


def test_what_could_not_be_read_is_known_below_it_too() -> None:
    report = Report()
    report.error(("a", "b"), "is wrong")
    report.suppress(("c",))
    assert report.already_reported(("a", "b", 0, "x"))
    assert report.already_reported(("c",))
    assert not report.already_reported(("a", "x"))
