"""Command lines as configurations write them: comments, continued lines, quotes; no shell.

The rules are those existing configurations were written for. They resemble a POSIX shell's but
are not ``shlex``: an unterminated quote ends with the text, CR is an ordinary character,
backslash-LF disappears, and ``$`` and backtick can be escaped within double quotes.
"""

from __future__ import annotations

import re

from llmsnap.errors import CommandProblem

_PIECE = re.compile(
    r"""
      (?P<blank> [ \t\n]++ )
    | ' (?P<single> [^']*+ ) '?
    | " (?P<double> (?: [^"\\]++ | \\. )*+ ) \\? "?
    | \\ (?P<escaped> .? )
    | (?P<plain> [^ \t\n'"\\]++ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED_IN_DOUBLE_QUOTES = re.compile(r'\\([$`"\\\n])')
_BACKSLASHES_AT_END = re.compile(r"\\*\Z")


def strip_comments(text: str) -> str:
    """Return *text* without the lines whose first visible character is ``#``."""
    if "#" not in text:
        return text
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def split(text: str) -> list[str]:
    """Return the words of a command line; nothing in them is expanded.

    Raises: CommandProblem when there is not one word.
    """
    words: list[str] = []
    word: list[str] | None = None
    for piece in _PIECE.finditer(_join_lines(strip_comments(text))):
        if piece.lastgroup != "blank":
            word = word or []
            word.append(_unquote(piece))
        elif word is not None:
            words.append("".join(word))
            word = None
    if word is not None:
        words.append("".join(word))
    if not words:
        raise CommandProblem("empty command: write the program to start and its arguments")
    return words


def _unquote(piece: re.Match[str]) -> str:
    kind = piece.lastgroup
    if kind == "double":
        return _ESCAPED_IN_DOUBLE_QUOTES.sub(_escaped_character, piece["double"])
    if kind == "escaped":
        return piece["escaped"].replace("\n", "")
    return piece["single"] if kind == "single" else piece["plain"]


def _escaped_character(escape: re.Match[str]) -> str:
    return "" if escape[1] == "\n" else escape[1]


def _join_lines(text: str) -> str:
    """Turn each backslash that continues a line into a blank.

    An even run of backslashes at the end of a line is escaped backslashes, not a continuation.
    """
    if "\\" not in text:
        return text
    return "\n".join(_continued(line) for line in text.split("\n"))


def _continued(line: str) -> str:
    trimmed = line.strip()
    run = _BACKSLASHES_AT_END.search(trimmed)
    if run is None or len(run[0]) % 2 == 0:
        return line
    return trimmed[:-1] + " "
