"""Parsing of unquoted YAML scalars, command lines and URLs.

The rules for scalars follow the decoder that existing files were written for, not PyYAML:
``yes`` is text, ``017`` and ``0o17`` are fifteen, ``1e3`` is a number, ``1:30`` is not.
"""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from llmsnap.errors import CommandProblem


class Timestamp(str):
    """A date or time as RFC 3339 text; allowed in untyped data only."""

    __slots__ = ()


class WrittenFloat(float):
    """A float whose *text* in the file is also valid JSON, so that ``1e3`` stays ``1e3``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Value: TypeAlias = bool | int | float | str | Timestamp | None

_WORDS: dict[str, Value] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **{f"{sign}{word}": float("inf") for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}
_YES_NO = {
    **{spelling: True for word in ("y", "yes", "on") for spelling in (word, word.title())},
    **{spelling: False for word in ("n", "no", "off") for spelling in (word, word.title())},
    "YES": True,
    "ON": True,
    "NO": False,
    "OFF": False,
}
_MAY_BE_NUMBER = frozenset("0123456789+-.")
_PREFIXED = re.compile(r"([-+]?)0(?:[bB]([01]+)|[oO]?([0-7]+)|[xX]([0-9a-fA-F]+))")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,19})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:([Tt ])(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?(Z|[-+]\d{2}:\d{2})?)?"
)
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def resolve(text: str) -> Value:
    """Return the value of the unquoted scalar *text*."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAY_BE_NUMBER:
        return text
    number = _number(text.replace("_", ""))
    if number is not None:
        return number
    return _timestamp(text) or text


def as_written(text: str) -> Value:
    """Return the value of the unquoted scalar *text*; a float keeps its spelling if possible."""
    value, number = resolve(text), text.replace("_", "")
    if isinstance(value, float) and _JSON_NUMBER.fullmatch(number):
        return WrittenFloat(number)
    return value


def yes_or_no(text: str) -> bool | None:
    """Return the boolean value of YAML 1.1's ``yes``, ``off``, ...; None for other words."""
    return _YES_NO.get(text)


def render(value: Value) -> str:
    """Return *value* as text, to be inserted into other text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _render_float(value) if isinstance(value, float) else str(value)


def _number(text: str) -> int | float | None:
    if _DECIMAL.fullmatch(text):
        return _in_64_bits(int(text), text)
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        sign, binary, octal, hexadecimal = prefixed.groups()
        digits, base = (binary, 2) if binary else (octal, 8) if octal else (hexadecimal, 16)
        if len(digits) <= 64:
            return _in_64_bits(int(sign + digits, base), text)
    return _float(text)


def _in_64_bits(number: int, text: str) -> int | float | None:
    return number if _SMALLEST <= number <= _LARGEST else _float(text)


def _float(text: str) -> float | None:
    if not _FLOAT.fullmatch(text):
        return None
    number = float(text)
    return None if number in (float("inf"), float("-inf")) else number


def _timestamp(text: str) -> Timestamp | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, separator, hour, minute, second, fraction, zone = match.groups()
    if (separator == " ") != (zone is None) and separator:
        return None  # with "T" a zone is required, with a blank it is not allowed
    if not _is_calendar_time(
        *(int(part or 0) for part in (year, month, day, hour, minute, second))
    ):
        return None
    fraction = (fraction or "").rstrip("0")
    return Timestamp(
        f"{year}-{int(month):02}-{int(day):02}T{int(hour or 0):02}:{int(minute or 0):02}"
        f":{int(second or 0):02}{'.' if fraction else ''}{fraction}{_zone(zone)}"
    )


def _zone(zone: str | None) -> str:
    return "Z" if zone in (None, "+00:00", "-00:00") else str(zone)


def _is_calendar_time(*parts: int) -> bool:
    from datetime import datetime  # noqa: PLC0415 - hardly any file has a date in it

    try:
        datetime(*parts)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def _render_float(number: float) -> str:
    """Return the shortest digits that parse to *number*; no exponent from 0.0001 to 999999."""
    if number != number:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    digits, exponent = _shortest_digits(abs(number))
    sign = "-" if number < 0 else ""
    if not -4 <= exponent <= 5:
        rest = f".{digits[1:]}" if digits[1:] else ""
        return f"{sign}{digits[0]}{rest}e{exponent:+03}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, rest = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def _shortest_digits(number: float) -> tuple[str, int]:
    """Return the significant digits of *number* and the exponent of the first of them."""
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, rest = mantissa.partition(".")
    digits = (whole + rest).lstrip("0")
    shift = len(whole) - 1 - (len(whole + rest) - len(digits))
    return digits.rstrip("0") or "0", shift + int(exponent or 0) if digits else 0


# --- command lines --------------------------------------------------------------------------------

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


def split_command(text: str) -> list[str]:
    """Return the words of a command line, without any expansion.

    Raises: CommandProblem if there are none.
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
    """Replace each line continuation by a blank.

    An even number of backslashes at the end of a line are escaped ones, not a continuation.
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


# --- URLs -----------------------------------------------------------------------------------------

_USERINFO = re.compile(r"//[^/?#]*@")


def url_fault(url: str) -> str:
    """Return why *url* is not a valid base URL, or an empty text."""
    if any(character.isspace() or character < " " for character in url):
        return "contains a blank or a control character"
    parts = _split_url(url)
    if parts is None:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname:
        return "names no host"
    return "" if _has_usable_port(parts) else "has a port that is not a number from 1 to 65535"


def without_password(url: str) -> str:
    """Return *url* without its password, for display."""
    return _USERINFO.sub("//(hidden)@", url)


def _split_url(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
