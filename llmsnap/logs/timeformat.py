"""The time formats a log line may begin with; names are English whatever the locale."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_time(name: str, seconds: float, zone: tzinfo | None = None) -> str:
    """Return the instant *seconds* (Unix) in the format called *name*; "" for unknown names.

    *zone* is the local one unless given.
    """
    write = _FORMATS.get(name.strip().lower())
    if write is None:
        return ""
    return write(datetime.fromtimestamp(seconds).astimezone(zone))


def is_time_format(name: str) -> bool:
    """Tell whether *name* is one of the formats."""
    return name.strip().lower() in _FORMATS


def _day(t: datetime) -> str:
    return _DAYS[t.weekday()]


def _month(t: datetime) -> str:
    return _MONTHS[t.month - 1]


def _offset(t: datetime, colon: str = "") -> str:
    text = t.strftime("%z")
    return f"{text[:3]}{colon}{text[3:5]}"


def _rfc3339(t: datetime, fraction: str = "") -> str:
    offset = _offset(t, ":")
    zone = "Z" if offset == "+00:00" else offset
    return f"{t:%Y-%m-%dT%H:%M:%S}{fraction}{zone}"


def _rfc3339nano(t: datetime) -> str:
    fraction = f".{t.microsecond:06}".rstrip("0")
    return _rfc3339(t, "" if fraction == "." else fraction)


def _ansic(t: datetime) -> str:
    return f"{_day(t):.3} {_month(t)} {t.day:2} {t:%H:%M:%S %Y}"


def _stamp(t: datetime) -> str:
    return f"{_month(t)} {t.day:2} {t:%H:%M:%S}"


def _rfc1123(t: datetime) -> str:
    return f"{_day(t):.3}, {t.day:02} {_month(t)} {t:%Y %H:%M:%S}"


_FORMATS: dict[str, Callable[[datetime], str]] = {
    "ansic": _ansic,
    "unixdate": lambda t: f"{_ansic(t)[:-4]}{t:%Z %Y}",
    "rubydate": lambda t: (
        f"{_day(t):.3} {_month(t)} {t.day:02} {t:%H:%M:%S} {_offset(t)} {t.year:04}"
    ),
    "rfc822": lambda t: f"{t.day:02} {_month(t)} {t:%y %H:%M %Z}",
    "rfc822z": lambda t: f"{t.day:02} {_month(t)} {t:%y %H:%M} {_offset(t)}",
    "rfc850": lambda t: f"{_day(t)}, {t.day:02}-{_month(t)}-{t:%y %H:%M:%S %Z}",
    "rfc1123": lambda t: f"{_rfc1123(t)} {t:%Z}",
    "rfc1123z": lambda t: f"{_rfc1123(t)} {_offset(t)}",
    "rfc3339": _rfc3339,
    "rfc3339nano": _rfc3339nano,
    "kitchen": lambda t: f"{t.hour % 12 or 12}:{t:%M}{'AM' if t.hour < 12 else 'PM'}",
    "stamp": _stamp,
    "stampmilli": lambda t: f"{_stamp(t)}.{t.microsecond // 1000:03}",
    "stampmicro": lambda t: f"{_stamp(t)}.{t.microsecond:06}",
    "stampnano": lambda t: f"{_stamp(t)}.{t.microsecond:06}000",
}
