import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsnap.logs.fold import RepeatFolder

MORE = b"[llmsnap: last line repeated %d more times]\n"


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([b"one\ntwo\n"], [b"one\ntwo\n"]),
        ([b"a\na\na\nb\n"], [b"a\na\na\nb\n"]),
        ([b"a\n" * 10 + b"b\n"], [b"a\n" * 3 + MORE % 7 + b"b\n"]),
        ([b"a\n" * 2, b"a\n" * 5, b"b\n"], [b"a\na\n", b"a\n", MORE % 4 + b"b\n"]),
        ([b"\n" * 5 + b"x"], [b"\n" * 3 + MORE % 2 + b"x"]),
        ([b"load", b"ing", b"...\ndone\n"], [b"load", b"ing", b"...\ndone\n"]),
        # A read that ends within a repeat does not end the run.
        ([b"ab\n" * 5 + b"a", b"b\n", b"c\n"], [b"ab\n" * 3, b"", MORE % 3 + b"c\n"]),
        ([b"ab\n" * 5 + b"a", b"x\n"], [b"ab\n" * 3, MORE % 2 + b"ax\n"]),
    ],
)
def test_what_is_shown(chunks, shown):
    folder = RepeatFolder()
    assert [folder.feed(chunk) for chunk in chunks] == shown


def test_flushing_tells_the_count_so_far_and_begins_anew():
    folder = RepeatFolder()
    folder.feed(b"ab\n" * 5 + b"a")
    assert folder.pending
    assert folder.flush() == MORE % 2 + b"a"
    assert folder.open
    assert not folder.pending
    assert folder.take_count() == 2
    assert folder.feed(b"b\n") == b"b\n"


def test_a_read_of_very_many_lines_passes_as_it_is():
    folder = RepeatFolder()
    assert folder.feed(b"\n" * 60_000) == b"\n" * 60_000


@given(st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=12))
def test_without_long_repeats_nothing_changes(chunks):
    text = b"".join(chunks)
    folder = RepeatFolder()
    shown = b"".join(map(folder.feed, chunks)) + folder.flush()
    if b"repeated" not in shown:
        assert shown == text
    else:
        kept = [line for line in shown.split(b"\n") if not line.startswith(b"[llmsnap")]
        assert len(kept) < len(text.split(b"\n"))
