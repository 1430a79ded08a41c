"""Writes Python's log records to the proxy log, in the documented line format.

Also defines the timestamp formats; names are English whatever the locale.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, Protocol

from gevent import get_hub
from gevent.monkey import get_original

from llmsnap.deferred import DeferredQueue
from llmsnap.installation import as_python_has_it
from llmsnap.logs.stream import LogStream

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_time(name: str, seconds: float, zone: tzinfo | None = None) -> str:
    """Return the Unix time *seconds* in the format *name*; "" for unknown names.

    *zone* defaults to the local time zone.
    """
    name = name.strip().lower()
    if name in _FINE:
        second = int(seconds // 1)
        micros = min(999_999, round((seconds - second) * 1e6))
        return _FINE[name](_at(second, zone).replace(microsecond=micros))
    return _coarse(name, int(seconds // 1), zone)


@lru_cache(maxsize=2)
def _at(second: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(second, UTC).astimezone(zone)


@lru_cache(maxsize=4)
def _coarse(name: str, second: int, zone: tzinfo | None) -> str:
    """Return a cached format without fractions, since many lines share one second."""
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


LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

# The native thread id, even if gevent has patched the process.
_thread_id = get_original("_thread", "get_ident")


def parse_level(text: str) -> int:
    """Return the logging level of a configuration's word; unknown words mean info."""
    return LEVELS.get(text.strip().lower(), logging.INFO)


IDS = ("request_id", "swap_id")


class Entry(Protocol):
    """A log entry about a request: ``str()`` is the text, ``fields()`` the JSON members."""

    def __str__(self) -> str: ...

    def fields(self) -> dict[str, Any]:
        """Return the entry as members of a JSON object."""


@dataclass(frozen=True, slots=True)
class LogStyle:
    """Options of llmsnap's own log from the command line, which override the configuration."""

    as_json: bool = False
    debug: bool = False
    """Log everything."""


TEXT = LogStyle()


