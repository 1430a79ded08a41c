from itertools import product

from llmsnap.ansi import RESET, AnsiFilter, strip_controls

CASES = [
    ("plain é\ttext\n", "plain é\ttext\n"),
    ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    ("\x1b[1;38;5;208mx\x1b[m", "\x1b[1;38;5;208mx\x1b[m"),
    ("\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx"),
    ("a\x1b[2Kb\x1b[1;1Hc\x1b[?1049hd", "abcd"),
    ("a\x1b[>4;2mb", "ab"),
    ("a\x1b[6nb\x1b[cc", "abc"),
    ("a\x1b]0;title\x07b", "ab"),
    ("a\x1b]52;c;ZXZpbA==\x1b\\b", "ab"),
    ("a\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
    ("a\x1bP+q544e\x1b\\b", "ab"),
    ("a\x1b_apc\x1b\\b\x1b^pm\x1b\\c", "abc"),
    ("a\x1bcb\x1b(0c\x1b=d", "abcd"),
    ("a\x9b31mb\x9d0;t\x9cc", "a31mb0;tc"),
    ("a\x08\x08\x0b\x0c\x07\x00\x7fb", "ab"),
    ("one\rtwo\r\nthree", "one\ntwo\nthree"),
    ("a\u202eb\u2066c\u2069d", "abcd"),
    ("a\x1b", "a"),
    ("a\x1b[3", "a3"),
    ("a\x1b]0;never ends", "a0;never ends"),
]


def of(text: str) -> bytes:
    """All that is shown of *text*, once it has ended."""
    colours = AnsiFilter()
    return colours.feed(text.encode()) + colours.end()


def test_colours_pass_and_nothing_else_that_orders() -> None:
    for text, shown in CASES:
        assert of(text).decode() == shown + (RESET if "\x1b" in shown else "")
        assert strip_controls(text + "\0") == shown


def test_it_does_not_matter_where_the_pieces_are_cut() -> None:
    for (text, _), size in product(CASES, (1, 2, 3)):
        data = text.encode()
        colours = AnsiFilter()
        pieces = [colours.feed(data[at : at + size]) for at in range(0, len(data), size)]
        assert b"".join(pieces) + colours.end() == of(text)


def test_bytes_that_are_no_text_order_nothing() -> None:
    assert of("") == b""
    colours = AnsiFilter()
    assert colours.feed(b"a\x9b31m\xff\xc3") == "a\ufffd31m\ufffd".encode()
    assert colours.feed(b"\xa9") == "é".encode()


def test_a_sequence_without_end_is_not_waited_for_without_end() -> None:
    colours = AnsiFilter()
    shown = colours.feed(b"\x1b]0;" + b"x" * 10_000)
    assert shown.startswith(b"0;xxx")
    assert b"\x1b" not in shown
    assert colours.feed(b"more\n").endswith(b"more\n")
