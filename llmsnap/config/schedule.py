"""When models are kept warm: at times of day, and when there are no requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping as Values
from dataclasses import dataclass
from datetime import time
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from .keys import ConfigKey, Section, Sections
from .kinds import Number, Text, Texts, ValueReader
from .nodes import Node, Path, find_node

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_AT = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DAYS = re.compile(rf"({'|'.join(DAYS)})(?:-({'|'.join(DAYS)}))?")


class _Names(Protocol):
    """The names of models; see ``models.ModelNames``, which cannot be imported here."""

    def resolve(self, name: str) -> str | None:
        """Return the id of the model of that id or alias."""

    def all(self) -> Iterable[str]:
        """Return all ids and aliases."""


@dataclass(frozen=True, slots=True)
class IdleHook:
    """Models to load after so many seconds without any request."""

    after_s: float
    load: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """Models to load and unload at a time of some days, which are counted from Monday, 0.

    *tz* is the name of the time zone; empty: the machine's.
    """

    at: time
    days: frozenset[int]
    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    tz: str = ""


ON_IDLE = Section(
    ConfigKey(
        "after",
        Number(600.0, least=1),
        "Seconds without any request, of any model.",
        unit="seconds",
    ),
    ConfigKey(
        "load",
        Texts(),
        "Models to load then, one after another, by id or alias; once until the next request.",
        example=["embedding"],
    ),
)
SCHEDULE_ENTRY = Section(
    ConfigKey(
        "at",
        Text(strict=True),
        "Time of day, `HH:MM`.",
        required=True,
        example="08:00",
        schema={"type": "string", "pattern": r"^([01]?[0-9]|2[0-3]):[0-5][0-9]$|\$\{"},
    ),
    ConfigKey(
        "days",
        Text(),
        "Days of the week: `mon-fri`, `sat,sun`. Default: every day.",
        example="mon-fri",
    ),
    ConfigKey("load", Texts(), "Models to load, by id or alias.", example=["embedding"]),
    ConfigKey(
        "unload",
        Texts(),
        "Models to unload once they have no request, by id or alias.",
        example=["embedding"],
    ),
    ConfigKey(
        "tz",
        Text(),
        "Time zone, such as `Europe/Berlin`. Default: the machine's.",
        example="Europe/Berlin",
    ),
)
SCHEDULE = Sections(SCHEDULE_ENTRY, "scheduleEntry")


def read_on_idle(
    values: Values[str, Any], names: _Names, root: Node, reader: ValueReader
) -> IdleHook | None:
    """Return what is loaded when there are no requests; None: nothing."""
    path: Path = ("hooks", "on_idle")
    given = values["hooks"]["on_idle"]
    load = _models(given["load"], names, root, (*path, "load"), reader)
    return IdleHook(given["after"], load) if load else None


def read_schedule(
    entries: Values[str, Any], names: _Names, root: Node, reader: ValueReader
) -> tuple[ScheduleEntry, ...]:
    """Return the entries of ``schedule`` in the order of the file, without those in error."""
    found = []
    for index, (values, _) in enumerate(entries["schedule"]):
        path: Path = ("schedule", index)
        at = _time(values["at"], root, path, reader)
        days = _days(values["days"], root, path, reader)
        _check_zone(values["tz"], root, path, reader)
        load, unload = (
            _models(values[key], names, root, (*path, key), reader) for key in ("load", "unload")
        )
        if not (values["load"] or values["unload"]):
            reader.report.advise(path, "does nothing", "add load or unload", find_node(root, path))
        found.append(ScheduleEntry(at, days, load, unload, values["tz"]))
    return tuple(found)


def _time(text: str, root: Node, path: Path, reader: ValueReader) -> time:
    match = _AT.fullmatch(text.strip())
    if match is None:
        here = (*path, "at")
        if not reader.report.already_reported(here):
            at = find_node(root, here) or find_node(root, path)
            what = f'must be a time such as "08:00" (found {text!r})'
            reader.report.error(here, what, "write hours and minutes, in quotes", at)
        return time()
    return time(int(match[1]), int(match[2]))


def _days(text: str, root: Node, path: Path, reader: ValueReader) -> frozenset[int]:
    if not text.strip():
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().split(","):
        match = _DAYS.fullmatch(part.strip())
        if match is None:
            here = (*path, "days")
            what = f"{part.strip()!r} is no day, nor a range of days"
            fix = f"write {', '.join(DAYS)}, or a range such as mon-fri"
            reader.report.error(here, what, fix, find_node(root, here))
            continue
        first = DAYS.index(match[1])
        last = DAYS.index(match[2] or match[1])
        found.update(day % 7 for day in range(first, last + 1 + 7 * (last < first)))
    return frozenset(found)


def _check_zone(name: str, root: Node, path: Path, reader: ValueReader) -> None:
    try:
        ZoneInfo(name or "UTC")
    except (OSError, ValueError, KeyError):  # a ZoneInfoNotFoundError is a KeyError
        here = (*path, "tz")
        fix = "write a name such as Europe/Berlin; this machine may lack tzdata"
        reader.report.error(here, f"{name!r} is no time zone", fix, find_node(root, here))


def _models(
    given: tuple[str, ...], names: _Names, root: Node, path: Path, reader: ValueReader
) -> tuple[str, ...]:
    """Return the ids of the models that are named, each once; report what is no model."""
    found: dict[str, None] = {}
    for name in filter(None, map(str.strip, given)):
        model_id = names.resolve(name)
        if model_id is None:
            fix = reader.report.nearest(name, names.all()) or "name a model id or an alias"
            reader.report.advise(path, f'"{name}" is no model', fix, find_node(root, path))
        else:
            found[model_id] = None
    return tuple(found)