@as_python_has_it
class LogHandler(logging.Handler):
    """Writes ``[time ][LEVEL] message`` lines to a stream. Thread-safe.

    A record's ``request_id`` and ``swap_id`` (given by ``extra``) follow the message. Lines of a
    message after the first are indented, and unprintable characters are escaped (control and
    bidirectional characters; in an entry about a request also line breaks), so that no client can
    forge a log line. In JSON format each line is an object instead. *swaps* maps a model to its
    active swap, whose id is added to messages about that model (``<model> ...``).
    """

    def __init__(
        self,
        stream: LogStream,
        *,
        level: str = "info",
        time_format: str = "",
        zone: tzinfo | None = None,
        style: LogStyle = TEXT,
        swaps: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(_level(level, style))
        self.stream = stream
        self.style = style
        self._swaps = swaps if swaps is not None else {}
        self.time_format = time_format
        self._zone = zone
        self.deferred: DeferredQueue | None = None
        """The queue that delays entries about requests; None: they are written at once."""
        self.write_entries: Callable[[bytes], None] = stream.write
        """Writes entries about requests."""
        self._entries: list[tuple[float, int, Entry, str, int | None]] = []
        self._home = _thread_id()
        self._loop = get_hub().loop

    def configure(self, *, level: str, time_format: str) -> None:
        """Apply new settings."""
        self.setLevel(_level(level, self.style))
        self.time_format = time_format

    def handle(self, record: logging.LogRecord) -> bool:
        """Write *record* if it passes the filters. Takes no lock, since ``emit`` needs none."""
        passed: Any = self.filter(record)  # since Python 3.12 a filter may return another record
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never blocks, switches or raises."""
        try:
            line = self.line(record).encode("utf-8", "replace")
        except Exception:  # noqa: BLE001 - logging's own convention for a record that fails
            self.handleError(record)
            return
        if _thread_id() == self._home:
            if self.deferred is not None:
                self.deferred.flush()  # delayed lines are older
            self.stream.write(line)
        else:
            self._loop.run_callback_threadsafe(self.stream.write, line)

    def line(self, record: logging.LogRecord) -> str:
        """Return *record* as a line."""
        ids = self._ids(record)
        if self.style.as_json:
            return _dump(_document(record, ids))
        return self._text(record.levelno, record.created, _message(record, ids))

    def takes(self, level: int) -> bool:
        """Whether entries of *level* are written."""
        return self.level <= level

    def entry(self, level: int, message: Entry, request_id: str, swap_id: int | None) -> None:
        """Write an entry about one request, delayed if possible. Never blocks or switches.

        For entries that every request has, because a ``LogRecord`` costs more than the line itself.
        To be called only in the thread of the event loop.
        """
        self._entries.append((time.time(), level, message, request_id, swap_id))
        if self.deferred is None:
            self._write_entries()
        elif len(self._entries) == 1:
            self.deferred.add(self._write_entries)

    def _write_entries(self) -> None:
        entries, self._entries = self._entries, []
        lines, failure = [], None
        for entry in entries:
            try:
                lines.append(self._entry_line(*entry))
            except Exception as error:  # noqa: BLE001 - told below; the others are not at fault
                failure = error
        self.write_entries("".join(lines).encode("utf-8", "replace"))
        if failure is not None:
            raise failure

    def _entry_line(
        self, at: float, level: int, message: Entry, request_id: str, swap_id: int | None
    ) -> str:
        if self.style.as_json:
            document = _head(at, level)
            document |= {"message": "request", **message.fields(), "request_id": request_id}
            if swap_id is not None:
                document["swap_id"] = swap_id
            return _dump(document)
        text = f"{_printable(str(message))} request_id={request_id}"
        if swap_id is not None:
            text += f" swap_id={swap_id}"
        return self._text(level, at, text)

    def _text(self, level: int, created: float, text: str) -> str:
        when = f"{format_time(self.time_format, created, self._zone)} " if self.time_format else ""
        return f"{when}[{_level_name(level)}] {_one_entry(text)}\n"

    def _ids(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the ids of the request and the swap that *record* belongs to."""
        found = {name: value for name in IDS if (value := getattr(record, name, None)) is not None}
        if self._swaps and "swap_id" not in found and _is_about_a_model(record):
            swap_id = self._swaps.get(record.args[0])  # type: ignore[index,arg-type]
            return found if swap_id is None else {**found, "swap_id": swap_id}
        return found


def _level(text: str, style: LogStyle) -> int:
    return logging.DEBUG if style.debug else parse_level(text)


def _is_about_a_model(record: logging.LogRecord) -> bool:
    return str(record.msg)[:5] == "<%s> " if type(record.msg) is str else False


def _level_name(level: int) -> str:
    if level >= logging.ERROR:
        return "ERROR"
    if level >= logging.WARNING:
        return "WARN"
    return "INFO" if level >= logging.INFO else "DEBUG"


def _message(record: logging.LogRecord, ids: dict[str, Any]) -> str:
    text = record.getMessage()
    for name, value in ids.items():
        text += f" {name}={_printable(str(value))}"
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text


def _document(record: logging.LogRecord, ids: dict[str, Any]) -> dict[str, Any]:
    document = _head(record.created, record.levelno) | {"message": record.getMessage()} | ids
    if record.exc_info:
        document["exception"] = logging.Formatter().formatException(record.exc_info)
    return document


def _head(created: float, level: int) -> dict[str, Any]:
    when = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return {"time": when.removesuffix("+00:00") + "Z", "level": _level_name(level).lower()}


def _dump(document: dict[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=False, default=str)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text + "\n"


def _one_entry(text: str) -> str:
    if text.isprintable():
        return text
    indented = text.rstrip("\n").replace("\n", "\n    ")
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in indented)


def _printable(text: str) -> str:
    """Return *text* on one line, with invisible characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
