"""The tree of a document and the report about it: positions, bounds, errors, advice."""

from collections.abc import Iterator

import pytest
import yaml

from llmsnap.config import nodes
from llmsnap.config import yaml as reading
from llmsnap.config.yaml import MAX_DEPTH, compose
from tests.config.reading import excerpt


def read(text: str, **environ: str) -> tuple[nodes.Node | None, nodes.Report]:
    report = nodes.Report()
    return compose(text, environ, report), report


def tree(text: str, **environ: str) -> nodes.Mapping:
    root, report = read(text, **environ)
    assert not report.problems
    assert isinstance(root, nodes.Mapping)
    return root


def plain(node: nodes.Node | None) -> object:
    if isinstance(node, nodes.Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, nodes.Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, nodes.Scalar)
    return node.text


def test_texts_keep_their_spelling_and_whether_they_were_quoted() -> None:
    root = tree("a: 1.50\nb: '1.50'\nc: yes\nd: !!str 5\ne: !!int '5'\n")
    found = [(node.text, node.plain) for node in root.entries.values()]  # type: ignore[attr-defined]
    assert found == [
        ("1.50", True), ("1.50", False), ("yes", True), ("5", False), ("5", True),
    ]  # fmt: skip


def test_a_second_document_is_not_read_and_that_is_said() -> None:
    seconds = ("[broken\n", "b: 2\n", "b: 2\n---\nc: 3\n", "", "x: apiKeys")
    second = [(2, "a second document begins here, and is not read")]
    ends = {f"---\n{rest}": second for rest in seconds} | {"...\n@\n": second}
    ends |= {"...\n": [], "# comment\n": [], "\n\n": []}
    for end, said in ends.items():
        root, report = read(f"a: 1\n{end}")
        assert (plain(root), report.problems) == ({"a": "1"}, [])
        assert [(each.line, each.what) for each in report.advice] == said, end


def test_anchors_and_merge_keys_are_applied() -> None:
    root = tree("base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nall: {y: 9, <<: [*b, *m]}\n")
    assert plain(root.entries["all"]) == {"y": "9", "x": "1", "z": "4"}
    assert plain(tree('"<<": 1')) == {"<<": "1"}, "a quoted merge sign is a key"


FAULTS = [
    ("a: 1\nb: 2\na: 3\n", "a", "appears twice, in lines 1 and 3", (3, 1)),
    ("a: 1\n\tb: 2", "", "not valid YAML", (2, 1)),
    ("a: \x00", "", "control characters", (1, 4)),
    ("é: \x00", "", "control characters", (1, 4)),
    ("a: *b", "", "alias *b is not defined", (1, 4)),
    ("a: &x [*x]", "", "alias *x contains itself", (1, 8)),
    ("a: {<<: [{x: 1}, 5]}", "a.<<", "only mappings can be merged", (1, 5)),
    ("a:\n  ? [1]\n  : 2", "a.?", "a key must be a text", (2, 5)),
    ("a: \ud800", "", "surrogates", (1, 4)),
    ("apiKeys: {s3cret: 1, s3cret: 2}", "apiKeys.(hidden)", "appears twice", (1, 22)),
]


def test_faults_name_their_place() -> None:
    for text, where, words, position in FAULTS:
        _, report = read(text)
        (problem,) = report.problems
        assert excerpt(problem.what, words) == words, text
        assert (problem.where, problem.line, problem.column) == (where, *position)


HINTS = [
    ("a: 1\n\tb: 2", "blanks instead of tabs"),
    ("é: `x`", "begins with a special character"),
    ("é: ünï: c", 'contains ": "'),
    ("a: 1\r\n b: 2", 'contains ": "'),
    ("a: 'x", "close the quote"),
    ("- a\nb: 1", "align the entries of the list"),
    ("a: [1, 2\nb: 3", "close the bracket"),
    ("a: {b: 1\n", "close the brace"),
    ("a:\n  b: 1\n c: 2", "align this line"),
    ("a: 'it's'", "close the quote before"),
    ("a: *", ""),
]


@pytest.mark.parametrize("parser", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_hints_come_from_the_text_whichever_parser_reads_it(monkeypatch, parser) -> None:
    monkeypatch.setattr(reading, "_Loader", parser)
    for text, fix in HINTS:
        (problem,) = read(text)[1].problems
        assert problem.what.startswith("not valid YAML: ")
        assert excerpt(problem.fix, fix) == fix, text
        assert bool(fix) == bool(problem.fix)


def test_nesting_beyond_a_limit_of_the_parsers_is_called_too_deep() -> None:
    for text in ("[" * 2000, "{a: " * 2000, "a: " + "[" * 2000, "[" * 100_000):
        (problem,) = read(text)[1].problems
        assert problem.what == f"nested more than {MAX_DEPTH} levels deep"


def test_the_same_macro_twice_is_advice_and_the_later_one_counts() -> None:
    root, report = read("macros: {a: 1, a: 2}")
    assert plain(root) == {"macros": {"a": "2"}}
    assert not report.problems
    assert report.advice[0].where == "macros.a"


def test_a_reference_may_stand_unquoted_in_a_flow_list() -> None:
    root = tree("apiKeys: [${env.A}, 'x']\nb: {c: ${D}}\n", A="k")
    assert plain(root) == {"apiKeys": ["k", "x"], "b": {"c": "${D}"}}
    assert read("a: [${env.A}, ${env.MISSING}]", A="k")[1].problems[0].column == 15
    assert read("a: [${env.A}]\nb: 'x", A="k")[1].problems[0].line == 1


def test_the_deepest_node_on_a_path_is_found() -> None:
    root = compose("a:\n  b: [1, 2]\n", {}, nodes.Report())
    places = {("a", "b", 1): (2, 10), ("a", "b", 7): (2, 6), ("a", "x", "y"): (2, 3)}
    found = {path: nodes.find_node(root, path) for path in places}
    assert {path: (node.line, node.column) for path, node in found.items() if node} == places
    assert nodes.find_node(None, ("a",)) is None


def test_problems_are_told_in_file_order_and_once_and_do_not_grow_without_bound() -> None:
    report = nodes.Report()
    for line in (9, 2, 9):
        report.error(("a",), "x", at=nodes.Scalar("", line, 1, plain=True))
    assert [problem.line for problem in nodes.in_file_order(report.problems)] == [2, 9]
    for number in range(nodes.MOST + 10):
        report.advise((), str(number))
    assert len(report.advice) == nodes.MOST
    name = "x" * 1_000_000
    report.error(("models", name, name), f'"{name}" is no model', f'did you mean "{name}"?')
    assert len(str(report.problems[-1])) <= 5 * nodes.MOST_CHARS


def test_beyond_that_the_known_names_are_not_even_looked_at() -> None:
    report, looked = nodes.Report(), []

    def known() -> Iterator[str]:
        looked.append("at one")
        yield "ttl"

    for _ in range(1000):
        report.nearest("tll", known())
    assert len(looked) == nodes.MOST_SUGGESTIONS


def test_what_could_not_be_read_is_known_below_it_too() -> None:
    report = nodes.Report()
    report.error(("a", "b"), "is wrong")
    report.suppress(("c",))
    assert report.already_reported(("a", "b", 0, "x"))
    assert report.already_reported(("c",))
    assert not report.already_reported(("a", "x"))
