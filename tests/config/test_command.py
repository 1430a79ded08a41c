import pytest

from llmsnap.config.scalars import split_command, strip_comments
from llmsnap.errors import CommandProblem

COMMENTS = [
    ("echo a\necho b", "echo a\necho b"),
    ("# x\necho a", "echo a"),
    ("   # x\necho a", "echo a"),
    ("echo a\n\necho b", "echo a\n\necho b"),
    ("# x\n# y", ""),
    ("", ""),
    ("echo a # not a comment", "echo a # not a comment"),
    ('sh -c "\n# inside quotes too\nexec b"', 'sh -c "\nexec b"'),
]


@pytest.mark.parametrize(("text", "left"), COMMENTS)
def test_comment_lines_are_removed(text: str, left: str) -> None:
    assert strip_comments(text) == left


WORDS = [
    (
        """python a.py -a "double quotes" --b 'single'""",
        ["python", "a.py", "-a", "double quotes", "--b", "single"],
    ),
    (r"""--e '"y"' -c "'x'" """, ["--e", '"y"', "-c", "'x'"]),
    (r"""a b\ c "d\"e" 'f\g' "h\i" j\\k""", ["a", "b c", 'd"e', r"f\g", r"h\i", r"j\k"]),
    (r'"q\$r" $HOME', ["q$r", "$HOME"]),
    (r'"a\`b"', ["a`b"]),
    ("a \"\" '' b", ["a", "", "", "b"]),
    ('a "b c', ["a", "b c"]),
    ("a 'b c", ["a", "b c"]),
    ("a \\\nb", ["a", "b"]),
    ("a\\\nb", ["a", "b"]),
    ("a \\   \nb", ["a", "b"]),
    ("a \\\r\nb", ["a", "b"]),
    ('a "b\\\nc" d', ["a", "b \nc", "d"]),
    ("a b # x", ["a", "b", "#", "x"]),
    (r"C:\foo\bar.exe", ["C:foobar.exe"]),
    ("a\"b\"'c'd", ["abcd"]),
    ("a\tb\nc", ["a", "b", "c"]),
    ("a b\r\nc", ["a", "b\r", "c"]),
    ("a\vb\fc\xa0d", ["a\vb\fc\xa0d"]),
    ("srv\n  --port 1\n  # why\n  --ctx 2\n", ["srv", "--port", "1", "--ctx", "2"]),
    ("a \\", ["a"]),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words(text: str, words: list[str]) -> None:
    assert split_command(text) == words


def test_nothing_is_left_to_a_shell() -> None:
    assert split_command("a; b|c >d $(e) ~/f *") == ["a;", "b|c", ">d", "$(e)", "~/f", "*"]


def test_an_even_run_of_backslashes_at_the_end_of_a_line_is_literal() -> None:
    assert split_command("a \\\\\nb") == ["a", "\\", "b"]


def test_an_odd_run_continues_after_its_escaped_pairs() -> None:
    assert split_command("a\\\\\\\nb") == ["a\\", "b"]


@pytest.mark.parametrize("text", ["", "  \n\t", "# only a comment", "\\"])
def test_no_word_at_all_is_an_error(text: str) -> None:
    with pytest.raises(CommandProblem, match="empty command"):
        split_command(text)


def test_a_megabyte_is_split_in_bounded_time() -> None:
    assert len(split_command('"' + "a\\" * 500_000)[0]) > 500_000
    assert len(split_command("x " * 100_000)) == 100_000
