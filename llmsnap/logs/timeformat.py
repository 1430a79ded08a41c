"""The time formats a log line may begin with; names are English whatever the locale."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_time(name: str, seconds: float, zone: tzinfo | None = None) -> str:
    """Return the instant *seconds* (Unix) in the format called *name*; "" for unknown names.

    *zone* is the local one unless given.
    """
    name = name.strip().lower()
    if name in _FINE:
        second = int(seconds // 1)
        micros = min(999_999, round((seconds - second) * 1e6))
        return _FINE[name](_at(second, zone).replace(microsecond=micros))
    return _coarse(name, int(seconds // 1), zone)


def is_time_format(name: str) -> bool:
    """Tell whether *name* is one of the formats."""
    return name.strip().lower() in _FINE | _COARSE


@lru_cache(maxsize=2)
def _at(second: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(second, UTC).astimezone(zone)


@lru_cache(maxsize=4)
def _coarse(name: str, second: int, zone: tzinfo | None) -> str:
    """Return a format without fractions; many lines fall into one second."""
    write = _COARSE.get(name)
    return write(_at(second, zone)) if write is not None else ""


def _day(t: datetime) -> str:
    return _DAYS[t.weekday()]


def _month(t: datetime) -> str:
    return _MONTHS[t.month - 1]


def _rfc3339(t: datetime) -> str:
    text = t.isoformat(timespec="seconds")
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _rfc3339nano(t: datetime) -> str:
    fraction = f".{t.microsecond:06}".rstrip("0")
    text = _rfc3339(t)
    return text if fraction == "." else f"{text[:19]}{fraction}{text[19:]}"


def _ansic(t: datetime) -> str:
    return f"{_day(t):.3} {_month(t)} {t.day:2} {t:%H:%M:%S %Y}"


def _stamp(t: datetime) -> str:
    return f"{_month(t)} {t.day:2} {t.hour:02}:{t.minute:02}:{t.second:02}"


def _rfc1123(t: datetime) -> str:
    return f"{_day(t):.3}, {t.day:02} {_month(t)} {t:%Y %H:%M:%S}"


Write = Callable[[datetime], str]

_COARSE: dict[str, Write] = {
    "ansic": _ansic,
    "unixdate": lambda t: f"{_ansic(t)[:-4]}{t:%Z %Y}",
    "rubydate": lambda t: f"{_day(t):.3} {_month(t)} {t.day:02} {t:%H:%M:%S} {t:%z %Y}",
    "rfc822": lambda t: f"{t.day:02} {_month(t)} {t:%y %H:%M %Z}",
    "rfc822z": lambda t: f"{t.day:02} {_month(t)} {t:%y %H:%M} {t:%z}",
    "rfc850": lambda t: f"{_day(t)}, {t.day:02}-{_month(t)}-{t:%y %H:%M:%S %Z}",
    "rfc1123": lambda t: f"{_rfc1123(t)} {t:%Z}",
    "rfc1123z": lambda t: f"{_rfc1123(t)} {t:%z}",
    "rfc3339": _rfc3339,
    "kitchen": lambda t: f"{t.hour % 12 or 12}:{t:%M}{'AM' if t.hour < 12 else 'PM'}",
    "stamp": _stamp,
}

_FINE: dict[str, Write] = {
    "rfc3339nano": _rfc3339nano,
    "stampmilli": lambda t: f"{_stamp(t)}.{t.microsecond // 1000:03}",
    "stampmicro": lambda t: f"{_stamp(t)}.{t.microsecond:06}",
    "stampnano": lambda t: f"{_stamp(t)}.{t.microsecond:06}000",
}
