"""What an unquoted YAML scalar means, and how a value is written into text.

The rules are those of the decoder existing files were written for, not PyYAML's: ``yes`` is text,
``017`` and ``0o17`` are fifteen, ``1e3`` is a number, ``1:30`` is not.
"""

from __future__ import annotations

import re
from typing import TypeAlias


class Timestamp(str):
    """A date or time, as its RFC 3339 text: only untyped data may hold one."""

    __slots__ = ()


class WrittenFloat(float):
    """A float whose *text* in the file is a number in JSON as well: ``1e3`` need not be 1000.0."""

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
    """Return what the unquoted scalar *text* stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAY_BE_NUMBER:
        return text
    number = _number(text.replace("_", ""))
    if number is not None:
        return number
    return _timestamp(text) or text


def as_written(text: str) -> Value:
    """Return what the unquoted scalar *text* stands for; a float keeps its spelling if it can."""
    value, number = resolve(text), text.replace("_", "")
    if isinstance(value, float) and _JSON_NUMBER.fullmatch(number):
        return WrittenFloat(number)
    return value


def yes_or_no(text: str) -> bool | None:
    """Return the boolean that YAML 1.1's ``yes``, ``off``, ... mean where one is expected."""
    return _YES_NO.get(text)


def render(value: Value) -> str:
    """Return *value* as it is written into a text around it."""
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
        return None  # "T" needs a zone, a blank must not have one
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
    """Shortest digits that read back as *number*, plain from 0.0001 up to 999999."""
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
