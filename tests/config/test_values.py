"""What texts mean and what each kind of value accepts."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsnap.config import kinds, scalars
from llmsnap.config.keys import ConfigKey, Section, Sections
from llmsnap.config.nodes import Mapping, Report
from llmsnap.config.yaml import compose
from llmsnap.errors import CommandProblem
from tests.config.reading import excerpt

MEANINGS: list[tuple[str, scalars.Value]] = [
    ("null", None),
    ("true", True),
    ("yes", "yes"),
    ("+7", 7),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b11", 3),
    ("1_000", 1000),
    ("08", 8.0),
    ("1e3", 1000.0),
    ("1.", 1.0),
    ("18446744073709551615", 2**64 - 1),
    ("18446744073709551616", 18446744073709551616.0),
    ("1e999", "1e999"),
    ("-", "-"),
    (".inf", math.inf),
    ("2026-02-03", scalars.Timestamp("2026-02-03T00:00:00Z")),
    ("2026-02-30", "2026-02-30"),
    ("2026-2-3 4:05:06.120", scalars.Timestamp("2026-02-03T04:05:06.12Z")),
    ("2026-02-03T14:05:09-05:00", scalars.Timestamp("2026-02-03T14:05:09-05:00")),
    ("2026-02-03T14:05:09", "2026-02-03T14:05:09"),
]


def test_what_an_unquoted_scalar_means() -> None:
    found = [(text, scalars.resolve(text)) for text, _ in MEANINGS]
    assert found == MEANINGS
    assert [type(value) for _, value in found] == [type(value) for _, value in MEANINGS]
    assert math.isnan(scalars.resolve(".nan"))  # type: ignore[arg-type]


RENDERED: list[tuple[scalars.Value, str]] = [
    ("as it is", "as it is"),
    (True, "true"),
    (0.7, "0.7"),
    (123456.0, "123456"),
    (1000000.0, "1e+06"),
    (0.00001, "1e-05"),
    (0.0001, "0.0001"),
    (3.14159265358979, "3.14159265358979"),
    (math.inf, "+Inf"),
    (math.nan, "NaN"),
    (None, ""),
]


def test_how_a_value_is_written_into_text() -> None:
    assert [scalars.render(value) for value, _ in RENDERED] == [text for _, text in RENDERED]


@settings(max_examples=60, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_rendered_float_reads_back_as_itself(number: float) -> None:
    assert float(scalars.render(number)) == number


COMMENTS = [
    ("echo a\necho b", "echo a\necho b"),
    ("# x\necho a", "echo a"),
    ("echo a\n\necho b", "echo a\n\necho b"),
    ("# x\n# y", ""),
    ("echo a # not a comment", "echo a # not a comment"),
    ('sh -c "\n# inside quotes too\nexec b"', 'sh -c "\nexec b"'),
]


def test_comment_lines_are_removed() -> None:
    assert [scalars.strip_comments(text) for text, _ in COMMENTS] == [left for _, left in COMMENTS]


WORDS = [
    (r"""--e '"y"' -c "'x'" """, ["--e", '"y"', "-c", "'x'"]),
    (r"""a b\ c "d\"e" 'f\g' "h\i" j\\k""", ["a", "b c", 'd"e', r"f\g", r"h\i", r"j\k"]),
    (r'"q\$r" $HOME', ["q$r", "$HOME"]),
    (r'"a\`b"', ["a`b"]),
    ("a \"\" '' b", ["a", "", "", "b"]),
    ('a "b c', ["a", "b c"]),
    ("a \\\nb", ["a", "b"]),
    ("a \\   \nb", ["a", "b"]),
    ("a \\\r\nb", ["a", "b"]),
    ('a "b\\\nc" d', ["a", "b \nc", "d"]),
    (r"C:\foo\bar.exe", ["C:foobar.exe"]),
    ("a\"b\"'c'd", ["abcd"]),
    ("a b\r\nc", ["a", "b\r", "c"]),
    ("a\vb\fc\xa0d", ["a\vb\fc\xa0d"]),
    ("srv\n  --port 1\n  # why\n  --ctx 2\n", ["srv", "--port", "1", "--ctx", "2"]),
    ("a; b|c >d $(e) ~/f *", ["a;", "b|c", ">d", "$(e)", "~/f", "*"]),  # nothing is for a shell
    ("a \\\\\nb", ["a", "\\", "b"]),
    ("a\\\\\\\nb", ["a\\", "b"]),
]


def test_words() -> None:
    assert [(text, scalars.split_command(text)) for text, _ in WORDS] == WORDS


def test_no_word_at_all_is_an_error() -> None:
    for text in ("", "  \n\t", "# only a comment", "\\"):
        with pytest.raises(CommandProblem, match="empty command"):
            scalars.split_command(text)


def test_a_megabyte_is_split_in_bounded_time() -> None:
    assert len(scalars.split_command('"' + "a\\" * 500_000)[0]) > 500_000
    assert len(scalars.split_command("x " * 100_000)) == 100_000


URLS = {
    "http://localhost:5800": "",
    "http://u:p@h": "",
    "http://a b": "blank",
    "http://[::1": "not a valid URL",
    "ftp://h": "must begin with http",
    "localhost:99": "must begin with http",
    "http:///x": "names no host",
    "http://h:0": "port",
    "http://h:70000": "port",
}


def test_what_is_no_address_of_a_server_is_told() -> None:
    found = {url: scalars.url_fault(url) for url in URLS}
    assert {url: excerpt(fault, URLS[url]) for url, fault in found.items() if fault} == {
        url: words for url, words in URLS.items() if words
    }
    assert scalars.without_password("http://u:p@h/x@y") == "http://(hidden)@h/x@y"
    assert scalars.without_password("http://h/x@y") == "http://h/x@y"


def read_value(kind: kinds.Kind, text: str) -> tuple[Any, Report]:
    report = Report()
    root = compose(f"a: {text}", {}, report)
    assert isinstance(root, Mapping)
    return kind.read(root.entries["a"], ("a",), kinds.ValueReader(report)), report


READ: list[tuple[kinds.Kind, str, Any]] = [
    (kinds.Text(), "123", "123"),
    (kinds.Text(), "2026-02-03", "2026-02-03"),
    (kinds.Text("x"), "~", "x"),
    (kinds.CommandLine(), '"# c\\nrun"', "run"),
    (kinds.Choice("a", words=("a", "b")), "b", "b"),
    (kinds.Choice("a", words=("a", "b"), loose=True), "' B '", "b"),
    (kinds.Number(1.0), "2", 2.0),
    (kinds.Number(1, whole=True), "5.9", 5),
    (kinds.Number(1, whole=True), "-5.9", -5),
    (kinds.Flag(), "yes", True),
    (kinds.Flag(True), "Off", False),
    (kinds.Flag(None), "~", None),
    (kinds.Texts(), "[a, ~, 1.50, '']", ("a", "1.50", "")),
    (kinds.Patterns(("x",)), "~", ("x",)),
    (kinds.Json(), "{1: {x: [1, yes]}}", {"1": {"x": [1, "yes"]}}),
    (kinds.Json(), "~", {}),
    (Section(ConfigKey("n", kinds.Number(1.0), "A number.")), "{}", {"n": 1.0}),
    (Section(ConfigKey("n", kinds.Number(1.0), "A number.")), "~", {"n": 1.0}),
    (Sections(Section(ConfigKey("n", kinds.Number(1.0), "A number.")), "x"), "~", ()),
    (kinds.Unsupported(), "~", None),
]


def test_what_fits_is_read() -> None:
    for kind, text, value in READ:
        found, report = read_value(kind, text)
        assert (found, report.problems) == (value, []), (kind, text)


MISFITS: list[tuple[kinds.Kind, str, str]] = [
    (kinds.Text("x"), "[1]", "must be a text (found a list)"),
    (kinds.Choice("a", words=("a", "b")), "c", "must be one of a, b (found c)"),
    (kinds.Number(1.0), "x", "must be a number (found x)"),
    (kinds.Number(1.0), "'1'", 'must be a number (found "1")'),
    (kinds.Number(1.0, whole=True), "1e30", "must be at least"),
    (kinds.Flag(), "maybe", "must be true or false (found maybe)"),
    (kinds.Texts(), "x", "must be a list (found x)"),
    (kinds.Texts(), "{b: 1}", "must be a list (found a mapping)"),
    (kinds.Json(), "[1]", "must be a mapping (found a list)"),
    (kinds.Unsupported(why="x", refused=True), "1", "not supported yet"),
]


def test_what_does_not_fit_is_told_and_the_default_used() -> None:
    for kind, text, words in MISFITS:
        found, report = read_value(kind, text)
        assert (found, report.problems[0].where) == (kind.default, "a")
        assert report.problems[0].what.startswith(words), (kind, text)
